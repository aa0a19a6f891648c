"""Ownership: claims, their epochs and the snapshots they come with."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from rivet_ray.ids import actor_id
from rivet_ray.store import Commit, CommitResult, Fence, Store
from rivet_ray.testing.conformance.base import (
    ConformanceBase,
    Owner,
    create,
    create_owned,
    look,
    owner_of,
)

BYTES = bytes(range(256))

PARTS = {
    "": b"",
    "a": b"\x00",
    "A": BYTES,
    "a:b": b"\xc0",
    "a\\:b": b"1",
    "a.b": b"2",
    "é": b"3",
    "\U0001f600": b"4",
    "x" * 200: b"5",
    "__sequence__": b"6",
    "sequence": b"7",
    "epoch": b"8",
    "alarm": b"9",
    "input": b"10",
}
"""Names of parts are the fields of users, so a driver cannot keep any for itself."""


class OwnershipConformance(ConformanceBase):
    async def test_only_what_lives_can_be_claimed(self, store: Store) -> None:
        assert await store.claim(actor_id("default", "counter", ["k"]), "t") is None
        owner = await create_owned(store)
        await owner.commit(destroy=True)
        assert await store.claim(owner.id, "t") is None
        await create(store)
        assert await store.claim(owner.id, "t") is None

    async def test_a_new_actor_has_nothing_saved(self, store: Store) -> None:
        record = await create(store)
        claim = await store.claim(record.id, "t")
        assert claim is not None
        assert claim.record == record
        assert claim.fence.token == "t"
        assert (claim.sequence, dict(claim.parts), claim.alarm) == (0, {}, None)

    async def test_the_epoch_grows_by_one_with_each_claim(self, store: Store) -> None:
        record = await create(store)
        first = await owner_of(store, record, "0")
        for number in range(1, 10):
            claim = await store.claim(record.id, str(number))
            assert claim is not None
            assert claim.fence == Fence(first.fence.epoch + number, str(number))

    async def test_a_token_may_claim_again(self, store: Store) -> None:
        record = await create(store)
        old = await owner_of(store, record, "same")
        new = await owner_of(store, record, "same")
        assert new.fence == Fence(old.fence.epoch + 1, "same")
        assert await store.commit([old.next(put={"a": b"old"})]) == [CommitResult.FENCED]
        await new.commit(put={"a": b"new"})

    async def test_claims_at_once_have_epochs_of_their_own(self, store: Store) -> None:
        record = await create(store)
        claims = await asyncio.gather(*(store.claim(record.id, str(n)) for n in range(100)))
        owners = [Owner(store, claim) for claim in claims if claim is not None]
        owners.sort(key=lambda owner: owner.fence.epoch)
        start = owners[0].fence.epoch
        assert [owner.fence.epoch for owner in owners] == list(range(start, start + 100))
        results = await store.commit([owner.next(put={"by": b"x"}) for owner in owners])
        assert results == [CommitResult.FENCED] * 99 + [CommitResult.COMMITTED]

    async def test_actors_have_epochs_of_their_own(self, store: Store) -> None:
        one, two = await create(store, key=("1",)), await create(store, key=("2",))
        first = await owner_of(store, one)
        for _ in range(3):
            await owner_of(store, two)
        again = await owner_of(store, one)
        assert again.fence.epoch == first.fence.epoch + 1

    async def test_a_claim_fences_the_owner_before(self, store: Store) -> None:
        record = await create(store)
        old = await owner_of(store, record, "old")
        await old.commit(put={"a": b"1"}, alarm=5.0)
        new = await owner_of(store, record, "new")
        for stale in (
            old.next(put={"a": b"2"}),
            Commit(record.id, old.fence, new.sequence + 1, destroy=True),
            Commit(record.id, Fence(new.fence.epoch, old.fence.token), new.sequence + 1),
            Commit(record.id, Fence(old.fence.epoch, new.fence.token), new.sequence + 1),
            Commit(record.id, Fence(new.fence.epoch + 1, new.fence.token), new.sequence + 1),
        ):
            assert await store.commit([stale]) == [CommitResult.FENCED]
        await new.commit(put={"b": b"3"}, alarm=6.0)
        claim = await look(store, record.id)
        assert (dict(claim.parts), claim.alarm) == ({"a": b"1", "b": b"3"}, 6.0)

    async def test_what_the_owner_before_committed_is_not_done_again(self, store: Store) -> None:
        record = await create(store)
        old = await owner_of(store, record, "old")
        commit = await old.commit(put={"a": b"1"})
        await owner_of(store, record, "new")
        assert await store.commit([commit]) == [CommitResult.FENCED]

    async def test_an_actor_without_owner_takes_no_commits(self, store: Store) -> None:
        record = await create(store)
        for epoch in range(3):
            for token in ("", "t"):
                for sequence in range(2):
                    commit = Commit(record.id, Fence(epoch, token), sequence, {"a": b"1"})
                    assert await store.commit([commit]) == [CommitResult.FENCED]
        claim = await look(store, record.id)
        assert (claim.sequence, dict(claim.parts)) == (0, {})

    async def test_the_snapshot_is_what_was_committed(self, store: Store) -> None:
        owner = await create_owned(store)
        commit = await owner.commit(put=PARTS, alarm=1_700_000_000.123456)
        claim = await look(store, owner.id)
        assert dict(claim.parts) == PARTS
        assert all(type(value) is bytes for value in claim.parts.values())
        assert (claim.sequence, claim.alarm) == (commit.sequence, commit.alarm)
        assert claim.record == owner.record

    async def test_a_claim_changes_nothing_but_the_fence(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit(put={"a": b"1"}, alarm=7.0)
        first = await look(store, owner.id)
        second = await look(store, owner.id)
        assert second == replace(
            first, fence=Fence(first.fence.epoch + 1, first.fence.token), parts=second.parts
        )
        assert dict(second.parts) == dict(first.parts)
        assert await store.next_alarm() == 7.0
        assert await store.find_by_id(owner.id) == owner.record

    async def test_a_snapshot_does_not_change_later(self, store: Store) -> None:
        owner = await create_owned(store)
        put = {"a": b"1"}
        await owner.commit(put=put)
        claim = await look(store, owner.id)
        put["a"] = b"changed by its caller"
        new = await owner_of(store, owner.record)
        await new.commit(put={"a": b"2"})
        assert dict(claim.parts) == {"a": b"1"}
        assert dict((await look(store, owner.id)).parts) == {"a": b"2"}

    async def test_snapshots_are_kept_apart(self, store: Store) -> None:
        keys = ["", "a", "a:b", "A"]
        owners = [await create_owned(store, key, "x") for key in keys]
        for owner in owners:
            await owner.commit(put={"id": owner.id.encode()}, alarm=float(len(owner.id)))
        for owner in owners:
            assert dict((await look(store, owner.id)).parts) == {"id": owner.id.encode()}

    async def test_the_sequence_goes_on_with_the_next_owner(self, store: Store) -> None:
        record = await create(store)
        for number in range(5):
            owner = await owner_of(store, record, str(number))
            assert owner.sequence == 2 * number
            await owner.commit(put={"a": b"1"})
            await owner.commit(put={"a": b"2"})
