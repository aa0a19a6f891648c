"""The store's clock, as a host sees it: by it a schedule never fires early (C6)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from rivet_ray.clock import Clock, SystemClock, Timer
from rivet_ray.errors import StoreError
from rivet_ray.runtime.patience import answered
from rivet_ray.store import Store, Timekeeper

log = logging.getLogger("rivet_ray.runtime")

FRESH = 60.0
"""Seconds for which a reading is used before the store is asked again."""
DRIFT = 1e-4
"""By how much this machine's clock may be faster: quartz is within half of it."""
STEP = 1.0
"""Seconds by which a clock of the store has to be set for the log to say so."""


class StoreClock:
    """Never ahead of the store's clock, and behind it by no more than an answer takes.

    A reading was taken between question and answer. If it counts from the moment of the
    answer, this clock is late by the time of the way back; of several readings the one
    with the shortest way counts. The monotonic clock of this machine goes on from there.
    """

    def __init__(self, inner: Clock, store: Timekeeper) -> None:
        self._inner = inner
        self._store = store
        self._base: float | None = None
        """What the store's clock was ahead of our monotonic one, at the last reading."""
        self._read_at = 0.0
        self._reading = asyncio.Lock()

    def now(self) -> float:
        """Seconds since the Unix epoch, by the store's clock once that was read."""
        if self._base is None:
            return self._inner.now()
        monotonic = self._inner.monotonic()
        return monotonic + self._base - DRIFT * (monotonic - self._read_at)

    def monotonic(self) -> float:
        return self._inner.monotonic()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return self._inner.call_later(delay, callback)

    async def refresh(self) -> None:
        """Read the store's clock, if the last reading is old. Raises StoreError at first."""
        if self._fresh:
            return
        async with self._reading:
            if self._fresh:  # somebody else has read it
                return
            asked = self._inner.monotonic()
            try:
                reading = await answered(self._inner, self._store.now())
            except StoreError as error:
                if self._base is None:
                    raise
                log.warning("the store's clock cannot be read, going on with ours: %s", error)
                return
            self._take(reading, asked, self._inner.monotonic())

    @property
    def _fresh(self) -> bool:
        return self._base is not None and self._inner.monotonic() - self._read_at < FRESH

    def _take(self, reading: float, asked: float, arrived: float) -> None:
        before, found = self._base, reading - arrived
        if before is not None:
            kept = before - DRIFT * (arrived - self._read_at)
            if abs(found - kept) > STEP:
                log.warning("the store's clock was set by %+.3f s", found - kept)
            if found < kept <= reading - asked:
                found = kept  # Read on a shorter way, and still possible.
        self._base, self._read_at = found, arrived


def clock_of(store: Store, clock: Clock | None) -> Clock:
    """The clock of a host. One that tests hold is taken as it is."""
    own = clock or SystemClock()
    if isinstance(own, SystemClock) and isinstance(store, Timekeeper):
        return StoreClock(own, store)
    return own


async def refreshed(clock: Clock) -> None:
    """See `StoreClock.refresh`; other clocks need none."""
    if isinstance(clock, StoreClock):
        await clock.refresh()
