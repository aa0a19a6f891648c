"""What a store that outlives its process still knows when it is opened again."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from rivet_ray.errors import StoreUnavailable
from rivet_ray.ids import actor_id
from rivet_ray.store import Claim, CommitResult, Fence, IndexEntry, NewActor, Stamp, Store, TypeSize
from rivet_ray.testing.conformance.base import (
    CREATED_AT,
    ConformanceBase,
    create,
    create_owned,
    look,
    owner_of,
)
from rivet_ray.testing.conformance.creation import KEYS
from rivet_ray.testing.conformance.ownership import PARTS


class DurabilityConformance(ConformanceBase):
    async def reopen(self, store: Store) -> Store:
        """Close the store and open what it kept."""
        await store.close()
        return await self.open_store()

    async def _again(self, store: Store) -> Store:
        self._open = await self.reopen(store)
        return self._open

    async def test_actors_are_found_again(self, store: Store) -> None:
        records = [
            (
                await store.create(
                    NewActor("default", "counter", key, str(key).encode(), "eu", CREATED_AT)
                )
            )[0]
            for key in KEYS
        ]
        elsewhere = await create(store, namespace="other")
        store = await self._again(store)
        for key, record in zip(KEYS, records, strict=True):
            assert await store.find("default", "counter", key) == record
            assert await store.find_by_id(record.id) == record
            assert await store.create(NewActor("default", "counter", key)) == (record, False)
        listed = await store.list_actors("default", limit=len(KEYS) + 1)
        assert listed == sorted(records, key=lambda record: record.id)
        assert await store.list_actors("other") == [elsewhere]

    async def test_a_snapshot_is_found_again(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit(put={**PARTS, "gone": b"1"}, alarm=5.0)
        await owner.commit(put={"a": b"2"}, delete=frozenset({"gone"}), alarm=CREATED_AT)
        store = await self._again(store)
        assert await store.next_alarm() == CREATED_AT
        assert await store.alarms_due(CREATED_AT) == [(CREATED_AT, owner.id)]
        claim = await store.claim(owner.id, "new")
        assert isinstance(claim, Claim)
        assert claim.record == owner.record
        assert claim.fence == Fence(owner.fence.epoch + 1, "new")
        assert dict(claim.parts) == {**PARTS, "a": b"2"}
        assert (claim.sequence, claim.alarm) == (2, CREATED_AT)

    async def test_indexes_sizes_and_types_of_alarms_are_found_again(self, store: Store) -> None:
        owner = await create_owned(store, "a")
        await owner.commit(put={"a": b"123"}, alarm=5.0, entries={1: b"x"})
        other = await owner_of(store, await create(store, "other"))
        await other.commit(alarm=4.0)
        store = await self._again(store)
        counter = owner.record.type
        assert await store.list_index(counter) == [IndexEntry(b"", ("a",), owner.id)]
        assert await store.list_index(counter, 1) == [IndexEntry(b"x", ("a",), owner.id)]
        assert await store.sizes() == [TypeSize(counter, 1, 3), TypeSize(other.record.type, 1, 0)]
        assert await store.alarms_due(9.0, types=[counter]) == [(5.0, owner.id)]
        assert await store.next_alarm(types=[counter]) == 5.0
        assert [size.bytes for size in await store.list_sizes("default", limit=2)] in (
            [3, 0],
            [0, 3],
        )

    async def test_an_actor_is_read_again(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit(put=PARTS, stamp=Stamp(2, "code"), alarm=CREATED_AT, entries={1: b"x"})
        before = await store.read(owner.id)
        store = await self._again(store)
        assert await store.read(owner.id) == before

    async def test_an_owner_stays_the_owner(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit(put={"a": b"1"})
        last = await owner.commit(put={"b": b"2"})
        owner.store = store = await self._again(store)
        assert await store.commit([last]) == [CommitResult.ALREADY_DONE]
        stale = replace(last, fence=Fence(owner.fence.epoch, "somebody else"), sequence=3)
        assert await store.commit([stale]) == [CommitResult.FENCED]
        assert await store.commit([replace(last, sequence=4)]) == [CommitResult.BEHIND]
        await owner.commit(put={"c": b"3"})
        assert dict((await look(store, owner.id)).parts) == {"a": b"1", "b": b"2", "c": b"3"}

    async def test_a_fenced_owner_stays_fenced(self, store: Store) -> None:
        old = await create_owned(store)
        new = await owner_of(store, old.record, "new")
        new.store = store = await self._again(store)
        assert await store.commit([old.next(put={"a": b"1"})]) == [CommitResult.FENCED]
        await new.commit(put={"a": b"2"})

    async def test_a_destroyed_actor_stays_destroyed(self, store: Store) -> None:
        owner = await create_owned(store, "a")
        await owner.commit(put={"a": b"1"}, alarm=5.0)
        destroy = await owner.commit(destroy=True)
        store = await self._again(store)
        assert await store.find("default", "counter", ("a",)) is None
        assert await store.find_by_id(owner.id) is None
        assert await store.list_actors("default") == []
        assert await store.next_alarm() is None
        assert await store.commit([destroy]) == [CommitResult.ALREADY_DONE]
        assert await store.commit([owner.next()]) == [CommitResult.FENCED]
        record = await create(store, key=("a",))
        assert record.id == actor_id("default", "counter", ["a"], 2)
        new = await owner_of(store, record)
        assert new.fence.epoch == owner.fence.epoch + 1
        assert new.sequence == 0

    async def test_closing_finishes_the_writes_under_way(self, store: Store) -> None:
        owners = [await create_owned(store, str(number)) for number in range(20)]
        writes = [
            asyncio.ensure_future(store.commit([owner.next(put={"a": b"1"})])) for owner in owners
        ]
        await asyncio.sleep(0)
        store = await self._again(store)
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        for owner, outcome in zip(owners, outcomes, strict=True):
            parts = dict((await look(store, owner.id)).parts)
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, StoreUnavailable)
                assert parts in ({}, {"a": b"1"})
            else:
                assert outcome == [CommitResult.COMMITTED]
                assert parts == {"a": b"1"}
