"""Sizes of actors, page by page."""

from __future__ import annotations

from rivet_ray.ids import actor_id
from rivet_ray.store import ActorSize, ActorType, NewActor, Store, TypeSize
from rivet_ray.testing.conformance.base import ConformanceBase, create, create_owned, owner_of

COUNTER = ActorType("default", "counter")


def by_id(sizes: list[ActorSize]) -> list[ActorSize]:
    return sorted(sizes, key=lambda size: size.id)


class SizeConformance(ConformanceBase):
    async def test_the_size_of_an_actor_is_that_of_its_input_and_parts(self, store: Store) -> None:
        """After each change; its tombstone has none."""
        record, _ = await store.create(NewActor("default", "counter", ("k", "l"), b"12345"))

        def size(bytes: int) -> list[ActorSize]:
            return [ActorSize(record.id, COUNTER, ("k", "l"), bytes)]

        assert await store.list_sizes() == size(5)
        owner = await owner_of(store, record)
        await owner.commit(put={"a": b"123", "b": b"4"}, alarm=5.0)
        assert await store.list_sizes() == size(9)
        await owner.commit(put={"a": b"", "c": b"56789"}, delete=frozenset({"b", "none"}))
        assert await store.list_sizes() == size(10)
        await owner.commit(destroy=True)
        assert await store.list_sizes() == []
        again = await create(store, key=("k", "l"))
        assert await store.list_sizes() == [ActorSize(again.id, COUNTER, again.key, 0)]

    async def test_sizes_are_listed_in_the_order_of_ids(self, store: Store) -> None:
        """Of all namespaces or of one, page by page; an unknown id is a place in the order."""
        expected: list[ActorSize] = []
        for number in range(15):
            place = "default" if number % 3 else "other"
            record = await create(store, key=(str(number),), namespace=place)
            owner = await owner_of(store, record)
            await owner.commit(put={"a": b"x" * number})
            expected.append(ActorSize(record.id, record.type, record.key, number))
        expected = by_id(expected)
        assert await store.list_sizes() == expected
        for namespace in (None, "default", "other"):
            wanted = [one for one in expected if namespace in (None, one.type.namespace)]
            found: list[ActorSize] = []
            last: str | None = None
            while page := await store.list_sizes(namespace, after=last, limit=4):
                assert len(page) <= 4
                assert last is None or page[0].id > last
                found += page
                last = page[-1].id
            assert found == wanted
        assert await store.list_sizes("none") == []
        assert await store.list_sizes(limit=0) == []
        assert await store.list_sizes(after="g") == []
        assert await store.list_sizes(after=expected[3].id + "-0") == expected[4:]

    async def test_the_sizes_of_actors_add_up_to_that_of_their_type(self, store: Store) -> None:
        for number in range(5):
            owner = await create_owned(store, str(number))
            await owner.commit(put={"a": b"x" * number})
        listed = await store.list_sizes()
        assert {one.id for one in listed} == {
            actor_id("default", "counter", (str(number),)) for number in range(5)
        }
        total = sum(one.bytes for one in listed)
        assert await store.sizes() == [TypeSize(COUNTER, len(listed), total)]
