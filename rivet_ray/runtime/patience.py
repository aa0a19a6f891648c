"""How long a store is waited for, and trying again where that cannot do harm.

Callers are told no more than that the store is away, so the log says why: at the
first failure, and while it lasts every few seconds with a count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rivet_ray.clock import Clock
from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray.runtime.deadline import sleep, within
from rivet_ray.store import Store, open_store

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds: a restart or a failover is over by then, and a longer outage is worth an error."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.4
LOG_EVERY = 5.0
"""Seconds between two lines about a store that does not answer."""

log = logging.getLogger("rivet_ray.runtime")

STORE_OPEN = 30.0
"""Seconds for a store to be opened: one of files may have to recover first."""
STORE_CLOSE = 5.0
"""Seconds for a store to finish what is under way, once nobody waits for it any more."""
SILENCE = 10.0
"""Seconds without an answer after which a store counts as away; drivers may be quicker."""


async def answered(clock: Clock, answer: Awaitable[T], seconds: float = SILENCE) -> T:
    """What the store answers. Raises StoreUnavailable where it does not within `seconds`."""
    try:
        async with within(clock, seconds, "an answer of the store"):
            return await answer
    except TimeoutError as error:
        raise silent(seconds) from error


def silent(seconds: float) -> StoreUnavailable:
    return StoreUnavailable(f"The store did not answer within {seconds:g} s.")


async def open_in_time(clock: Clock, url: str) -> Store:
    """Open the store of a URL. Raises StoreError, StoreUnavailable also after STORE_OPEN."""
    return await answered(clock, open_store(url), STORE_OPEN)


async def close_store(clock: Clock, store: Store) -> None:
    """Close a store; one that does not come to an end within STORE_CLOSE is left to itself."""
    try:
        await answered(clock, store.close(), STORE_CLOSE)
    except StoreError as error:
        log.error("the store is not closed in good order: %s", error)


class Opening:
    """What is opened once, by whoever comes first; who comes meanwhile shares what comes of it."""

    def __init__(self) -> None:
        self._lock: asyncio.Lock | None = None
        self._failures = 0
        self._error: StoreError | None = None

    async def once(self, is_open: Callable[[], bool], open: Callable[[], Awaitable[None]]) -> None:
        """Open it unless it is open. Raises StoreError, to all who waited for the same try."""
        lock = self._lock = self._lock or asyncio.Lock()
        failures = self._failures
        async with lock:
            if is_open():
                return
            if self._failures != failures and self._error is not None:
                raise self._error
            try:
                await open()
            except StoreError as error:
                self._failures, self._error = self._failures + 1, error
                raise


class Patience:
    """What one host or directory has with its store."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logged_at: float | None = None
        self._failures = 0
        """Tries that failed since the last line in the log."""

    async def again(self, operation: Callable[[], Awaitable[T]]) -> T:
        """What the operation gives, tried again while the store is away, for PATIENCE.

        One that does not answer within SILENCE is not tried again.
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
            return await answered(self._clock, operation())
        except StoreUnavailable as error:
            self._failed(error)
            raise

    def _failed(self, error: StoreUnavailable) -> None:
        self._failures += 1
        now = self._clock.monotonic()
        if self._logged_at is None or now - self._logged_at >= LOG_EVERY:
            log.warning("the store did not answer (%d times): %s", self._failures, error)
            self._logged_at, self._failures = now, 0
