"""Indexes and sizes: what a store knows of all actors of a type."""

from __future__ import annotations

from rivet_ray.store import ActorType, CommitResult, IndexEntry, Store, TypeSize
from rivet_ray.testing.conformance.base import (
    ConformanceBase,
    Owner,
    create,
    create_owned,
    look,
    owner_of,
)

COUNTER = ActorType("default", "counter")
IN_ORDER = [(), ("",), ("", "a"), ("a",), ("a", ""), ("a", "b"), ("a\x00",), ("ab",), ("é",)]
"""Keys, as index 0 has them."""
VALUES = [b"", b"\x00", b"\x00\x00", b"\x00\x01", b"\x01", b"a", b"a\x00", b"a\x01", b"b", b"\xff"]
"""Values in their order."""


async def with_value(store: Store, key: str, value: bytes | None, index: int = 1) -> Owner:
    owner = await create_owned(store, key)
    await owner.commit(entries={index: value})
    return owner


async def keys_of(
    store: Store, index: int = 1, *, start: bytes = b"", end: bytes | None = None
) -> list[str]:
    found = await store.list_index(COUNTER, index, start=start, end=end)
    return [entry.key[0] for entry in found]


class IndexConformance(ConformanceBase):
    # --- By key ------------------------------------------------------------------

    async def test_index_0_has_the_living_actors_of_a_type_by_key(self, store: Store) -> None:
        assert await store.list_index(COUNTER) == []
        records = {key: await create(store, key=key) for key in reversed(IN_ORDER)}
        await create(store, "other")
        await create(store, namespace="elsewhere")
        expected = [IndexEntry(b"", key, records[key].id) for key in IN_ORDER]
        assert await store.list_index(COUNTER) == expected
        gone = await owner_of(store, records["a",])
        await gone.commit(destroy=True)
        assert gone.id not in {entry.id for entry in await store.list_index(COUNTER)}
        again = await create(store, key=("a",))
        assert IndexEntry(b"", ("a",), again.id) in await store.list_index(COUNTER)

    async def test_index_0_is_narrowed_by_whole_parts_of_keys(self, store: Store) -> None:
        for key in IN_ORDER:
            await create(store, key=key)
        for prefix in ((), ("",), ("a",), ("a", "b"), ("x",)):
            found = await store.list_index(COUNTER, prefix=prefix)
            expected = [key for key in IN_ORDER if key[: len(prefix)] == prefix]
            assert [entry.key for entry in found] == expected

    async def test_pages_of_an_index_neither_skip_nor_repeat(self, store: Store) -> None:
        for number in range(23):
            await with_value(store, f"{number:02}", b"%d" % (number % 3))
        for index in (0, 1):
            whole = await store.list_index(COUNTER, index)
            assert len(whole) == 23
            for limit in (1, 5, 22, 23, 24):
                pages: list[IndexEntry] = []
                while page := await store.list_index(
                    COUNTER, index, after=pages[-1] if pages else None, limit=limit
                ):
                    assert len(page) <= limit
                    pages += page
                assert pages == whole
        assert await store.list_index(COUNTER, limit=0) == []

    async def test_a_page_goes_on_behind_an_actor_that_is_gone(self, store: Store) -> None:
        owners = [await with_value(store, name, name.encode()) for name in "abcd"]
        first, second = await store.list_index(COUNTER, 1, limit=2)
        await owners[1].commit(destroy=True, entries={1: None})
        assert [entry.key for entry in await store.list_index(COUNTER, 1, after=second)] == [
            ("c",),
            ("d",),
        ]
        assert first.key == ("a",)

    async def test_the_limit_of_an_index_is_100_where_none_is_given(self, store: Store) -> None:
        for number in range(101):
            await create(store, key=(f"{number:03}",))
        found = await store.list_index(COUNTER)
        assert [entry.key[0] for entry in found] == [f"{number:03}" for number in range(100)]

    # --- By value ----------------------------------------------------------------

    async def test_an_index_has_actors_by_value_then_by_key(self, store: Store) -> None:
        for number, value in enumerate(reversed(VALUES)):
            await with_value(store, f"{number}", value)
        await with_value(store, "same", b"a")
        found = await store.list_index(COUNTER, 1)
        assert [entry.value for entry in found] == sorted([*VALUES, b"a"])
        assert found == sorted(found, key=lambda entry: (entry.value, entry.key))
        assert await store.list_index(COUNTER, 2) == []
        assert await store.list_index(ActorType("default", "other"), 1) == []

    async def test_an_index_is_narrowed_by_values(self, store: Store) -> None:
        for value in VALUES:
            await with_value(store, value.hex(), value)
        for start in VALUES:
            for end in (None, *VALUES):
                found = await store.list_index(COUNTER, 1, start=start, end=end)
                expected = [value for value in VALUES if value >= start]
                if end is not None:
                    expected = [value for value in expected if value < end]
                assert [entry.value for entry in found] == expected

    async def test_an_entry_is_replaced_and_removed_with_a_commit(self, store: Store) -> None:
        owner = await with_value(store, "a", b"x")
        await owner.commit(put={"a": b"1"})
        assert await keys_of(store) == ["a"]
        await owner.commit(entries={1: b"y", 2: b"z"})
        assert await keys_of(store, start=b"x", end=b"y") == []
        assert await keys_of(store, start=b"y") == ["a"]
        assert dict((await look(store, owner.id)).entries) == {1: b"y", 2: b"z"}
        owner = await owner_of(store, owner.record)
        await owner.commit(entries={1: None})
        assert await keys_of(store) == []
        assert await keys_of(store, 2) == ["a"]
        await owner.commit(entries={1: None, 2: b"z"})
        assert dict((await look(store, owner.id)).entries) == {2: b"z"}

    async def test_a_destroyed_actor_is_in_no_index(self, store: Store) -> None:
        owner = await with_value(store, "a", b"x")
        await owner.commit(destroy=True, entries={1: None})
        assert await keys_of(store, 0) == await keys_of(store, 1) == []
        again = await owner_of(store, await create(store, key=("a",)))
        assert dict((await look(store, again.id)).entries) == {}
        assert await keys_of(store, 0) == ["a"]
        assert await keys_of(store, 1) == []

    async def test_a_refused_or_repeated_commit_changes_no_entry(self, store: Store) -> None:
        owner = await with_value(store, "a", b"x")
        stale = owner.next(entries={1: b"stale"})
        owner = await owner_of(store, owner.record, "next")
        assert await store.commit([stale]) == [CommitResult.FENCED]
        first = await owner.commit(entries={1: b"y"})
        await owner.commit(entries={1: b"z"})
        assert await store.commit([first]) == [CommitResult.FENCED]
        assert [entry.value for entry in await store.list_index(COUNTER, 1)] == [b"z"]

    async def test_a_batch_changes_entries_of_each(self, store: Store) -> None:
        owners = [await create_owned(store, str(number)) for number in range(9)]
        batch = [owner.next(entries={1: b"%d" % (9 - at)}) for at, owner in enumerate(owners)]
        assert await store.commit(batch) == [CommitResult.COMMITTED] * 9
        assert await keys_of(store) == [str(number) for number in range(8, -1, -1)]

    # --- Types and sizes -----------------------------------------------------------

    async def test_a_commit_names_the_type_of_its_actor(self, store: Store) -> None:
        owner = await with_value(store, "a", b"x")
        for wrong in (ActorType("default", "other"), ActorType("elsewhere", "counter")):
            commit = owner.next(put={"a": b"1"}, alarm=1.0, type=wrong)
            assert await store.commit([commit]) == [CommitResult.FENCED]
        assert await store.next_alarm() is None

    async def test_sizes_are_those_of_inputs_and_parts(self, store: Store) -> None:
        assert await store.sizes() == []
        one, two = await create_owned(store, "a"), await create_owned(store, "b")
        await create(store, "other")
        await one.commit(put={"a": b"12345", "b": b"6"})
        await two.commit(put={"a": b"123"}, alarm=1.0)
        other = TypeSize(ActorType("default", "other"), 1, 0)
        assert await store.sizes() == [TypeSize(COUNTER, 2, 9), other]
        await one.commit(put={"a": b"12", "c": b"789"}, delete=frozenset({"b", "none"}))
        assert await store.sizes() == [TypeSize(COUNTER, 2, 8), other]
        await one.commit(put={"a": b"1"}, delete=frozenset({"a", "b"}))
        assert await store.sizes() == [TypeSize(COUNTER, 2, 7), other], "what is in both is put"
        await one.commit(put={"a": b"21"})
        await one.commit(destroy=True)
        assert await store.sizes() == [TypeSize(COUNTER, 1, 3), other]
        await two.commit(destroy=True)
        assert await store.sizes() == [other]
