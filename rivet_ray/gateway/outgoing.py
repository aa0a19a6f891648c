"""What goes out to one client: a bounded queue, and what takes from it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator

from starlette.types import Send

from rivet_ray.gateway.statistics import GatewayStatistics
from rivet_ray.protocol import event_stream

log = logging.getLogger("rivet_ray.gateway")

INTERNAL = 1011
SLOW = "slow_consumer"
MAX_CHUNK = 65_536
"""Bytes of events that are written together, but for one event that alone is longer."""
MAX_REASON = 123
"""Bytes of UTF-8 that fit into a close frame."""


class Outgoing:
    """Frames to one client, in order. Nothing here blocks but whoever writes them.

    Policy of the bound: when `limit` frames wait, the client is closed with
    1011 `slow_consumer`, and counted; the frames that wait are dropped.
    """

    __slots__ = ("_close", "_limit", "_queue", "_statistics", "_wake", "slow")

    def __init__(self, limit: int, statistics: GatewayStatistics) -> None:
        self._limit = limit
        self._statistics = statistics
        self._queue: deque[bytes] = deque()
        self._close: tuple[int, str] | None = None
        self._wake: asyncio.Future[None] | None = None
        self.slow = False

    def put(self, frame: bytes) -> None:
        """Send a frame, unless the client is being closed."""
        if self._close is not None:
            return
        if len(self._queue) >= self._limit:
            self.slow = True
            waiting = len(self._queue)
            self._queue.clear()
            self.close(INTERNAL, SLOW)
            count = self._statistics.slow_consumers
            log.warning("a client is closed: frames=%d slow_consumers=%d", waiting, count)
            return
        self._queue.append(frame)
        self._notify()

    def close(self, code: int, reason: str) -> None:
        """Close the client behind the frames that wait; the first close counts."""
        if self._close is None:
            if reason == SLOW:
                self._statistics.slow_consumers += 1
            self._close = (code, reason)
            self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _news(self) -> None:
        """Wait until there is a frame, or the close."""
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake


class Frames(Outgoing):
    """To a WebSocket."""

    __slots__ = ()

    async def write(self, send: Send, *, binary: bool) -> None:
        """Write until the socket is closed; raises OSError when the client left."""
        queue = self._queue
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
            await self._news()


class Events(Outgoing):
    """To an event stream: each frame is a whole event."""

    __slots__ = ()

    def end(self) -> None:
        """End the stream behind the events that wait, without a word."""
        self.close(0, "")

    async def chunks(self) -> AsyncGenerator[bytes]:
        """What waits, joined, until the stream is closed."""
        queue = self._queue
        while True:
            if queue:
                yield self._chunk()
            elif self._close is not None:
                code, reason = self._close
                if code:
                    yield event_stream.close_event(code, reason)
                return
            else:
                await self._news()

    def _chunk(self) -> bytes:
        queue = self._queue
        events = [queue.popleft()]
        size = len(events[0])
        while queue and size + len(queue[0]) <= MAX_CHUNK:
            size += len(queue[0])
            events.append(queue.popleft())
        return events[0] if len(events) == 1 else b"".join(events)


def fit(reason: str) -> str:
    """A reason cut to what a close frame can hold."""
    return reason.encode()[:MAX_REASON].decode(errors="ignore")
