"""What goes out on one WebSocket: a bounded queue and the task that writes it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from starlette.types import Send

from rivet_ray.protocol.encodings import Encoding

log = logging.getLogger("rivet_ray.gateway")

INTERNAL = 1011
MAX_REASON = 123
"""Bytes of UTF-8 that fit into a close frame."""


class Outgoing:
    """Frames to one client, in order. Nothing here blocks but the writer.

    Policy of the bound: when `limit` frames wait, the client is closed with
    1011 `slow_consumer`; the frames that wait are dropped.
    """

    __slots__ = ("_binary", "_close", "_limit", "_queue", "_send", "_wake", "slow")

    def __init__(self, send: Send, encoding: Encoding, limit: int) -> None:
        self._send = send
        self._binary = encoding.binary
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._close: tuple[int, str] | None = None
        self._wake: asyncio.Future[None] | None = None
        self.slow = False

    def put(self, frame: bytes) -> None:
        """Send a frame, unless the socket is being closed."""
        if self._close is not None:
            return
        if len(self._queue) >= self._limit:
            self.slow = True
            log.warning("a client is closed: %d frames wait for it", len(self._queue))
            self._queue.clear()
            self.close(INTERNAL, "slow_consumer")
            return
        self._queue.append(frame)
        self._notify()

    def close(self, code: int, reason: str) -> None:
        """Close the socket behind the frames that wait; the first close counts."""
        if self._close is None:
            self._close = (code, reason)
            self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def write(self) -> None:
        """Write until the socket is closed; raises OSError when the client left."""
        queue, send, binary = self._queue, self._send, self._binary
        while True:
            while queue:
                frame = queue.popleft()
                if binary:
                    await send({"type": "websocket.send", "bytes": frame})
                else:
                    await send({"type": "websocket.send", "text": frame.decode()})
            if self._close is not None:
                code, reason = self._close
                await send({"type": "websocket.close", "code": code, "reason": fit(reason)})
                return
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake


def fit(reason: str) -> str:
    """A reason cut to what a close frame can hold."""
    return reason.encode()[:MAX_REASON].decode(errors="ignore")
