"""Calls to actors on many hosts: a session with each, opened with its first use."""

from __future__ import annotations

from rivet_ray.clock import Clock
from rivet_ray.link import LinkClient
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import Hosting, Said
from rivet_ray.protocol.raw import RawRequest
from rivet_ray.remote.placement import Placement
from rivet_ray.runtime import FollowingClient, Sink
from rivet_ray.runtime.following import OnLost
from rivet_ray.runtime.ports import Answer
from rivet_ray.runtime.tunnel import Tunnel
from rivet_ray.runtime.unanswered import Unanswered


class Routes:
    """See `rivet_ray.runtime.Calls`."""

    def __init__(
        self, placement: Placement, secret: bytes, clock: Clock, unanswered: Unanswered
    ) -> None:
        self._placement = placement
        self._secret = secret
        self._clock = clock
        self._unanswered = unanswered
        self._clients: dict[str, FollowingClient] = {}
        self._connections: dict[str, FollowingClient] = {}

    def _client(self, actor: str) -> FollowingClient:
        host = self._placement.host_of(actor)
        client = self._clients.get(host)
        if client is None:

            async def connect(lost: OnLost) -> Hosting:
                address = await self._placement.address_of(host)
                link = LinkClient(address, self._secret, on_lost=lost, clock=self._clock)
                await link.connect()
                return link

            client = self._clients[host] = FollowingClient(
                connect, clock=self._clock, unanswered=self._unanswered
            )
        return client

    def start(
        self,
        actor: str,
        action: str,
        arguments: bytes,
        answer: Answer,
        *,
        connection: str | None = None,
        caller: Caller | None = None,
        key: str | None = None,
        chain: list[str] | None = None,
        timeout: float | None = None,
    ) -> int:
        return self._client(actor).start(
            actor,
            action,
            arguments,
            answer,
            connection=connection,
            caller=caller,
            key=key,
            chain=chain,
            timeout=timeout,
        )

    async def call(
        self,
        actor: str,
        action: str,
        arguments: bytes,
        *,
        caller: Caller | None = None,
        key: str | None = None,
        chain: list[str] | None = None,
        timeout: float | None = None,
    ) -> bytes | None:
        return await self._client(actor).call(
            actor, action, arguments, caller=caller, key=key, chain=chain, timeout=timeout
        )

    async def attach(
        self,
        actor: str,
        connection: str,
        token: str,
        caller: Caller,
        sink: Sink,
        *,
        chain: list[str] | None = None,
    ) -> None:
        client = self._connections[connection] = self._client(actor)
        try:
            await client.attach(actor, connection, token, caller, sink, chain=chain)
        finally:
            self._forget_unheld(connection, client)

    async def claim(
        self, actor: str, connection: str, token: str, caller: Caller, sink: Sink, seen: int
    ) -> None:
        client = self._connections[connection] = self._client(actor)
        try:
            await client.claim(actor, connection, token, caller, sink, seen)
        finally:
            self._forget_unheld(connection, client)

    def subscribe(self, actor: str, connection: str, event: str, subscribed: bool) -> None:
        client = self._connections.get(connection)
        if client is not None:
            client.subscribe(actor, connection, event, subscribed)

    def detach(self, connection: str, sink: Sink, *, keep: bool = False) -> None:
        client = self._connections.get(connection)
        if client is not None:
            client.detach(connection, sink, keep=keep)
            self._forget_unheld(connection, client)

    def _forget_unheld(self, connection: str, client: FollowingClient) -> None:
        if not client.holds(connection) and self._connections.get(connection) is client:
            del self._connections[connection]

    def holds(self, connection: str) -> bool:
        return connection in self._connections

    async def forward(
        self,
        actor: str,
        connection: str,
        token: str,
        said: Said,
        *,
        timeout: float | None = None,
    ) -> None:
        client = self._connections.get(connection) or self._client(actor)
        await client.forward(actor, connection, token, said, timeout=timeout)

    def tunnel(
        self,
        actor: str,
        request: RawRequest,
        caller: Caller,
        *,
        body: bytes = b"",
        more: bool = False,
        timeout: float | None = None,
        chain: list[str] | None = None,
    ) -> Tunnel:
        return self._client(actor).tunnel(
            actor, request, caller, body=body, more=more, timeout=timeout, chain=chain
        )

    def close(self) -> None:
        """End every session; calls under way fail with the outcome unknown."""
        clients, self._clients = self._clients, {}
        self._connections.clear()
        for client in clients.values():
            client.close()
