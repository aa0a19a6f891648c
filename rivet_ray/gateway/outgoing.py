"""What goes out to one client: a bounded queue, and what takes from it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Protocol

from starlette.types import Send

from rivet_ray.budget import Budget
from rivet_ray.gateway.budgets import Budgets, Frame
from rivet_ray.gateway.statistics import GatewayStatistics
from rivet_ray.protocol import event_stream
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.gateway")

INTERNAL = 1011
SLOW = "slow_consumer"
OVERHEAD = 64
"""Bytes that a frame counts for beside its own while it waits."""
MAX_CHUNK = 65_536
"""Bytes of events that are written together, but for one event that alone is longer."""
MAX_REASON = 123
"""Bytes of UTF-8 that fit into a close frame."""


class Owner(Protocol):
    """The connection whose client this goes to."""

    def ends(self) -> None:
        """The client is being closed."""
        ...

    def relieved(self) -> None:
        """The client has taken something."""
        ...


class Outgoing:
    """Frames to one client, in order. Nothing here blocks but whoever writes them.

    Every frame counts for its bytes and `OVERHEAD` until it is written, against the
    bound of this client, and against those of its caller and the gateway. A frame that
    many clients share counts against the latter once.

    Policy: a frame beyond the client's own bound closes it with 1011 `slow_consumer`;
    beyond the others the client is closed for whom most waits. Closes are counted, and
    the frames that wait are dropped.
    """

    __slots__ = (
        "_budget",
        "_budgets",
        "_close",
        "_owner",
        "_queue",
        "_statistics",
        "_wake",
        "share",
        "slow",
    )

    def __init__(
        self, limit: int, budgets: Budgets, share: Budget, statistics: GatewayStatistics
    ) -> None:
        """`limit` is in bytes; `share` is the bound of the client's caller."""
        self.share = share
        self.slow = False
        self._budgets = budgets
        self._budget = Budget("client", limit)
        self._budget.refusals = budgets.gateway.refusals
        self._statistics = statistics
        self._queue: deque[bytes] = deque()
        self._close: tuple[int, str] | None = None
        self._owner: Owner | None = None
        self._wake: asyncio.Future[None] | None = None

    def begin(self, owner: Owner) -> None:
        """Frames may be put from now on, until `end`."""
        self._owner = owner
        self._budgets.add(self)

    def end(self) -> None:
        """The client is gone."""
        self._budgets.remove(self)
        self._owner = None
        self._clear()

    @property
    def limit(self) -> int:
        """Bytes that may wait for the client."""
        return self._budget.limit

    @property
    def waiting(self) -> int:
        """Bytes that wait for the client, the frame that is being written among them."""
        return self._budget.held

    def fits(self, frame: bytes) -> bool:
        """Whether another frame may wait for the client."""
        return self._budget.exceeded(len(frame) + OVERHEAD) is None

    def put(self, frame: bytes) -> None:
        """Send a frame, unless the client is being closed."""
        if self._close is not None:
            return
        size, counted = len(frame) + OVERHEAD, _counted(frame)
        if not self._budget.fits(size):
            self.drop()
            return
        if self.share.exceeded(counted) is not None:
            self._budgets.make_room(self.share, counted)
            if self._close is not None:  # Most waited for this very client.
                self._budget.give_back(size)
                return
        self.share.hold(counted)
        self._queue.append(frame)
        self._notify()

    def drop(self) -> None:
        """Close the client as a slow consumer."""
        if self._close is not None:
            return
        waiting = self.waiting
        self.slow = True
        self._clear()
        self.close(INTERNAL, SLOW)
        count = self._statistics.slow_consumers
        log.warning(
            "a client is closed: bytes=%d slow_consumers=%d", waiting, count, extra=REPEATED
        )
        if self._owner is not None:
            self._owner.ends()

    def close(self, code: int, reason: str) -> None:
        """Close the client behind the frames that wait; the first close counts."""
        if self._close is None:
            if reason == SLOW:
                self._statistics.slow_consumers += 1
            self._close = (code, reason)
            self._notify()

    def _written(self, frame: bytes) -> None:
        """The frame, which is no longer in the queue, has left."""
        self._budget.give_back(len(frame) + OVERHEAD)
        self.share.give_back(_counted(frame))
        if self._owner is not None:
            self._owner.relieved()

    def _clear(self) -> None:
        queue = self._queue
        while queue:
            frame = queue.popleft()
            self._budget.give_back(len(frame) + OVERHEAD)
            self.share.give_back(_counted(frame))

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _news(self) -> None:
        """Wait until there is a frame, or the close."""
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake


def _counted(frame: bytes) -> int:
    """What a frame counts for beyond its client."""
    return OVERHEAD if isinstance(frame, Frame) else len(frame) + OVERHEAD


class Frames(Outgoing):
    """To a WebSocket."""

    __slots__ = ()

    async def write(self, send: Send, *, binary: bool) -> None:
        """Write until the socket is closed; raises OSError when the client left."""
        queue = self._queue
        while True:
            while queue:
                frame = queue.popleft()
                try:
                    if binary:
                        await send({"type": "websocket.send", "bytes": frame})
                    else:
                        await send({"type": "websocket.send", "text": frame.decode()})
                finally:
                    self._written(frame)
            if self._close is not None:
                code, reason = self._close
                await send({"type": "websocket.close", "code": code, "reason": fit(reason)})
                return
            await self._news()


class Events(Outgoing):
    """To an event stream: each frame is a whole event."""

    __slots__ = ()

    def finish(self) -> None:
        """End the stream behind the events that wait, without a word."""
        self.close(0, "")

    async def chunks(self) -> AsyncGenerator[bytes]:
        """What waits, joined, until the stream is closed."""
        queue = self._queue
        while True:
            if queue:
                events = self._chunk()
                try:
                    yield events[0] if len(events) == 1 else b"".join(events)
                finally:
                    for event in events:
                        self._written(event)
            elif self._close is not None:
                code, reason = self._close
                if code:
                    yield event_stream.close_event(code, reason)
                return
            else:
                await self._news()

    def _chunk(self) -> list[bytes]:
        queue = self._queue
        events = [queue.popleft()]
        size = len(events[0])
        while queue and size + len(queue[0]) <= MAX_CHUNK:
            size += len(queue[0])
            events.append(queue.popleft())
        return events


def fit(reason: str) -> str:
    """A reason cut to what a close frame can hold."""
    return reason.encode()[:MAX_REASON].decode(errors="ignore")
