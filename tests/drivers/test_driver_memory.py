"""`memory://` keeps every promise of the store port."""

from __future__ import annotations

from driver_leases import age_in_memory
from driver_tombstones import destroyed

from rivet_ray.ids import actor_id
from rivet_ray.store import (
    TOMBSTONE_KEPT,
    TOMBSTONES,
    CommitResult,
    NewActor,
    Store,
    open_store,
)
from rivet_ray.testing import StoreConformance
from rivet_ray_drivers.memory import MemoryStore


class TestMemory(StoreConformance):
    async def open_store(self) -> Store:
        return await open_store("memory://")

    async def age_leases(self, store: Store, seconds: float) -> None:
        age_in_memory(store, seconds)


async def test_two_stores_share_nothing() -> None:
    """Each `memory://` is a store of its own."""
    one, two = await open_store("memory://"), await open_store("memory://")
    await one.create(NewActor("default", "counter", ("k",)))
    assert await two.find("default", "counter", ("k",)) is None


async def test_a_large_directory_is_listed_in_pages() -> None:
    """No page is skipped or repeated, over more than two pages of the usual size."""
    store = await open_store("memory://")
    for number in range(250):
        await store.create(NewActor("default", "counter", (str(number),)))
    first = await store.list_actors("default")
    second = await store.list_actors("default", after=first[-1].id)
    third = await store.list_actors("default", after=second[-1].id)
    ids = [record.id for record in (*first, *second, *third)]
    assert ids == sorted(set(ids))
    assert (len(first), len(second), len(third)) == (100, 100, 50)


# --- Tombstones ---------------------------------------------------------------


def counter(key: str) -> NewActor:
    return NewActor("default", "counter", (key,))


async def test_tombstones_of_the_last_lives_of_a_key_are_kept() -> None:
    store = MemoryStore()
    commits = [await destroyed(store, "k") for _ in range(2 * TOMBSTONES)]
    results = await store.commit(commits)
    assert results == [CommitResult.FENCED] * TOMBSTONES + [CommitResult.ALREADY_DONE] * TOMBSTONES
    assert (await store.create(counter("k")))[0].id == actor_id(
        "default", "counter", ("k",), 2 * TOMBSTONES + 1
    )


async def test_old_tombstones_are_swept() -> None:
    store, now = MemoryStore(), 1_000.0
    store._tombstones.now = lambda: now
    first, again = await destroyed(store, "first"), await destroyed(store, "again")
    now += TOMBSTONE_KEPT
    latest = await destroyed(store, "again")
    assert await store.commit([first]) == [CommitResult.ALREADY_DONE]
    now += 1
    results = await store.commit([first, again, latest])
    assert results == [CommitResult.FENCED] + [CommitResult.ALREADY_DONE] * 2
    assert (await store.create(counter("first")))[0].id == actor_id(
        "default", "counter", ("first",)
    )
    assert (await store.create(counter("again")))[0].id == actor_id(
        "default", "counter", ("again",), 3
    )
    now += TOMBSTONE_KEPT
    await store.create(counter("any"))
    assert not store._tombstones._by_place
    assert not store._tombstones._places
