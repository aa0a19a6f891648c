"""What a gateway sees of the runtime: calls to actors, and where their events go.

`HostClient` is the way over one session; others stand in front of several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import Attached, Deliver, Failed, Reply, Said
from rivet_ray.protocol.raw import RawRequest
from rivet_ray.runtime.tunnel import Tunnel

Answer = Callable[[Reply | Failed], None]


class Sink(Protocol):
    """Where a connection's events go. None of these may block."""

    def attached(self, message: Attached) -> None:
        """The connection is open; called before anything else is delivered."""
        ...

    def deliver(self, message: Deliver) -> None:
        """An event for this connection. The same object is given to all its sinks."""
        ...

    def closed(self, code: int, reason: str) -> None:
        """The actor ends the connection; answer with `HostClient.detach`."""
        ...

    def handed(self, said: Said) -> None:
        """What the connection's client said elsewhere, as if it had come here."""
        ...


class Calls(Protocol):
    """Calls to actors and connections with them, wherever they are; see `HostClient`."""

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
    ) -> int: ...

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
    ) -> bytes | None: ...

    async def attach(
        self,
        actor: str,
        connection: str,
        token: str,
        caller: Caller,
        sink: Sink,
        *,
        chain: list[str] | None = None,
    ) -> None: ...

    async def claim(
        self, actor: str, connection: str, token: str, caller: Caller, sink: Sink, seen: int
    ) -> None: ...

    def subscribe(self, actor: str, connection: str, event: str, subscribed: bool) -> None: ...

    def detach(self, connection: str, sink: Sink, *, keep: bool = False) -> None: ...

    def holds(self, connection: str) -> bool: ...

    async def forward(
        self,
        actor: str,
        connection: str,
        token: str,
        said: Said,
        *,
        timeout: float | None = None,
    ) -> None: ...

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
    ) -> Tunnel: ...

    def close(self) -> None: ...
