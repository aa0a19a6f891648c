"""The alarm of a host that exists for one actor."""

from __future__ import annotations

from rivet_ray.clock import Clock, Timer
from rivet_ray.errors import ActorNotFound
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime.alarms import LONGEST_WAIT, RETRY, RETRY_OF_OTHERS, TooNewHere, Wakes
from rivet_ray.runtime.unloadable import CannotLoad

log = logger_of_strangers("rivet_ray.runtime")


class OwnAlarm:
    """Like `Alarms`, for one actor. It asks the store for nothing.

    A host that woke other actors would take them from the hosts they live on.
    """

    def __init__(self, host: Wakes, clock: Clock, actor: str) -> None:
        self._host = host
        self._clock = clock
        self._actor = actor
        self._alarm: float | None = None
        self._timer: Timer | None = None
        self._waking = False
        self._closed = False

    def start(self) -> None:
        """Wake the actor: what became due while no host was there fires at once."""
        self._wake()

    def committed(self, actor: str, alarm: float | None) -> None:
        """The store has this alarm for the actor now."""
        if actor != self._actor:
            return
        self._alarm = alarm
        if alarm is None or alarm > self._clock.now():
            self._waking = False
        if not self._waking:
            self._arm(alarm)

    def left(self, actor: str) -> None:
        """The actor is not in memory any more; its alarm counts again."""
        if actor == self._actor and self._waking:
            self._waking = False
            self._arm(self._clock.now() + RETRY)

    def _arm(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None and not self._closed:
            delay = min(max(0.0, when - self._clock.now()), LONGEST_WAIT)
            self._timer = self._clock.call_later(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._alarm is not None and self._alarm > self._clock.now():
            self._arm(self._alarm)
        else:
            self._wake()

    def _wake(self) -> None:
        if not self._closed:
            self._waking = True
            try:
                self._host.wake(self._actor, self._failed)
            except Exception as error:
                log.exception("actor %s broke its waking", self._actor, extra=REPEATED)
                self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self._waking = False
        if isinstance(error, ActorNotFound):
            return
        self._alarm = None
        if isinstance(error, (CannotLoad, TooNewHere)):  # The log has it already.
            self._arm(self._clock.now() + RETRY_OF_OTHERS)
            return
        log.warning(
            "actor %s could not be woken, trying again: %s", self._actor, error, extra=REPEATED
        )
        self._arm(self._clock.now() + RETRY)

    def abandon(self) -> None:
        """Wake nobody any more."""
        self._closed = True
        self._arm(None)

    async def close(self) -> None:
        self.abandon()
