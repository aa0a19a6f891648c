"""What ASGI calls the scope: a request, as an application reads it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from rivet_ray.runtime.exchange import Exchange

SPECIFICATION = "2.4"
"""From this version on a `send` to a client that has left raises OSError."""


def mounted(scope: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
    """The same for an application that serves it in the actor's place, with its full path.

    So that URLs which the application makes, such as that of a redirect, lead back to it.
    """
    request = exchange.request
    root = unquote_to_bytes(request.root).decode(errors="replace")
    return {
        **scope,
        "root_path": root,
        "path": root + scope["path"],
        "raw_path": request.root + request.path,
    }


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
