"""What raw requests and raw sockets share: the request as the actor sees it."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, unquote

import msgspec
from starlette.types import Scope

from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.queries import Intent
from rivet_ray.protocol.raw import RawRequest, is_withheld

ACTION = frozenset[Intent]({"action"})


def raw_request(scope: Scope, marker: bytes, protocols: list[str] | None = None) -> RawRequest:
    """The request as the actor's code is to see it; `marker` is the gateway's part of the path."""
    headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    named = {
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    }
    kept = [
        (name, value)
        for name, value in headers
        if name not in named
        and not is_withheld(name)
        and not (protocols is not None and name.startswith(WEBSOCKET))
    ]
    root, path = _split(scope, marker)
    client: tuple[str, int] | None = scope.get("client")
    return RawRequest(
        method=scope.get("method", "GET"),
        path=path,
        query=scope["query_string"],
        headers=kept,
        scheme=scope["scheme"],
        client=None if client is None else (str(client[0]), int(client[1])),
        protocols=protocols,
        root=root,
    )


WEBSOCKET = b"sec-websocket-"
"""Headers of the handshake, which the gateway has made."""


def _split(scope: Scope, marker: bytes) -> tuple[bytes, bytes]:
    """The path up to the marker and with it, and what stands behind, as the client wrote it.

    The marker may occur elsewhere too, so the router says what stands behind it.
    """
    behind: str | None = scope["path_params"].get("path")
    rest = "" if behind is None else f"/{behind}"
    raw: bytes = (scope.get("raw_path") or b"").split(b"?", 1)[0]
    end = raw.find(marker) + len(marker)
    while end >= len(marker):
        if unquote(raw[end:].decode("latin-1")) == rest:
            return raw[:end], raw[end:] or b"/"
        end = raw.find(marker, end) + len(marker)
    # The client has escaped what needs no escape, or the server keeps no raw path.
    before: str = scope["path"].removesuffix(rest)
    return quote(before).encode(), quote(rest or "/").encode()


def slim(caller: Caller) -> Caller:
    """A caller without the request, which the actor gets as a whole."""
    return msgspec.structs.replace(caller, request=None)
