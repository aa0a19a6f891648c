"""Who calls an actor, and the base of every message that says so."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of every message of the port."""


class RequestInfo(Message, frozen=True):
    """The client's request, as hooks see it."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    client: str | None = None
    """The address that it came from, without a port; None where the server knows none."""


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


def identity_of_actor(actor: str) -> str:
    """Of an actor that calls others, by its id."""
    return f"actor:{actor}"
