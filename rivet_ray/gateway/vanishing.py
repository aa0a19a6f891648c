"""Clients that vanish without a word, and streams to them.

A client whose machine or network is gone sends no reset and no goodbye, so TCP goes
on as if it were there: for ever where nothing is sent to it, for about 15 minutes
where something is. WebSockets are pinged. A stream is only written to, so its socket
gives up when what was written stays unacknowledged.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "rivet_ray.unacknowledged"
"""Of ASGI's scope, ours: `limit`, a function that takes seconds, `taken`, which waits
until the socket takes more, and `abort`, which cuts the connection."""

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


def until_taken(scope: Scope, send: Send) -> Send:
    """`send` that returns once the socket can take more: what is not sent still waits.

    uvicorn's own returns at once, however much of a message stays in memory. Under
    servers of others `send` is what it is there.
    """
    taken: Callable[[], Awaitable[None]] | None
    taken = scope.get("extensions", {}).get(EXTENSION, {}).get("taken")
    if taken is None:
        return send
    wait = taken

    async def send_and_wait(message: Message) -> None:
        await send(message)
        await wait()

    return send_and_wait


async def cut(scope: Scope, receive: Receive) -> None:
    """Cut the connection of a client that does not take the rest of its response.

    uvicorn logs an error for a response that just ends.
    """
    abort: Callable[[], None] | None
    abort = scope.get("extensions", {}).get(EXTENSION, {}).get("abort")
    if abort is None:
        return
    abort()
    while (await receive())["type"] != "http.disconnect":
        pass


class HttpProtocol(HttpToolsProtocol):
    """HTTP of uvicorn, whose applications can limit how long bytes stay unacknowledged."""

    _limited = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._limited:
            self._limit(0.0)
        offered: dict[object, object] = {
            "limit": self._limit,
            "taken": self.flow.drain,
            "abort": self.transport.abort,
        }
        self.scope["extensions"] = {EXTENSION: offered}

    def _limit(self, seconds: float) -> None:
        accepted = self.transport.get_extra_info("socket")
        if _OPTION is None or self.transport.is_closing():
            return
        accepted.setsockopt(socket.IPPROTO_TCP, _OPTION, round(seconds * 1000))
        self._limited = seconds > 0
