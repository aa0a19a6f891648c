"""Deadlines on the injected clock."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from rivet_ray.clock import Clock, Timer
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.runtime")

CANCELLED = 1.0
"""Seconds for what was cancelled to end; what takes longer is not waited for."""


@asynccontextmanager
async def within(clock: Clock, seconds: float, what: str) -> AsyncGenerator[None]:
    """Cancel the body after `seconds` and raise TimeoutError, which names `what`.

    A cancellation from elsewhere passes through as it is.
    """
    task = asyncio.current_task()
    assert task is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    timer = clock.call_later(seconds, expire)
    try:
        yield
    except asyncio.CancelledError:
        if expired and task.uncancel() == 0:
            raise TimeoutError(f"{what} took longer than {seconds:g} s") from None
        raise
    finally:
        timer.cancel()


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait on the injected clock."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish() -> None:
        if not over.done():
            over.set_result(None)

    timer = clock.call_later(seconds, finish)
    try:
        await over
    finally:
        timer.cancel()


async def ended(
    clock: Clock, work: Iterable[asyncio.Future[Any]], seconds: float
) -> list[asyncio.Future[Any]]:
    """Wait until all of it has ended, for so many seconds at most; what has not.

    Nothing is cancelled, and what it raises is not raised here.
    """
    waiting = [item for item in work if not item.done()]
    if not waiting:
        return waiting
    if seconds > 0:
        with suppress(TimeoutError):
            async with within(clock, seconds, "a wait"):
                await asyncio.wait(waiting)
    else:
        await asyncio.sleep(0)
    return [item for item in waiting if not item.done()]


class Deadlines:
    """Many deadlines on one timer, for what hardly ever comes late.

    Adding and dropping one costs a dictionary entry; the timer is set when there
    is none, or when the new deadline is earlier than what it is set for.
    """

    __slots__ = ("_clock", "_entries", "_set_for", "_timer")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[object, tuple[float, Callable[[], None]]] = {}
        self._timer: Timer | None = None
        self._set_for = math.inf

    def add(self, owner: object, at: float, expire: Callable[[], None]) -> None:
        """Call `expire` at `at`, by the clock's monotonic time, unless `owner` is dropped."""
        self._entries[owner] = (at, expire)
        if at < self._set_for:
            self._set(at)

    def drop(self, owner: object) -> None:
        """It came in time; harmless when it did not."""
        self._entries.pop(owner, None)

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_later(at - self._clock.monotonic(), self._look)
        self._set_for = at

    def _look(self) -> None:
        self._timer, self._set_for = None, math.inf
        now = self._clock.monotonic()
        late = [owner for owner, (at, _) in self._entries.items() if at <= now]
        for owner in late:
            entry = self._entries.pop(owner, None)
            if entry is not None:
                try:
                    entry[1]()
                except Exception:
                    log.exception("what was to happen at a deadline failed", extra=REPEATED)
        if self._entries:
            self._set(min(at for at, _ in self._entries.values()))

    def close(self) -> None:
        """Nothing expires any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._entries.clear()
