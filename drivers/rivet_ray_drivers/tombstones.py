"""Destroyed actors in this process's memory, for a store that only one process uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from rivet_ray.store import TOMBSTONE_KEPT, TOMBSTONES, Commit, Fence


@dataclass(slots=True)
class Tombstone:
    """A key whose actor was destroyed, and the last lives that it had."""

    generation: int
    """Of the life that was destroyed last."""
    epoch: int
    buried_at: float
    lives: dict[str, tuple[Fence, int]] = field(default_factory=dict[str, tuple[Fence, int]])
    """The commit that destroyed each of the last lives, by the id of its actor."""


class Tombstones:
    """See `TOMBSTONE_KEPT` and `TOMBSTONES`: each key is swept some time after its last destroy."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._by_place: dict[Hashable, Tombstone] = {}
        """The one that was buried first comes first."""
        self._places: dict[str, Hashable] = {}

    def find(self, place: Hashable) -> Tombstone | None:
        self._sweep()
        return self._by_place.get(place)

    def bury(self, place: Hashable, generation: int, epoch: int, commit: Commit) -> None:
        self._sweep()
        before = self._by_place.pop(place, None)
        lives = before.lives if before else {}
        lives[commit.actor_id] = commit.fence, commit.sequence
        self._places[commit.actor_id] = place
        if len(lives) > TOMBSTONES:
            first = next(iter(lives))
            del lives[first], self._places[first]
        self._by_place[place] = Tombstone(generation, epoch, self.now(), lives)

    def made(self, commit: Commit) -> bool:
        """Whether this very commit has destroyed its actor."""
        self._sweep()
        place = self._places.get(commit.actor_id)
        buried = None if place is None else self._by_place[place].lives[commit.actor_id]
        return buried == (commit.fence, commit.sequence)

    def _sweep(self) -> None:
        oldest = self.now() - TOMBSTONE_KEPT
        while self._by_place:
            place, tombstone = next(iter(self._by_place.items()))
            if tombstone.buried_at >= oldest:
                return
            del self._by_place[place]
            for identity in tombstone.lives:
                del self._places[identity]
