"""Reading an actor without owning it."""

from __future__ import annotations

import asyncio

from rivet_ray.ids import actor_id
from rivet_ray.store import (
    Claim,
    Claimant,
    CommitResult,
    NewActor,
    Ownership,
    Snapshot,
    Stamp,
    Store,
)
from rivet_ray.testing.conformance.base import (
    CREATED_AT,
    ConformanceBase,
    Owner,
    create,
    create_owned,
    owner_of,
)
from rivet_ray.testing.conformance.ownership import PARTS


class ReadingConformance(ConformanceBase):
    """`read`."""

    async def test_only_what_lives_can_be_read(self, store: Store) -> None:
        """The tombstone of an actor, and the next life of its key, are not the actor."""
        for nobody in (actor_id("default", "counter", ["k"]), "", "g", "0" * 16 + "-x"):
            assert await store.read(nobody) is None
        owner = await create_owned(store)
        await owner.commit(put={"a": b"1"})
        await owner.commit(destroy=True)
        assert await store.read(owner.id) is None
        again = await create(store)
        assert await store.read(owner.id) is None
        assert await store.read(again.id) == Snapshot(
            again, Ownership(epoch=owner.fence.epoch), 0, {}, None
        )

    async def test_a_new_actor_is_read_as_it_was_created(self, store: Store) -> None:
        new = NewActor("default", "counter", ("k", "\x00"), b"\x81\xa1x\x01", "eu", CREATED_AT)
        record, _ = await store.create(new)
        assert await store.read(record.id) == Snapshot(record, Ownership(), 0, {}, None)

    async def test_what_the_last_commit_left_is_read(self, store: Store) -> None:
        record = await create(store)
        claim = await store.claim(record.id, "t", Claimant("host-1"))
        assert isinstance(claim, Claim)
        owner = Owner(store, claim)
        stamp = Stamp(3, "code")
        await owner.commit(put=PARTS, stamp=stamp, alarm=CREATED_AT, entries={1: b"x", 3: b""})
        ownership = Ownership("host-1", owner.fence.epoch, stamp)
        expected = Snapshot(record, ownership, 1, PARTS, CREATED_AT, {1: b"x", 3: b""})
        assert await store.read(record.id) == expected
        await owner.commit(put={"a": b"2"}, delete=frozenset(PARTS) - {"a"}, entries={1: None})
        expected = Snapshot(record, ownership, 2, {"a": b"2"}, None, {3: b""})
        assert await store.read(record.id) == expected

    async def test_a_read_changes_nothing(self, store: Store) -> None:
        """Nobody is fenced, no epoch is taken: the owner goes on, and the next one follows it."""
        owner = await create_owned(store)
        first = await owner.commit(put={"a": b"1"}, alarm=5.0)
        reads = await asyncio.gather(*(store.read(owner.id) for _ in range(20)))
        assert all(read == reads[0] for read in reads)
        assert await store.commit([first]) == [CommitResult.ALREADY_DONE]
        await owner.commit(put={"b": b"2"})
        assert reads[0] is not None
        assert dict(reads[0].parts) == {"a": b"1"}, "what was read does not change"
        assert await store.find_ownership(owner.id) == Ownership("", owner.fence.epoch)
        assert await store.next_alarm() is None
        following = await owner_of(store, owner.record, "next")
        assert (following.fence.epoch, following.sequence) == (owner.fence.epoch + 1, 2)

    async def test_a_claim_without_a_commit_is_read_too(self, store: Store) -> None:
        """The parts are those of the owner before."""
        owner = await create_owned(store)
        await owner.commit(put={"a": b"1"}, stamp=Stamp(1, "code"))
        await store.claim(owner.id, "t", Claimant("host-2"))
        found = await store.read(owner.id)
        assert found is not None
        assert found.ownership == Ownership("host-2", owner.fence.epoch + 1, Stamp(1, "code"))
        assert (found.sequence, dict(found.parts)) == (1, {"a": b"1"})

    async def test_a_read_is_of_one_moment(self, store: Store) -> None:
        """Of a commit all or nothing is read, whatever is written meanwhile."""
        owner = await create_owned(store)

        async def write() -> None:
            for number in range(1, 40):
                value = b"%d" % number
                await owner.commit(put={"a": value, "b": value}, alarm=float(number))

        writing = asyncio.ensure_future(write())
        while not writing.done():
            found = await store.read(owner.id)
            assert found is not None
            value = b"%d" % found.sequence
            if found.sequence:
                assert dict(found.parts) == {"a": value, "b": value}
                assert found.alarm == float(found.sequence)
            await asyncio.sleep(0)
        await writing
