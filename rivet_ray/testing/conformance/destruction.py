"""The end of an actor, and what of it outlives it."""

from __future__ import annotations

from dataclasses import replace

from rivet_ray.store import ActorType, Commit, CommitResult, Fence, Store
from rivet_ray.testing.conformance.base import (
    ConformanceBase,
    create,
    create_owned,
    look,
    owner_of,
)

COMMITTED = CommitResult.COMMITTED
ALREADY_DONE = CommitResult.ALREADY_DONE
FENCED = CommitResult.FENCED


class DestructionConformance(ConformanceBase):
    async def test_a_destroyed_actor_is_gone(self, store: Store) -> None:
        owner = await create_owned(store)
        other = await create_owned(store, "other")
        await owner.commit(put={"a": b"1"}, alarm=5.0)
        await owner.commit(destroy=True)
        assert await store.find("default", "counter", ("k",)) is None
        assert await store.find_by_id(owner.id) is None
        assert await store.list_actors("default") == [other.record]
        assert await store.list_actors("default", "counter", ("k",)) == []
        assert await store.claim(owner.id, "t") is None
        assert await store.next_alarm() is None
        assert await store.alarms_due(10.0) == []

    async def test_a_destroy_is_done_once(self, store: Store) -> None:
        owner = await create_owned(store)
        destroy = await owner.commit(destroy=True)
        for _ in range(3):
            assert await store.commit([destroy]) == [ALREADY_DONE]

    async def test_a_repeated_destroy_leaves_the_next_actor_alone(self, store: Store) -> None:
        owner = await create_owned(store)
        destroy = await owner.commit(destroy=True)
        record = await create(store)
        assert await store.commit([destroy]) == [ALREADY_DONE]
        assert await store.find("default", "counter", ("k",)) == record
        await (await owner_of(store, record)).commit(destroy=True)
        assert await store.commit([destroy]) == [ALREADY_DONE]

    async def test_a_destroyed_actor_takes_no_commits(self, store: Store) -> None:
        owner = await create_owned(store)
        before = await owner.commit(put={"a": b"1"})
        destroy = await owner.commit(destroy=True)
        stranger = Fence(owner.fence.epoch, "somebody else")
        for stale in (
            before,
            owner.next(put={"a": b"2"}, alarm=1.0),
            owner.next(destroy=True),
            replace(destroy, fence=stranger),
            replace(destroy, fence=Fence(owner.fence.epoch + 1, owner.fence.token)),
        ):
            assert await store.commit([stale]) == [FENCED]
        assert await store.find_by_id(owner.id) is None
        assert await store.next_alarm() is None

    async def test_a_destroy_needs_the_fence_and_the_sequence(self, store: Store) -> None:
        old = await create_owned(store)
        new = await owner_of(store, old.record, "new")
        assert await store.commit([old.next(destroy=True)]) == [FENCED]
        gap = Commit(new.id, new.fence, 2, destroy=True, type=new.record.type)
        assert await store.commit([gap]) == [CommitResult.BEHIND]
        assert await store.find_by_id(new.id) == new.record
        await new.commit(destroy=True)

    async def test_a_destroy_in_a_batch(self, store: Store) -> None:
        owner, other = await create_owned(store), await create_owned(store, "other")
        first = owner.next(put={"a": b"1"}, alarm=1.0)
        destroy = owner.next(destroy=True)
        late = owner.next(put={"a": b"2"})
        batch = [first, destroy, other.next(put={"b": b"1"}), destroy, late]
        expected = [COMMITTED, COMMITTED, COMMITTED, ALREADY_DONE, FENCED]
        assert await store.commit(batch) == expected
        assert await store.find_by_id(owner.id) is None
        assert dict((await look(store, other.id)).parts) == {"b": b"1"}

    async def test_the_next_actor_starts_with_nothing(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit(put={"a": b"1", "b": b"2"}, alarm=5.0)
        await owner.commit(destroy=True)
        record = await create(store)
        assert await store.next_alarm() is None
        claim = await look(store, record.id)
        assert (claim.sequence, dict(claim.parts), claim.alarm) == (0, {}, None)

    async def test_the_epoch_goes_on_after_a_destroy(self, store: Store) -> None:
        owner = await create_owned(store)
        epoch = owner.fence.epoch
        for _ in range(3):
            await owner.commit(destroy=True)
            owner = await owner_of(store, await create(store))
            epoch += 1
            assert owner.fence.epoch == epoch

    async def test_an_owner_of_the_old_actor_stays_fenced(self, store: Store) -> None:
        old = await create_owned(store)
        await old.commit(put={"a": b"old"})
        await old.commit(destroy=True)
        record = await create(store)
        for claimed in (False, True):
            if claimed:
                await owner_of(store, record, "new")
            for actor_id in (old.id, record.id):
                for sequence in (0, 1, 3):
                    for destroy in (False, True):
                        stale = Commit(
                            actor_id,
                            old.fence,
                            sequence,
                            {"a": b"stale"},
                            destroy=destroy,
                            type=ActorType("default", "counter"),
                        )
                        assert await store.commit([stale]) == [FENCED]
        claim = await look(store, record.id)
        assert (claim.sequence, dict(claim.parts)) == (0, {})

    async def test_a_destroyed_actor_leaves_its_neighbours_alone(self, store: Store) -> None:
        owners = [await create_owned(store, *key) for key in (("a",), ("a", "b"), ("ab",))]
        for owner in owners:
            await owner.commit(put={"id": owner.id.encode()}, alarm=1.0)
        await owners[0].commit(destroy=True)
        assert len(await store.alarms_due(1.0)) == 2
        for owner in owners[1:]:
            assert await store.find_by_id(owner.id) == owner.record
            assert dict((await look(store, owner.id)).parts) == {"id": owner.id.encode()}
