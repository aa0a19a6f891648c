"""What a store holds: actors and bytes by type, the largest actors, and how fast that grows."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from rivet_ray.cli.looks import look
from rivet_ray.clock import Clock
from rivet_ray.runtime.deadline import sleep
from rivet_ray.store import ActorSize, ActorType, Store, TypeSize

PAGE = 1000
"""Actors whose sizes are asked for at once."""
LARGEST = 10
"""Actors that are named."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """One look at the sizes of all types."""

    at: float
    """Seconds since the Unix epoch, by the clock of this machine."""
    monotonic: float
    types: Sequence[TypeSize]


@dataclass(frozen=True, slots=True)
class Growth:
    """How much more there was after some seconds; negative where it shrank."""

    seconds: float
    types: Sequence[TypeSize]
    """Every type of either look."""


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest actors of those that were looked at."""

    looked_at: int
    complete: bool
    """Whether these were all."""
    actors: Sequence[ActorSize]
    """The largest first."""


async def sizes_of(store: Store, clock: Clock) -> Sizes:
    """Look once. Raises StoreError."""
    types = await look(clock, store.sizes())
    return Sizes(clock.now(), clock.monotonic(), types)


async def growth_since(before: Sizes, seconds: float, store: Store, clock: Clock) -> Growth:
    """Look again so many seconds later. Raises StoreError."""
    await sleep(clock, max(0.0, before.monotonic + seconds - clock.monotonic()))
    after = await sizes_of(store, clock)
    return Growth(after.monotonic - before.monotonic, _differences(before.types, after.types))


def _differences(before: Sequence[TypeSize], after: Sequence[TypeSize]) -> list[TypeSize]:
    held: dict[ActorType, tuple[int, int]] = {one.type: (one.actors, one.bytes) for one in after}
    for one in before:
        actors, size = held.get(one.type, (0, 0))
        held[one.type] = (actors - one.actors, size - one.bytes)
    return [TypeSize(of, *held[of]) for of in sorted(held)]


async def largest(store: Store, clock: Clock, most: int) -> Largest:
    """Look at up to `most` actors, page by page. Raises StoreError."""
    found: list[ActorSize] = []
    last: str | None = None
    count = 0
    while count < most:
        limit = min(PAGE, most - count)
        page = await look(clock, store.list_sizes(after=last, limit=limit))
        found = heapq.nlargest(LARGEST, found + page, key=lambda one: one.bytes)
        count += len(page)
        if len(page) < limit:
            return Largest(count, True, found)
        last = page[-1].id
    rest = await look(clock, store.list_sizes(after=last, limit=1))
    return Largest(count, not rest, found)
