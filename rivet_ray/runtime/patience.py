"""Trying again what a store did not answer, where that cannot do harm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from rivet_ray.clock import Clock
from rivet_ray.errors import StoreUnavailable
from rivet_ray.runtime.deadline import sleep

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds: a restart or a failover is over by then, and a longer outage is worth an error."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.4


async def patiently(clock: Clock, operation: Callable[[], Awaitable[T]]) -> T:
    """What the operation gives, tried again while the store is away, for PATIENCE.

    Only for what may happen twice: looking up, getting or creating, claiming.
    Raises what the operation raised last; cancelling ends it at once.
    """
    until, pause = clock.monotonic() + PATIENCE, FIRST_PAUSE
    while True:
        try:
            return await operation()
        except StoreUnavailable:
            if clock.monotonic() + pause > until:
                raise
        await sleep(clock, pause)
        pause = min(2 * pause, LONGEST_PAUSE)
