"""Ownership: claims, their epochs and the snapshots they come with."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from rivet_ray.ids import actor_id
from rivet_ray.store import (
    Claim,
    Claimant,
    Commit,
    CommitResult,
    Fence,
    Ownership,
    Refusal,
    Stamp,
    Store,
)
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
        assert isinstance(claim, Claim)
        assert claim.record == record
        assert claim.fence.token == "t"
        assert (claim.sequence, dict(claim.parts), claim.alarm) == (0, {}, None)

    async def test_the_epoch_grows_by_one_with_each_claim(self, store: Store) -> None:
        record = await create(store)
        first = await owner_of(store, record, "0")
        for number in range(1, 10):
            claim = await store.claim(record.id, str(number))
            assert isinstance(claim, Claim)
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
        owners = [Owner(store, claim) for claim in claims if isinstance(claim, Claim)]
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
            Commit(record.id, old.fence, new.sequence + 1, destroy=True, type=record.type),
            Commit(
                record.id,
                Fence(new.fence.epoch, old.fence.token),
                new.sequence + 1,
                type=record.type,
            ),
            Commit(
                record.id,
                Fence(old.fence.epoch, new.fence.token),
                new.sequence + 1,
                type=record.type,
            ),
            Commit(
                record.id,
                Fence(new.fence.epoch + 1, new.fence.token),
                new.sequence + 1,
                type=record.type,
            ),
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
                    commit = Commit(
                        record.id, Fence(epoch, token), sequence, {"a": b"1"}, type=record.type
                    )
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

    # --- Who may claim ------------------------------------------------------------

    async def test_what_a_claimant_cannot_run_is_refused(self, store: Store) -> None:
        """Its owner keeps it: a refused claim fences nobody."""
        owner = await create_owned(store)
        await owner.commit(put={"a": b"1"}, stamp=Stamp(2, "code"))
        before = await store.find_ownership(owner.id)
        for claimant, refusal in (
            (Claimant("h", "other"), Refusal.FOREIGN),
            (Claimant("h", "other", {"counter": 2}), Refusal.FOREIGN),
            (Claimant("h", "default", {}), Refusal.FOREIGN),
            (Claimant("h", "default", {"counte": 9, "counters": 9}), Refusal.FOREIGN),
            (Claimant("h", None, {"other": 2}), Refusal.FOREIGN),
            (Claimant("h", "default", {"other": 9, "counter": 1}), Refusal.NEWER),
            (Claimant("h", None, {"counter": 0}), Refusal.NEWER),
        ):
            assert await store.claim(owner.id, "t", claimant) is refusal
        assert await store.find_ownership(owner.id) == before
        await owner.commit(put={"a": b"2"})
        for claimant in (
            Claimant("h", "default", {"counter": 2, "other": 1}),
            Claimant("h", None, {"other": 1, "counter": 3}),
            Claimant("h", "default"),
        ):
            claim = await store.claim(owner.id, "t", claimant)
            assert isinstance(claim, Claim)
            assert dict(claim.parts) == {"a": b"2"}

    async def test_names_of_namespaces_and_types_are_compared_whole(self, store: Store) -> None:
        for namespace, name in (("a", "b\x00c"), ("a\x00b", "c"), ("é", "\U0001f600"), ("", "")):
            record = await create(store, name, namespace=namespace)
            assert isinstance(
                await store.claim(record.id, "t", Claimant("h", namespace, {name: 0})), Claim
            )
            for other in (
                Claimant("h", namespace + "x", {name: 0}),
                Claimant("h", namespace, {name + "x": 0, "": 0} if name else {"x": 0}),
                Claimant("h", namespace + "\x00" + name, {name: 0}),
            ):
                assert await store.claim(record.id, "t", other) is Refusal.FOREIGN

    async def test_a_claim_compares_owner_and_epoch(self, store: Store) -> None:
        """Of two takers that have seen the same owner one has the actor."""
        record = await create(store)
        assert await store.find_ownership(record.id) == Ownership("", 0, Stamp())
        first = await store.claim(record.id, "1", Claimant("one"), expected=Ownership("", 0))
        assert isinstance(first, Claim)
        seen = await store.find_ownership(record.id)
        assert seen == Ownership("one", first.fence.epoch)
        for wrong in (
            Ownership("", 0),
            Ownership("one", first.fence.epoch + 1),
            Ownership("one", first.fence.epoch - 1),
            Ownership("two", first.fence.epoch),
            Ownership("", first.fence.epoch),
        ):
            refusal = await store.claim(record.id, "2", Claimant("two"), expected=wrong)
            assert refusal is Refusal.OWNED
        assert await store.find_ownership(record.id) == seen
        results = await asyncio.gather(
            *(
                store.claim(record.id, host, Claimant(host), expected=seen)
                for host in ("two", "three")
            )
        )
        assert sorted(isinstance(result, Claim) for result in results) == [False, True]
        assert Refusal.OWNED in results

    async def test_ownership_tells_the_last_claim_and_the_last_writer(self, store: Store) -> None:
        owner = await create_owned(store)
        assert await store.find_ownership(owner.id) == Ownership("", owner.fence.epoch)
        await owner.commit(put={"a": b"1"}, stamp=Stamp(3, "é\x00"))
        await owner.commit(put={"a": b"2"})
        assert await store.find_ownership(owner.id) == Ownership(
            "", owner.fence.epoch, Stamp(3, "é\x00")
        )
        claim = await store.claim(owner.id, "t", Claimant("host"))
        assert isinstance(claim, Claim)
        assert claim.stamp == Stamp(3, "é\x00")
        new = Owner(store, claim)
        assert await store.find_ownership(owner.id) == Ownership(
            "host", new.fence.epoch, Stamp(3, "é\x00")
        )
        await new.commit(put={"a": b"3"}, stamp=Stamp(2, ""))  # a release was taken back
        assert (await look(store, owner.id)).stamp == Stamp(2, "")

    async def test_what_does_not_live_has_no_owner(self, store: Store) -> None:
        """The next life of a key begins without owner and stamp, but with its epoch."""
        assert await store.find_ownership(actor_id("default", "counter", ["k"])) is None
        claim = await store.claim((await create(store)).id, "t", Claimant("host"))
        assert isinstance(claim, Claim)
        owner = Owner(store, claim)
        await owner.commit(put={"a": b"1"}, stamp=Stamp(3, "code"))
        await owner.commit(destroy=True)
        assert await store.find_ownership(owner.id) is None
        assert await store.claim(owner.id, "t", Claimant("other", "x")) is None
        again = await create(store)
        assert await store.find_ownership(again.id) == Ownership("", owner.fence.epoch, Stamp())
