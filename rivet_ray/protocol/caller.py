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


class Caller(Message, frozen=True):
    """Who calls or connects: parameters and the result of `on_auth`, msgpack."""

    params: bytes | None = None
    auth: bytes | None = None
    request: RequestInfo | None = None
