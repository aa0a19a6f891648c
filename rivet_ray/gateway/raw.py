"""What raw requests and raw sockets share: the request as the actor sees it."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec
from starlette.types import Scope

from rivet_ray.protocol import v0
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.queries import Intent
from rivet_ray.protocol.raw import RawRequest

ACTION = frozenset[Intent]({"action"})

CONTROL = frozenset(
    name.lower().encode() for name in (*v0.PUBLIC_HEADERS, *v0.INTERNAL_HEADERS, v0.OUTCOME_HEADER)
)
"""The wire's own headers: for the gateway, and never for the actor's code."""
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


def raw_request(scope: Scope, marker: bytes, protocols: list[str] | None = None) -> RawRequest:
    """The request as the actor's code is to see it; `marker` is the gateway's part of the path."""
    headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    named = {
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    }
    hidden = CONTROL | HOP_BY_HOP | named
    kept = [
        (name, value)
        for name, value in headers
        if name not in hidden and not (protocols is not None and name.startswith(WEBSOCKET))
    ]
    client: tuple[str, int] | None = scope.get("client")
    return RawRequest(
        method=scope.get("method", "GET"),
        path=_path(scope, marker),
        query=scope["query_string"],
        headers=kept,
        scheme=scope["scheme"],
        client=None if client is None else (str(client[0]), int(client[1])),
        protocols=protocols,
    )


WEBSOCKET = b"sec-websocket-"
"""Headers of the handshake, which the gateway has made."""


def _path(scope: Scope, marker: bytes) -> bytes:
    """What stands behind the marker, as the client wrote it."""
    raw: bytes | None = scope.get("raw_path")
    if raw is not None and marker in raw:
        rest = raw.split(b"?", 1)[0].partition(marker)[2]
    else:
        # The client has escaped what needs no escape, or the server keeps no raw path.
        rest = quote("/" + scope["path_params"].get("path", "")).encode()
    return rest or b"/"


def slim(caller: Caller) -> Caller:
    """A caller without the request, which the actor gets as a whole."""
    return msgspec.structs.replace(caller, request=None)
