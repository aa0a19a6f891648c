"""The host's end: it listens, and opens a session for each gateway that proves itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from rivet_ray.clock import Clock, SystemClock
from rivet_ray.errors import RivetError
from rivet_ray.link import addresses
from rivet_ray.link.connection import Connection, State, log
from rivet_ray.link.faults import LinkError, LinkOverflow
from rivet_ray.link.frames import Beat, Unreadable, decode_to_host
from rivet_ray.link.handshake import Handshake
from rivet_ray.link.secret import checked
from rivet_ray.link.settings import LinkSettings
from rivet_ray.link.statistics import LinkStatistics
from rivet_ray.link.substitutes import (
    broke_host,
    unhanded,
    unread_by_host,
    unsent_to_gateway,
)
from rivet_ray.protocol.caller import Message
from rivet_ray.protocol.port import Deliver, Handed, HostSession, ToGateway, ToHost
from rivet_ray.repeated_lines import REPEATED


class LinkedSession(HostSession, Protocol):
    """A session with a gateway that is beyond a link."""

    on_lost: Callable[[], None] | None
    """Called if the session gives the gateway up; ends the link."""

    def missed(self, event: Deliver, /) -> None:
        """An event that no link carries: those whom it is for are told (promise C5)."""
        ...

    def unhanded(self, message: Handed, error: RivetError, /) -> None:
        """What a client said elsewhere, and no link carries: it is told why."""
        ...


class Linkable(Protocol):
    """A host whose sessions may be beyond a link; see `rivet_ray.protocol.port.Hosting`."""

    def open(self, receive: Callable[[ToGateway], None]) -> LinkedSession: ...


class LinkServer:
    """Makes a host reachable. Each connection has a session of its own.

    A session is opened when its gateway is proven and closed when the
    connection ends, for whatever reason. The host outlives the server.
    """

    def __init__(
        self,
        host: Linkable,
        secret: bytes,
        *,
        clock: Clock | None = None,
        settings: LinkSettings | None = None,
    ) -> None:
        """Raises InvalidSecret for a secret that is too short."""
        self.statistics = LinkStatistics()
        self._host = host
        self._secret = checked(secret)
        self._clock: Clock = clock or SystemClock()
        self._settings = settings or LinkSettings()
        self._listener: asyncio.Server | None = None
        self._address = ""
        self._connections: set[Connection[ToHost]] = set()

    @property
    def address(self) -> str:
        """`host:port`, as gateways should use it; empty before `start`."""
        return self._address

    @property
    def links(self) -> int:
        """How many gateways are connected and proven."""
        return sum(connection.state is State.OPEN for connection in self._connections)

    async def start(
        self,
        address: str = "127.0.0.1",
        port: int | range = 0,
        *,
        advertise: str | None = None,
    ) -> None:
        """Listen on `address`, on `port` or on some free port of the range; 0 is any.

        `advertise` is the name or number under which gateways reach `address`,
        where that is another. Raises LinkError when no port can be had.
        """
        if self._listener is not None:
            raise RuntimeError("this LinkServer has been started")
        # In any order, so that many hosts of one node do not all try the same ones first.
        ports = random.sample(port, len(port)) if isinstance(port, range) else [port]
        loop = asyncio.get_running_loop()
        fault: OSError | None = None
        for number in ports:
            try:
                self._listener = await loop.create_server(self._accept, address, number)
                break
            except OSError as error:
                fault = error
        if self._listener is None:
            raise LinkError(f"No port of {port} is free on {address}: {fault}") from fault
        bound = self._listener.sockets[0].getsockname()[1]
        self._address = addresses.join(advertise or address, bound)

    async def close(self) -> None:
        """Accept nobody any more, write what was given, end every session. Harmless twice.

        Returns when all connections are gone, after `close_timeout` at the latest.
        To let calls finish, close the host first.
        """
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.close()
        connections = tuple(self._connections)
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.wait_ended()
        await listener.wait_closed()

    def _accept(self) -> asyncio.Protocol:
        unproven = sum(item.state is State.HANDSHAKE for item in self._connections)
        if unproven >= self._settings.handshakes or self._listener is None:
            self.statistics.drops["link_unproven"] += 1
            return _Refusal()
        end = _ServerEnd(self._host, self._connections)
        end.connection = Connection(
            end,
            Handshake("host", self._secret),
            self._clock,
            self._settings,
            self.statistics,
        )
        self._connections.add(end.connection)
        return end.connection


class _Refusal(asyncio.Protocol):
    """For one connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        log.warning("A connection is refused: too many have not proven themselves.", extra=REPEATED)
        cast("asyncio.Transport", transport).abort()


class _ServerEnd:
    """See `rivet_ray.link.ends.End`."""

    connection: Connection[ToHost]

    def __init__(self, host: Linkable, connections: set[Connection[ToHost]]) -> None:
        self._host = host
        self._connections = connections
        self._session: LinkedSession | None = None

    def decode(self, payload: bytes) -> Sequence[ToHost | Beat | Unreadable]:
        return decode_to_host(payload)

    def opened(self) -> None:
        self._session = self._host.open(self.connection.send)
        self._session.on_lost = self._given_up

    def _given_up(self) -> None:
        self.connection.drop(LinkOverflow("The gateway takes nothing of what waits for it."))

    def received(self, message: ToHost) -> None:
        if self._session is not None:
            self._session.send(message)

    def broke(self, message: ToHost) -> None:
        answer = broke_host(message)
        if answer is not None:
            self.connection.send(answer)

    def unreadable(self, item: Unreadable) -> bool:
        instead = unread_by_host(item)
        if instead is None:
            return False
        for message in instead.peer:
            self.connection.send(message)
        for told in instead.own:
            self.received(told)
        return True

    def unsendable(self, message: Message, fault: Exception) -> Sequence[Message]:
        session = self._session
        if session is None:
            return ()
        if isinstance(message, Deliver):
            session.missed(message)
            return ()
        if isinstance(message, Handed):
            session.unhanded(message, unhanded(fault))
            return ()
        instead = unsent_to_gateway(message, fault)
        if instead is None:
            text = f"{type(message).__name__} cannot be sent, nor left out: {fault}"
            self.connection.drop(LinkOverflow(text))
            return ()
        for told in instead.own:
            session.send(told)
        return instead.peer

    def ended(self, reason: LinkError | None) -> None:
        self._connections.discard(self.connection)
        session, self._session = self._session, None
        if session is not None:
            session.close()
