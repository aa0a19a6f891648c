"""Time, as everything below the command line sees it.

The runtime never asks the operating system for the time: it asks the clock it
was given, so that tests can hold time still and move it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A callback that is due later."""

    def cancel(self) -> None:
        """Make sure that the callback does not run; harmless when it did."""
        ...


class Clock(Protocol):
    """A source of time. All values are seconds."""

    def now(self) -> float:
        """Seconds since the Unix epoch; may jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed point; never goes back."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call back on the running event loop after `delay` seconds, never before."""
        ...


class SystemClock:
    """The machine's own time and the running event loop's timers."""

    __slots__ = ()

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)
