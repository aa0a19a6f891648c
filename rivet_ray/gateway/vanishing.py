"""Clients that vanish without a word, and streams to them.

A client whose machine or network is gone sends no reset and no goodbye, so TCP goes
on as if it were there: for ever where nothing is sent to it, for about 15 minutes
where something is. WebSockets are pinged. A stream is only written to, so its socket
gives up when what was written stays unacknowledged.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "rivet_ray.unacknowledged"
"""Of ASGI's scope, ours: `limit`, a function that takes seconds."""

_OPTION: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


def limit_unacknowledged(scope: Scope, seconds: float) -> None:
    """Give up the connection of this request when that long nothing of it was acknowledged.

    Also a client that is there and takes nothing for as long. Holds until the next
    request on it. Nothing happens on systems other than Linux, nor under servers of
    others, which do not let at their sockets.
    """
    limit: Callable[[float], None] | None
    limit = scope.get("extensions", {}).get(EXTENSION, {}).get("limit")
    if limit is not None:
        limit(seconds)


class HttpProtocol(HttpToolsProtocol):
    """HTTP of uvicorn, whose applications can limit how long bytes stay unacknowledged."""

    _limited = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._limited:
            self._limit(0.0)
        if _OPTION is not None:
            self.scope["extensions"] = {EXTENSION: {"limit": self._limit}}

    def _limit(self, seconds: float) -> None:
        accepted = self.transport.get_extra_info("socket")
        if _OPTION is None or self.transport.is_closing():
            return
        accepted.setsockopt(socket.IPPROTO_TCP, _OPTION, round(seconds * 1000))
        self._limited = seconds > 0
