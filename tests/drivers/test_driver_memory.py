"""`memory://` keeps every promise of the store port."""

from __future__ import annotations

from driver_leases import age_in_memory

from rivet_ray.store import NewActor, Store, open_store
from rivet_ray.testing import StoreConformance


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
