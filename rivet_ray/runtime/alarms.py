"""Waking actors when their alarms are due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Protocol

from rivet_ray.clock import Clock, Timer
from rivet_ray.definition.user_tasks import own_task
from rivet_ray.errors import ActorNotFound, StateTooNew, StoreError
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime.deadline import CANCELLED, ended
from rivet_ray.runtime.patience import answered
from rivet_ray.runtime.store_clock import refreshed
from rivet_ray.runtime.unloadable import CannotLoad
from rivet_ray.store import ActorType, Store

log = logger_of_strangers("rivet_ray.runtime")

RESOLUTION = 1e-6
"""Seconds; what a float can tell of a time of today, and some. Not early, but equal."""
BATCH = 500
"""Actors that are woken at once."""
RETRY = 5.0
"""Seconds until an actor that could not be woken is tried again."""
RETRY_OF_OTHERS = 60.0
"""Seconds until an actor that this host cannot run is looked at again."""
LONGEST_WAIT = 3600.0
"""Seconds; a timer is never set further, so that the wall clock may be set meanwhile."""


class NotHere(ActorNotFound):
    """This host does not run the actor: it is gone, or of another namespace or registry."""


class TooNewHere(StateTooNew):
    """This host's code is older than what saved the actor. The log has it already."""


class Wakes(Protocol):
    """A host, as the alarms see it."""

    def wake(self, actor: str, failed: Callable[[BaseException], None]) -> None:
        """Bring the actor into memory and run what is due there."""
        ...


class Alarms:
    """Watches the earliest alarm of those types. One timer, whatever the number of actors."""

    def __init__(
        self, host: Wakes, store: Store, clock: Clock, types: Collection[ActorType]
    ) -> None:
        self._host = host
        self._store = store
        self._types = types
        self._clock = clock
        self._timer: Timer | None = None
        self._armed_for: float | None = None
        self._waking: set[str] = set()
        self._retries: dict[str, Timer] = {}
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._closed = False

    def start(self) -> None:
        """Look at the store now: what became due while nobody ran fires at once."""
        self._look()

    def committed(self, actor: str, alarm: float | None) -> None:
        """The store has this alarm for the actor now."""
        if alarm is None or alarm > self._clock.now():
            self._waking.discard(actor)
        if alarm is not None and actor not in self._waking:
            self._arm(alarm)

    def left(self, actor: str) -> None:
        """The actor is not in memory any more; its alarm counts again."""
        if actor in self._waking:
            # It left with its alarm undone: its store was away, or it was fenced.
            self._try_again(actor)

    def _arm(self, when: float) -> None:
        if self._closed or (self._armed_for is not None and self._armed_for <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        delay = min(max(0.0, when - self._clock.now()), LONGEST_WAIT)
        self._timer = self._clock.call_later(delay, self._due)
        self._armed_for = when

    def _due(self) -> None:
        self._timer = None
        self._armed_for = None
        self._look()

    def _look(self) -> None:
        if self._closed:
            return
        if self._task is not None:
            self._again = True
            return
        self._task = own_task(self._wake_due())

    async def _wake_due(self) -> None:
        try:
            while True:
                self._again = False
                await refreshed(self._clock)
                now = self._clock.now() + RESOLUTION
                limit = BATCH + len(self._waking)
                asked = self._store.alarms_due(now, limit, types=self._types)
                due = await answered(self._clock, asked)
                fresh = [actor for _, actor in due if actor not in self._waking]
                for actor in fresh[:BATCH]:
                    self._wake(actor)
                if len(fresh) < BATCH and not self._again:
                    break
                await asyncio.sleep(0)
            asked_next = self._store.next_alarm(now, types=self._types)
            following = await answered(self._clock, asked_next)
            # Others set alarms too: gateways of new actors, and hosts that may be gone.
            self._arm(now + LONGEST_WAIT if following is None else following)
        except Exception as error:
            unexpected = None if isinstance(error, StoreError) else error
            log.warning(
                "alarms cannot be read, trying again in %g s: %s",
                RETRY,
                error,
                exc_info=unexpected,
            )
            self._arm(self._clock.now() + RETRY)
        finally:
            self._task = None

    def _wake(self, actor: str) -> None:
        self._waking.add(actor)
        try:
            self._host.wake(actor, partial(self._failed, actor))
        except Exception as error:  # It must not keep the others asleep.
            log.exception("actor %s broke its waking", actor, extra=REPEATED)
            self._failed(actor, error)

    def _failed(self, actor: str, error: BaseException) -> None:
        if isinstance(error, (NotHere, TooNewHere, CannotLoad)):  # The log has it already.
            if (sooner := self._retries.pop(actor, None)) is not None:
                sooner.cancel()  # It has left memory, but not because something was away.
            self._try_again(actor, RETRY_OF_OTHERS)
            return
        log.warning(
            "actor %s could not be woken, trying again in %g s: %s",
            actor,
            RETRY,
            error,
            extra=REPEATED,
        )
        self._try_again(actor)

    def _try_again(self, actor: str, delay: float = RETRY) -> None:
        """Wake the actor in a while, and not before: once, however often it has failed."""
        if self._closed or actor in self._retries:
            return

        def retry() -> None:
            del self._retries[actor]
            self._waking.discard(actor)
            self._look()

        self._waking.add(actor)
        self._retries[actor] = self._clock.call_later(delay, retry)

    def abandon(self) -> None:
        """Wake nobody any more."""
        self._closed = True
        for timer in (*self._retries.values(), self._timer):
            if timer is not None:
                timer.cancel()
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Wake nobody any more, and wait until nobody is being woken."""
        self.abandon()
        if self._task is not None:
            await ended(self._clock, [self._task], CANCELLED)
