"""Whether a store takes writes: a look that changes nothing which anybody reads."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from rivet_ray.store.ports import Store


@runtime_checkable
class Probing(Protocol):
    """A store that can try a write. Drivers need not be."""

    async def probe(self) -> None:
        """Write something small that nobody reads. Raises StoreError if it is not durable."""
        ...


async def probe(store: Store) -> None:
    """Try a write; a driver without a probe is asked no more than a look-up."""
    if isinstance(store, Probing):
        await store.probe()
    else:
        await store.find_by_id("health")
