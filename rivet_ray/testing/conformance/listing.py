"""The directory: listing actors, page by page."""

from __future__ import annotations

from rivet_ray.ids import Key
from rivet_ray.store import ActorRecord, Store
from rivet_ray.testing.conformance.base import ConformanceBase, create, owner_of


def by_id(records: list[ActorRecord]) -> list[ActorRecord]:
    return sorted(records, key=lambda record: record.id)


class ListingConformance(ConformanceBase):
    async def test_an_empty_store_lists_nothing(self, store: Store) -> None:
        assert await store.list_actors("default") == []
        assert await store.list_actors("default", "counter", ("k",), after="0", limit=1) == []

    async def test_actors_are_listed_in_the_order_of_their_ids(self, store: Store) -> None:
        records = [await create(store, key=(str(number),)) for number in range(30)]
        assert await store.list_actors("default") == by_id(records)

    async def test_generations_are_listed_in_the_order_of_their_ids(self, store: Store) -> None:
        for _ in range(3):
            owner = await owner_of(store, await create(store, key=("a",)))
            await owner.commit(destroy=True)
        records = [await create(store, key=("a",)), await create(store, key=("b",))]
        assert await store.list_actors("default") == by_id(records)

    async def test_a_name_selects(self, store: Store) -> None:
        counters = [await create(store, "counter", (str(number),)) for number in range(5)]
        rooms = [await create(store, "room", (str(number),)) for number in range(5)]
        assert await store.list_actors("default", "counter") == by_id(counters)
        assert await store.list_actors("default", "room") == by_id(rooms)
        assert await store.list_actors("default", "count") == []
        assert await store.list_actors("default") == by_id(counters + rooms)

    async def test_a_prefix_compares_whole_parts(self, store: Store) -> None:
        keys: list[Key] = [
            (),
            ("a",),
            ("a", "b"),
            ("a", "b", "c"),
            ("a", "bc"),
            ("ab",),
            ("a:b",),
            ("b", "a"),
            ("", "a"),
            ("%",),
            ("A", "b"),
        ]
        records = [await create(store, key=key) for key in keys]
        prefixes: list[Key] = [*keys, ("c",), ("a", ""), ("_",), ("*",)]
        for prefix in prefixes:
            expected = [record for record in records if record.key[: len(prefix)] == prefix]
            assert await store.list_actors("default", prefix=list(prefix)) == by_id(expected)
            assert await store.list_actors("default", "counter", prefix) == by_id(expected)
            assert await store.list_actors("default", "room", prefix) == []

    async def test_at_most_limit_actors_are_listed(self, store: Store) -> None:
        records = by_id([await create(store, key=(str(number),)) for number in range(5)])
        for limit in (0, 1, 4, 5, 6):
            assert await store.list_actors("default", limit=limit) == records[:limit]

    async def test_the_limit_is_100_where_none_is_given(self, store: Store) -> None:
        records = by_id([await create(store, key=(str(number),)) for number in range(101)])
        assert await store.list_actors("default") == records[:100]

    async def test_a_page_goes_on_after_the_last_id(self, store: Store) -> None:
        records = by_id([await create(store, key=(str(number),)) for number in range(7)])
        for index, record in enumerate(records):
            found = await store.list_actors("default", after=record.id, limit=3)
            assert found == records[index + 1 : index + 4]

    async def test_pages_are_complete_with_a_filter(self, store: Store) -> None:
        wanted = [await create(store, "counter", ("a", str(number))) for number in range(11)]
        for number in range(11):
            await create(store, "counter", ("b", str(number)))
            await create(store, "room", ("a", str(number)))
            await create(store, "counter", ("a", str(number)), "other")
        found: list[ActorRecord] = []
        after: str | None = None
        while page := await store.list_actors("default", "counter", ("a",), after=after, limit=4):
            assert len(page) <= 4
            found += page
            after = page[-1].id
        assert found == by_id(wanted)

    async def test_a_page_goes_on_after_an_actor_that_is_gone(self, store: Store) -> None:
        records = by_id([await create(store, key=(str(number),)) for number in range(5)])
        await (await owner_of(store, records[2])).commit(destroy=True)
        assert await store.list_actors("default", after=records[2].id) == records[3:]
        assert await store.list_actors("default") == records[:2] + records[3:]

    async def test_an_unknown_id_is_a_place_in_the_order(self, store: Store) -> None:
        records = by_id([await create(store, key=(str(number),)) for number in range(3)])
        assert await store.list_actors("default", after="") == records
        assert await store.list_actors("default", after=records[1].id + "-0") == records[2:]
        assert await store.list_actors("default", after="g") == []
