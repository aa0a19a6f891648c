"""What ASGI calls the scope: a request, as an application reads it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from rivet_ray.runtime.exchange import Exchange

SPECIFICATION = "2.4"
"""From this version on a `send` to a client that has left raises OSError."""


def scope_of(actor: Any, exchange: Exchange) -> dict[str, Any]:
    """The scope of an exchange.

    Its `state`, which Starlette shows as `request.state`, holds the `actor`, and
    the `auth` and `params` of the caller.
    """
    request = exchange.request
    scope: dict[str, Any] = {
        "type": "websocket" if exchange.is_websocket else "http",
        "asgi": {"version": "3.0", "spec_version": SPECIFICATION},
        "http_version": "1.1",
        "scheme": request.scheme,
        "path": unquote_to_bytes(request.path).decode(errors="replace"),
        "raw_path": request.path,
        "query_string": request.query,
        "root_path": "",
        "headers": request.headers,
        "client": request.client,
        "server": ("actor", None),
        "state": {"actor": actor, "auth": exchange.auth, "params": exchange.params},
    }
    if exchange.is_websocket:
        scope["subprotocols"] = list(request.protocols or ())
    else:
        scope["method"] = request.method
    return scope
