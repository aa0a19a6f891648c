"""The directory: finding and creating actors."""

from __future__ import annotations

import asyncio

from rivet_ray.ids import Key, actor_id
from rivet_ray.store import ActorRecord, NewActor, Store
from rivet_ray.testing.conformance.base import CREATED_AT, ConformanceBase, create, owner_of

LONG = "x" * 128

KEYS: list[Key] = [
    (),
    ("",),
    ("", ""),
    ("a",),
    ("A",),
    ("a", ""),
    ("", "a"),
    ("a", "b"),
    ("b", "a"),
    ("ab",),
    ("a:b",),
    ("a\\:b",),
    ("a\\", "b"),
    ("a,b",),
    ("a/b",),
    ("(none)",),
    ('["a"]',),
    ("a\x00b",),
    ("a\nb",),
    (" a",),
    ("a ",),
    ("%",),
    ("_",),
    ("*",),
    ("?",),
    ("[a]",),
    ("{a}",),
    ("'; --",),
    ('"',),
    ("é",),
    ("e\u0301",),
    ("\u4e2d\u6587",),
    ("\U0001f600",),
    ("\ufffe",),
    (LONG,),
    (LONG + "x",),
    tuple(LONG for _ in range(50)),
]
"""No two of these are the same key, whatever a driver joins or escapes them with."""

NAMES = ["counter", "Counter", "counter ", "", "a:b", "a%", "é", "\U0001f600", "n" * 300]


class CreationConformance(ConformanceBase):
    async def test_what_was_never_created_is_not_found(self, store: Store) -> None:
        assert await store.find("default", "counter", ["k"]) is None
        assert await store.find_by_id(actor_id("default", "counter", ["k"])) is None
        assert await store.find_by_id("") is None

    async def test_a_new_actor_is_found_as_it_was_created(self, store: Store) -> None:
        new = NewActor("default", "counter", ("k",), b"\x00\xff", "eu", CREATED_AT)
        record, created = await store.create(new)
        assert created
        assert record == ActorRecord(
            actor_id("default", "counter", ["k"]),
            "default",
            "counter",
            ("k",),
            b"\x00\xff",
            "eu",
            CREATED_AT,
        )
        assert await store.find("default", "counter", ("k",)) == record
        assert await store.find("default", "counter", ["k"]) == record
        assert await store.find_by_id(record.id) == record

    async def test_no_input_is_not_empty_input(self, store: Store) -> None:
        for key, given, region in (("none", None, None), ("empty", b"", "")):
            record, _ = await store.create(NewActor("default", "counter", (key,), given, region))
            found = await store.find_by_id(record.id)
            assert found == record
            assert (record.input, record.region, record.created_at) == (given, region, 0.0)

    async def test_a_large_input_is_kept(self, store: Store) -> None:
        data = bytes(range(256)) * 4096
        await store.create(NewActor("default", "counter", ("k",), data))
        found = await store.find("default", "counter", ("k",))
        assert found is not None
        assert found.input == data

    async def test_what_exists_is_not_created_again(self, store: Store) -> None:
        first, _ = await store.create(NewActor("default", "counter", ("k",), b"1", "eu", 1.0))
        second, created = await store.create(
            NewActor("default", "counter", ("k",), b"2", "us", 2.0)
        )
        assert not created
        assert second == first
        assert await store.find_by_id(first.id) == first

    async def test_of_many_creates_at_once_exactly_one_creates(self, store: Store) -> None:
        results = await asyncio.gather(
            *(
                store.create(NewActor("default", "counter", ("k",), str(number).encode()))
                for number in range(200)
            )
        )
        winners = [(number, record) for number, (record, created) in enumerate(results) if created]
        assert len(winners) == 1
        number, winner = winners[0]
        assert winner.input == str(number).encode()
        assert all(record == winner for record, _ in results)
        assert await store.list_actors("default") == [winner]

    async def test_creates_of_different_actors_at_once_all_create(self, store: Store) -> None:
        results = await asyncio.gather(
            *(store.create(NewActor("default", "counter", (str(n),))) for n in range(100))
        )
        assert all(created for _, created in results)
        assert len({record.id for record, _ in results}) == 100

    async def test_ids_are_the_ones_that_ids_gives(self, store: Store) -> None:
        assert (await create(store, key=("a",))).id == "704e99e868244ebb"
        assert (await create(store, key=("a",), namespace="other")).id == actor_id(
            "other", "counter", ["a"]
        )

    async def test_generations_follow_destroys(self, store: Store) -> None:
        for generation in range(1, 4):
            record = await create(store, key=("a",))
            assert record.id == actor_id("default", "counter", ["a"], generation)
            owner = await owner_of(store, record)
            await owner.commit(destroy=True)

    async def test_a_destroyed_actor_has_one_successor(self, store: Store) -> None:
        owner = await owner_of(store, await create(store, key=("a",)))
        await owner.commit(destroy=True)
        results = await asyncio.gather(
            *(store.create(NewActor("default", "counter", ("a",))) for _ in range(50))
        )
        assert sum(created for _, created in results) == 1
        assert {record.id for record, _ in results} == {
            actor_id("default", "counter", ["a"], 2),
        }

    async def test_a_successor_has_its_own_input(self, store: Store) -> None:
        first, _ = await store.create(NewActor("default", "counter", ("a",), b"1", "eu", 1.0))
        await (await owner_of(store, first)).commit(destroy=True)
        second, created = await store.create(NewActor("default", "counter", ("a",), None, None, 2))
        assert created
        assert (second.input, second.region, second.created_at) == (None, None, 2.0)
        assert await store.find("default", "counter", ("a",)) == second

    async def test_keys_are_kept_apart(self, store: Store) -> None:
        records = [await create(store, key=key) for key in KEYS]
        assert len({record.id for record in records}) == len(KEYS)
        for key, record in zip(KEYS, records, strict=True):
            assert record.key == key
            assert record.id == actor_id("default", "counter", key)
            assert await store.find("default", "counter", key) == record
            assert await store.find_by_id(record.id) == record
        listed = await store.list_actors("default", limit=len(KEYS) + 1)
        assert sorted(listed, key=lambda record: record.key) == sorted(
            records, key=lambda record: record.key
        )

    async def test_names_are_kept_apart(self, store: Store) -> None:
        records = [await create(store, name) for name in NAMES]
        for name, record in zip(NAMES, records, strict=True):
            assert await store.find("default", name, ("k",)) == record
            assert await store.list_actors("default", name) == [record]
        assert await store.find("default", "none", ("k",)) is None

    async def test_a_name_and_a_key_do_not_run_into_each_other(self, store: Store) -> None:
        places = [("a", ("b", "c")), ("a:b", ("c",)), ("a", ("b:c",)), ("", ("a", "b", "c"))]
        records = [await create(store, name, key) for name, key in places]
        for (name, key), record in zip(places, records, strict=True):
            assert (record.name, record.key) == (name, key)
            assert await store.find("default", name, key) == record

    async def test_namespaces_are_kept_apart(self, store: Store) -> None:
        namespaces = ["default", "Default", "other", "", "default:counter", "é"]
        records = [await create(store, namespace=namespace) for namespace in namespaces]
        assert len({record.id for record in records}) == len(namespaces)
        for namespace, record in zip(namespaces, records, strict=True):
            assert record.namespace == namespace
            assert await store.find(namespace, "counter", ("k",)) == record
            assert await store.find_by_id(record.id) == record
            assert await store.list_actors(namespace) == [record]
        assert await store.find("none", "counter", ("k",)) is None
        assert await store.list_actors("none") == []
