"""Trying again what a store did not answer, where that cannot do harm.

Callers are told no more than that the store is away, so the log says why: at the
first failure, and while it lasts every few seconds with a count.
"""

from __future__ import annotations

import logging
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
LOG_EVERY = 5.0
"""Seconds between two lines about a store that does not answer."""

log = logging.getLogger("rivet_ray.runtime")


class Patience:
    """What one host or directory has with its store."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logged_at: float | None = None
        self._failures = 0
        """Tries that failed since the last line in the log."""

    async def again(self, operation: Callable[[], Awaitable[T]]) -> T:
        """What the operation gives, tried again while the store is away, for PATIENCE.

        Only for what may happen twice: looking up, getting or creating, claiming.
        Raises what the operation raised last; cancelling ends it at once.
        """
        until, pause = self._clock.monotonic() + PATIENCE, FIRST_PAUSE
        while True:
            try:
                return await self.once(operation)
            except StoreUnavailable:
                if self._clock.monotonic() + pause > until:
                    raise
            await sleep(self._clock, pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def once(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The same for what must not happen twice."""
        try:
            return await operation()
        except StoreUnavailable as error:
            self._failed(error)
            raise

    def _failed(self, error: StoreUnavailable) -> None:
        self._failures += 1
        now = self._clock.monotonic()
        if self._logged_at is None or now - self._logged_at >= LOG_EVERY:
            log.warning("the store did not answer (%d times): %s", self._failures, error)
            self._logged_at, self._failures = now, 0
