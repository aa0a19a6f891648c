"""permessage-deflate stays off, whoever serves the gateway.

With it JavaScript clients see events after the answer of the action that caused them, and
a socket carries a sixth. `uvicorn_config` and Ray Serve switch it off. An application
cannot, and a uvicorn that is started by hand has agreed to it before the application
hears of the opening; so it is taken out of the answer, which is not sent yet.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

from starlette.types import Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

log = logging.getLogger("rivet_ray.gateway")

OFFER: Final = b"sec-websocket-extensions"
DEFLATE: Final = b"permessage-deflate"
MOST_WRAPPERS: Final = 64
"""Functions that middleware may have put around the server's own."""

_known_to_be_off = False
_warned = False


def is_off() -> None:
    """In this process the server never compresses, though it cannot be seen from here."""
    global _known_to_be_off
    _known_to_be_off = True


def without_deflate(scope: Scope, send: Send) -> None:
    """Call it before the socket is accepted. Warns once if it cannot be switched off."""
    if _known_to_be_off or not _is_offered(scope):
        return
    for found in _behind(send):
        if isinstance(found, WebSocketsSansIOProtocol):
            if found.conn.extensions and not found.handshake_complete:
                found.conn.extensions = []
                del found.response.headers["Sec-WebSocket-Extensions"]
            return
    _warn()


def _is_offered(scope: Scope) -> bool:
    return any(name.lower() == OFFER and DEFLATE in value for name, value in scope["headers"])


def _behind(send: Any) -> Iterator[Any]:
    """The objects that a function belongs to, or that it calls."""
    waiting = [send]
    for _ in range(MOST_WRAPPERS):
        if not waiting:
            return
        function = waiting.pop(0)
        owner = getattr(function, "__self__", None)
        if owner is not None:
            yield owner
        for cell in getattr(function, "__closure__", None) or ():
            try:
                content = cell.cell_contents
            except ValueError:
                continue  # Empty still.
            if callable(content):
                waiting.append(content)
        waiting.extend(item for item in getattr(function, "args", ()) if callable(item))


def _warn() -> None:
    global _warned
    if not _warned:
        _warned = True
        log.warning(
            "This server may compress WebSockets. Then JavaScript clients may see events "
            "after the answers that they belong before. Switch it off: "
            "`uvicorn --ws-per-message-deflate false`, or the like of your server."
        )
