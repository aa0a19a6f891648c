"""The gateway's end: a host that is somewhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from rivet_ray.clock import Clock, SystemClock
from rivet_ray.link import addresses
from rivet_ray.link.connection import Connection, State, log
from rivet_ray.link.faults import LinkError
from rivet_ray.link.frames import Beat, Unreadable, decode_to_gateway
from rivet_ray.link.handshake import Handshake
from rivet_ray.link.secret import checked
from rivet_ray.link.settings import LinkSettings
from rivet_ray.link.statistics import LinkStatistics
from rivet_ray.link.substitutes import (
    Instead,
    broke_gateway,
    unread_by_gateway,
    unsent_to_host,
)
from rivet_ray.protocol.caller import Message
from rivet_ray.protocol.port import HostSession, ToGateway, ToHost
from rivet_ray.repeated_lines import REPEATED

OnLost = Callable[[Exception | None], None]


class LinkClient:
    """One connection to one host, and one session on it; a `port.Hosting`.

    Connects once: after a loss the gateway makes another one. Used on the event
    loop that connected it, and only there.
    """

    def __init__(
        self,
        address: str,
        secret: bytes,
        *,
        on_lost: OnLost | None = None,
        clock: Clock | None = None,
        settings: LinkSettings | None = None,
    ) -> None:
        """`on_lost` is called once if the connection ends after `connect` and
        before it is closed from this side: with the reason, or with None when
        the host closed it. Nothing is received after. What was under way has no
        answer: its outcome is unknown.

        Raises LinkError for an address that is none, InvalidSecret for a secret
        that is too short.
        """
        self.address = address
        self.on_lost = on_lost
        self.statistics = LinkStatistics()
        self._host, self._port = addresses.split(address)
        self._secret = checked(secret)
        self._clock: Clock = clock or SystemClock()
        self._settings = settings or LinkSettings()
        self._end = _ClientEnd(self._told)
        self._connection: Connection[ToGateway] | None = None
        self._connected = False
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether what is sent now has a way to go."""
        return self._connection is not None and self._connection.state is State.OPEN

    async def connect(self) -> None:
        """Reach the host, and prove to each other who we are.

        Raises LinkError: HandshakeFailed with VersionMismatch and WrongSecret
        among it, or another whose cause is the OSError. Waits no longer than
        the two timeouts of the settings. After an error or a cancellation
        nothing is left open.
        """
        if self._connection is not None or self._closed:
            raise RuntimeError("a LinkClient connects once")
        loop = asyncio.get_running_loop()
        hello = Handshake("gateway", self._secret)
        connection = self._connection = self._end.connection = Connection(
            self._end, hello, self._clock, self._settings, self.statistics
        )
        limit = self._settings.connect_timeout
        try:
            async with asyncio.timeout(None) as scope:
                timer = self._clock.call_later(limit, lambda: scope.reschedule(loop.time()))
                try:
                    await loop.create_connection(lambda: connection, self._host, self._port)
                finally:
                    timer.cancel()
        except TimeoutError as fault:
            text = f"The host at {self.address} did not answer within {limit:g} s."
            raise LinkError(text) from fault
        except OSError as fault:
            raise LinkError(f"The host at {self.address} cannot be reached: {fault}") from fault
        try:
            await self._end.ready.wait()
        except asyncio.CancelledError:
            connection.close()
            raise
        if self._closed:
            connection.close()
            raise LinkError("The link was closed while it was being connected.")
        if connection.state is not State.OPEN:
            raise self._end.reason or LinkError(f"The host at {self.address} closed the link.")
        self._connected = True

    def open(self, receive: Callable[[ToGateway], None]) -> HostSession:
        """Start the session, once, after `connect`. See `rivet_ray.protocol.port.Hosting`."""
        if self._connection is None or not self._connected:
            raise RuntimeError("connect the LinkClient before a session is opened on it")
        if self._end.receive is not None:
            raise RuntimeError("a LinkClient has one session; connect another for another")
        self._end.receive = receive
        # Its `send` is an attribute, which a protocol with a method does not allow for.
        return cast("HostSession", LinkSession(self, self._connection))

    async def close(self) -> None:
        """Write what was sent, end the session and the connection; harmless twice.

        Returns when the connection is gone, after `close_timeout` at the latest.
        """
        self.close_soon()
        if self._connected and self._connection is not None:
            await self._connection.wait_ended()

    def close_soon(self) -> None:
        """`close` without the wait. Nothing is received after, nor is `on_lost` called."""
        self._closed = True
        if self._connected and self._connection is not None:
            self._connection.close()

    def _told(self, reason: LinkError | None) -> None:
        if self._connected and not self._closed and self.on_lost is not None:
            self.on_lost(reason)


class LinkSession:
    """See `rivet_ray.protocol.port.HostSession`. Its `send` belongs to the connection."""

    __slots__ = ("_link", "send")

    def __init__(self, link: LinkClient, connection: Connection[ToGateway]) -> None:
        self._link = link
        self.send: Callable[[ToHost], None] = connection.send

    def close(self) -> None:
        """End the session, and the connection with it, once what was sent is written."""
        self._link.close_soon()


class _ClientEnd:
    """See `rivet_ray.link.ends.End`."""

    connection: Connection[ToGateway]

    def __init__(self, told: Callable[[LinkError | None], None]) -> None:
        self.ready = asyncio.Event()
        """Opened, or ended instead."""
        self.reason: LinkError | None = None
        self.receive: Callable[[ToGateway], None] | None = None
        self._told = told

    def decode(self, payload: bytes) -> Sequence[ToGateway | Beat | Unreadable]:
        return decode_to_gateway(payload)

    def opened(self) -> None:
        self.ready.set()

    def received(self, message: ToGateway) -> None:
        if self.receive is not None:
            self.receive(message)

    def broke(self, message: ToGateway) -> None:
        self._tell(broke_gateway(message))

    def unreadable(self, item: Unreadable) -> bool:
        instead = unread_by_gateway(item)
        if instead is not None:
            self._tell(instead)
        return instead is not None

    def unsendable(self, message: Message, fault: Exception) -> Sequence[Message]:
        instead = unsent_to_host(message, fault)
        for told in instead.own:
            self.received(told)
        return instead.peer

    def ended(self, reason: LinkError | None) -> None:
        self.reason = reason
        self.ready.set()
        self._told(reason)

    def _tell(self, instead: Instead[ToGateway]) -> None:
        for message in instead.peer:
            self.connection.send(message)
        for told in instead.own:
            try:
                self.received(told)
            except Exception:
                log.exception("%s broke its receiver.", type(told).__name__, extra=REPEATED)
