"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from typing import TypeVar

T = TypeVar("T")

SETTLE_ROUNDS = 100
"""How many times the event loop goes round before time moves on.

One hop from task to task (a future that is resolved, a task that wakes up) takes
one or two rounds, so work of some fifty hops is done before the next timer fires.
Work that waits for threads, sockets or real time is not waited for.
"""

MOMENT = 0.05
"""Real seconds before `until` moves the time on."""
FIRST_STEP = 0.05
LONGEST_STEP = 1.0

_SECOND = 1_000_000_000


class ManualTimer:
    """A callback that waits for its time on a `ManualClock`."""

    __slots__ = ("callback", "context", "due")

    def __init__(self, due: int, callback: Callable[[], None], context: Context) -> None:
        self.due = due
        self.context = context
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Make sure that the callback does not run; harmless when it did."""
        self.callback = None


class ManualClock:
    """A `rivet_ray.clock.Clock` for tests.

    Time is counted in whole nanoseconds: ten steps of 0.1 s are a second.
    """

    def __init__(self, now: float = 1_000_000_000.0) -> None:
        self._elapsed = 0
        self._wall = round(now * _SECOND)
        """What `now()` was, or would have been, when nothing had elapsed."""
        self._timers: list[tuple[int, int, ManualTimer]] = []
        self._created = itertools.count()
        self._advancing = False

    def now(self) -> float:
        return (self._wall + self._elapsed) / _SECOND

    def monotonic(self) -> float:
        """Seconds that this clock was advanced by; 0 for a new one."""
        return self._elapsed / _SECOND

    def call_later(self, delay: float, callback: Callable[[], None]) -> ManualTimer:
        """Call back while `advance` passes the time that is `delay` seconds from now.

        Runs in the context of this call, as on an event loop. A delay of 0 or
        less is due at the next `advance`, even one of 0 seconds.
        """
        due = self._elapsed + max(0, round(delay * _SECOND))
        timer = ManualTimer(due, callback, copy_context())
        heapq.heappush(self._timers, (due, next(self._created), timer))
        return timer

    @property
    def pending(self) -> int:
        """How many timers wait, without the cancelled ones."""
        return sum(timer.callback is not None for _, _, timer in self._timers)

    def set_wall(self, now: float) -> None:
        """Set the clock on the wall: `now()` jumps, no timer and no other time does."""
        self._wall = round(now * _SECOND) - self._elapsed

    async def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due meanwhile.

        Timers fire in the order of their times, those of one time in the order
        of their creation, new ones included. Each sees its own time on the
        clock. The event loop settles before the first, after each, and at the
        end: see `SETTLE_ROUNDS`.

        An error of a callback is raised from here, at that time. Raises
        ValueError for a step back, RuntimeError inside another `advance`.
        """
        if seconds < 0:
            raise ValueError("time does not go back; set_wall sets the wall clock")
        if self._advancing:
            raise RuntimeError("this clock is being advanced already")
        self._advancing = True
        try:
            end = self._elapsed + round(seconds * _SECOND)
            await settle()
            while (timer := self._next(end)) is not None:
                callback, timer.callback = timer.callback, None
                if callback is not None:
                    self._elapsed = timer.due
                    timer.context.run(callback)
                    await settle()
            self._elapsed = end
        finally:
            self._advancing = False

    async def until(self, work: Awaitable[T]) -> T:
        """Let time pass for as long as `work` does not end by itself; what it gives.

        For a stop that has to wait for its deadline. Work that needs threads or sockets
        has a moment of real time before each step, so that it ends without one.
        """
        ending = asyncio.ensure_future(work)
        step = FIRST_STEP
        while not ending.done():
            await asyncio.wait([ending], timeout=MOMENT)
            if not ending.done():
                await self.advance(step)
                step = min(2 * step, LONGEST_STEP)
        return await ending

    def _next(self, end: int) -> ManualTimer | None:
        if not self._timers or self._timers[0][0] > end:
            return None
        return heapq.heappop(self._timers)[2]


async def settle() -> None:
    """Let the event loop run what is ready, until nothing should be left."""
    for _ in range(SETTLE_ROUNDS):
        await asyncio.sleep(0)
