"""When an actor falls asleep: nothing runs, nobody is connected, for long enough."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rivet_ray.clock import Timer
from rivet_ray.runtime.lifecycle import State

if TYPE_CHECKING:
    from rivet_ray.runtime.instance import Instance

SOON = 0.01
"""Seconds between looks while an actor that wants to sleep is still busy."""


class Idleness:
    """Watches one instance with one timer, which using the actor does not touch."""

    __slots__ = ("_awake", "_instance", "_last_used", "_timer", "_wanted")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._last_used = instance.clock.monotonic()
        self._awake = 0
        self._wanted = False
        self._timer: Timer | None = None

    def used(self) -> None:
        """Something happened just now."""
        self._last_used = self._instance.clock.monotonic()

    def keep_awake(self, awake: bool) -> None:
        """Begin or end a time in which the actor does not fall asleep."""
        self._awake += 1 if awake else -1
        self.used()

    def sleep_soon(self) -> None:
        """Fall asleep as soon as nothing runs and nobody is connected."""
        self._wanted = True
        self.stop()
        self._timer = self._instance.clock.call_later(0, self._look)

    @property
    def _limit(self) -> float:
        own = self._instance.definition.sleep_after
        return self._instance.host.settings.sleep_after if own is None else own

    def watch(self) -> None:
        """Look again when the actor may have been idle for long enough."""
        limit = self._limit
        if self._wanted:
            wait = SOON
        elif limit == math.inf:
            return
        else:
            idle = self._instance.clock.monotonic() - self._last_used
            wait = limit if self._busy else max(limit - idle, SOON)
        self._timer = self._instance.clock.call_later(wait, self._look)

    @property
    def _busy(self) -> bool:
        return bool(self._awake) or self._instance.busy

    def _look(self) -> None:
        self._timer = None
        instance = self._instance
        if instance.state is not State.RUNNING:
            return
        idle = instance.clock.monotonic() - self._last_used
        if not self._busy and (self._wanted or idle >= self._limit):
            instance.host.sleep(instance)
        else:
            self.watch()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
