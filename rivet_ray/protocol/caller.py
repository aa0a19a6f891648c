"""Who calls an actor, and the base of every message that says so."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

HEADER_OVERHEAD = 128
"""Bytes that a header counts for beside its own."""


def cost_of_headers(headers: Sequence[tuple[str | bytes, str | bytes]]) -> int:
    """Bytes that headers count for while they are held."""
    return sum(len(name) + len(value) + HEADER_OVERHEAD for name, value in headers)


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of every message of the port."""


class RequestInfo(Message, frozen=True):
    """The client's request, as hooks see it."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    client: str | None = None
    """The address that it came from, without a port; None where the server knows none."""

    @property
    def cost(self) -> int:
        """Bytes that it counts for while it is held."""
        return len(self.url) + cost_of_headers(self.headers)


SERVER = "server"
"""The identity of the server's own code."""


class Caller(Message, frozen=True):
    """Who calls or connects: parameters and the result of `on_auth`, msgpack."""

    params: bytes | None = None
    auth: bytes | None = None
    request: RequestInfo | None = None
    identity: str | None = None
    """The same for every token of the same caller, and different for all others.

    Known on connections and for calls with an idempotency key; None where nobody
    knows who calls. The word before its colon says who gave it: `caller`, `actor`.
    """

    @property
    def cost(self) -> int:
        """Bytes that it counts for while it is held."""
        request = 0 if self.request is None else self.request.cost
        return len(self.params or b"") + len(self.auth or b"") + request

    @property
    def party(self) -> tuple[object, ...]:
        """Who it is, for bounds: one without an identity is known by `on_auth` and address."""
        if self.identity is not None:
            return (self.identity,)
        return self.auth, None if self.request is None else self.request.client


def identity_of_actor(actor: str) -> str:
    """Of an actor that calls others, by its id."""
    return f"actor:{actor}"
