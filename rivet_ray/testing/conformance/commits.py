"""Commits: what is applied, what is refused, alone and in batches."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from rivet_ray.ids import actor_id
from rivet_ray.store import ActorType, Commit, CommitResult, Fence, Store
from rivet_ray.testing.conformance.base import (
    ConformanceBase,
    Owner,
    create,
    create_owned,
    look,
    owner_of,
)

COMMITTED = CommitResult.COMMITTED
ALREADY_DONE = CommitResult.ALREADY_DONE
FENCED = CommitResult.FENCED
BEHIND = CommitResult.BEHIND

MEGABYTE = bytes(range(256)) * 4096


class CommitConformance(ConformanceBase):
    # --- Parts -------------------------------------------------------------------

    async def test_parts_are_put_kept_and_deleted(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit(put={"a": b"1", "b": b"2", "c": b"3"})
        await owner.commit(put={"b": b"20", "d": b"4"}, delete=frozenset({"c"}))
        await owner.commit()
        assert dict((await look(store, owner.id)).parts) == {"a": b"1", "b": b"20", "d": b"4"}

    async def test_a_part_can_be_shorter_or_empty(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit(put={"a": b"long", "b": b"long"})
        await owner.commit(put={"a": b"s", "b": b""})
        assert dict((await look(store, owner.id)).parts) == {"a": b"s", "b": b""}

    async def test_a_deleted_part_can_come_back(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit(put={"a": b"1"})
        await owner.commit(delete=frozenset({"a"}))
        await owner.commit(put={"a": b"2"})
        assert dict((await look(store, owner.id)).parts) == {"a": b"2"}

    async def test_every_part_can_be_deleted(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit(put={"": b"1", "a": b"2"})
        await owner.commit(delete=frozenset({"", "a", "never there"}))
        claim = await look(store, owner.id)
        assert (claim.sequence, dict(claim.parts)) == (2, {})

    async def test_an_empty_commit_counts(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit()
        assert (await look(store, owner.id)).sequence == 1

    async def test_parts_of_a_megabyte(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit(put={"a": MEGABYTE, "b": MEGABYTE[::-1], "c": b"small"})
        await owner.commit(put={"a": MEGABYTE + b"more", "c": b"changed"})
        parts = (await look(store, owner.id)).parts
        assert parts["a"] == MEGABYTE + b"more"
        assert parts["b"] == MEGABYTE[::-1]
        assert parts["c"] == b"changed"

    async def test_many_parts(self, store: Store) -> None:
        owner = await create_owned(store)
        parts = {f"part {number}": str(number).encode() for number in range(2000)}
        await owner.commit(put=parts)
        await owner.commit(delete=frozenset(f"part {number}" for number in range(1999)))
        assert dict((await look(store, owner.id)).parts) == {"part 1999": b"1999"}

    # --- Results -----------------------------------------------------------------

    async def test_a_repeated_commit_is_done_once(self, store: Store) -> None:
        owner = await create_owned(store)
        commit = await owner.commit(put={"a": b"1"}, alarm=5.0)
        for _ in range(3):
            assert await store.commit([commit]) == [ALREADY_DONE]
        await owner.commit(put={"a": b"2"}, alarm=6.0)
        claim = await look(store, owner.id)
        assert (claim.sequence, dict(claim.parts), claim.alarm) == (2, {"a": b"2"}, 6.0)

    async def test_a_repeated_commit_changes_nothing(self, store: Store) -> None:
        owner = await create_owned(store)
        commit = await owner.commit(put={"a": b"1"}, alarm=5.0)
        other = replace(commit, put={"a": b"2"}, delete=frozenset({"a"}), alarm=None)
        assert await store.commit([other]) == [ALREADY_DONE]
        claim = await look(store, owner.id)
        assert (claim.sequence, dict(claim.parts), claim.alarm) == (1, {"a": b"1"}, 5.0)

    async def test_commits_of_one_number_at_once_are_done_once(self, store: Store) -> None:
        owner = await create_owned(store)
        commit = owner.next(put={"a": b"1"})
        results = await asyncio.gather(*(store.commit([commit]) for _ in range(50)))
        alone = [result for (result,) in results]
        assert (alone.count(COMMITTED), alone.count(ALREADY_DONE)) == (1, 49)

    async def test_an_older_sequence_is_fenced(self, store: Store) -> None:
        owner = await create_owned(store)
        old = await owner.commit(put={"a": b"1"})
        older = replace(old, sequence=0)
        await owner.commit(put={"a": b"2"})
        assert await store.commit([old]) == [FENCED]
        assert await store.commit([older]) == [FENCED]
        claim = await look(store, owner.id)
        assert (claim.sequence, dict(claim.parts)) == (2, {"a": b"2"})

    async def test_a_gap_in_the_sequence_shows_a_store_that_lost_data(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit(put={"a": b"1"}, alarm=5.0)
        for ahead in (3, 4, 1000):
            change = Commit(
                owner.id,
                owner.fence,
                ahead,
                {"a": b"2"},
                frozenset({"a"}),
                6.0,
                type=owner.record.type,
            )
            assert await store.commit([change]) == [BEHIND]
            assert await store.commit([replace(change, destroy=True)]) == [BEHIND]
        claim = await look(store, owner.id)
        assert (claim.sequence, dict(claim.parts), claim.alarm) == (1, {"a": b"1"}, 5.0)

    async def test_the_fence_is_looked_at_before_the_sequence(self, store: Store) -> None:
        owner = await create_owned(store)
        await look(store, owner.id)
        for sequence in range(4):
            stale = Commit(owner.id, owner.fence, sequence, {"a": b"1"}, type=owner.record.type)
            assert await store.commit([stale]) == [FENCED]

    async def test_a_refused_commit_changes_nothing(self, store: Store) -> None:
        owner = await create_owned(store)
        await owner.commit(put={"a": b"1", "b": b"2"}, alarm=5.0)
        refused = Commit(
            owner.id,
            Fence(owner.fence.epoch, "somebody else"),
            2,
            {"a": b"2", "c": b"3"},
            frozenset({"b"}),
            6.0,
            type=owner.record.type,
        )
        assert await store.commit([refused]) == [FENCED]
        assert await store.commit([replace(refused, destroy=True)]) == [FENCED]
        assert await store.next_alarm() == 5.0
        assert await store.alarms_due(10.0) == [(5.0, owner.id)]
        claim = await look(store, owner.id)
        assert (claim.sequence, dict(claim.parts), claim.alarm) == (1, {"a": b"1", "b": b"2"}, 5.0)

    async def test_an_actor_that_never_was_is_fenced(self, store: Store) -> None:
        unknown = actor_id("default", "counter", ["k"])
        for sequence in (0, 1, 2):
            for destroy in (False, True):
                commit = Commit(
                    unknown,
                    Fence(1, "t"),
                    sequence,
                    {"a": b"1"},
                    destroy=destroy,
                    type=ActorType("default", "counter"),
                )
                assert await store.commit([commit]) == [FENCED]
        assert await store.find_by_id(unknown) is None

    # --- Batches -----------------------------------------------------------------

    async def test_an_empty_batch(self, store: Store) -> None:
        assert await store.commit([]) == []

    async def test_a_batch_has_a_result_for_each_in_order(self, store: Store) -> None:
        owners = [await create_owned(store, str(number)) for number in range(6)]
        good, repeated, stale, ahead, gone, last = owners
        done = await repeated.commit(put={"a": b"1"})
        await look(store, stale.id)
        ahead.sequence = 7
        await gone.commit(destroy=True)
        batch = [
            stale.next(put={"a": b"x"}),
            good.next(put={"a": b"good"}),
            done,
            ahead.next(put={"a": b"x"}),
            gone.next(put={"a": b"x"}),
            Commit("0123456789abcdef", good.fence, 1, type=ActorType("default", "counter")),
            last.next(put={"a": b"last"}),
        ]
        expected = [FENCED, COMMITTED, ALREADY_DONE, BEHIND, FENCED, FENCED, COMMITTED]
        assert await store.commit(batch) == expected
        parts = {b"good": good, b"last": last, b"1": repeated}
        for value, owner in parts.items():
            assert dict((await look(store, owner.id)).parts) == {"a": value}
        for owner in (stale, ahead):
            assert dict((await look(store, owner.id)).parts) == {}

    async def test_commits_of_one_actor_in_a_batch_are_applied_in_order(self, store: Store) -> None:
        one, two = await create_owned(store, "1"), await create_owned(store, "2")
        batch = [
            one.next(put={"a": b"1", "b": b"1"}, alarm=5.0),
            two.next(put={"a": b"1"}),
            one.next(put={"a": b"2"}, delete=frozenset({"b"})),
            two.next(put={"a": b"2"}),
            one.next(put={"c": b"3"}, alarm=7.0),
        ]
        assert await store.commit(batch) == [COMMITTED] * 5
        claim = await look(store, one.id)
        assert (claim.sequence, dict(claim.parts), claim.alarm) == (3, {"a": b"2", "c": b"3"}, 7.0)
        assert dict((await look(store, two.id)).parts) == {"a": b"2"}

    async def test_commits_out_of_order_in_a_batch(self, store: Store) -> None:
        owner = await create_owned(store)
        first, second, third = (owner.next(put={"a": str(n).encode()}) for n in range(1, 4))
        results = await store.commit([second, first, first, third, second, first])
        assert results == [BEHIND, COMMITTED, ALREADY_DONE, BEHIND, COMMITTED, FENCED]
        assert dict((await look(store, owner.id)).parts) == {"a": b"2"}

    async def test_a_large_batch(self, store: Store) -> None:
        owners = [await create_owned(store, str(number)) for number in range(200)]
        batch = [owner.next(put={"id": owner.id.encode()}, alarm=1.0) for owner in owners]
        batch[100] = replace(batch[100], sequence=9)
        results = await store.commit(batch)
        assert results == [COMMITTED] * 100 + [BEHIND] + [COMMITTED] * 99
        for number, owner in enumerate(owners):
            expected = {} if number == 100 else {"id": owner.id.encode()}
            assert dict((await look(store, owner.id)).parts) == expected

    # --- At once -----------------------------------------------------------------

    async def test_many_actors_commit_at_once(self, store: Store) -> None:
        owners = [await create_owned(store, str(number)) for number in range(50)]

        async def work(owner: Owner) -> None:
            for number in range(10):
                await owner.commit(put={"n": str(number).encode(), owner.id: b"mine"})

        await asyncio.gather(*(work(owner) for owner in owners))
        for owner in owners:
            claim = await look(store, owner.id)
            assert claim.sequence == 10
            assert dict(claim.parts) == {"n": b"9", owner.id: b"mine"}

    async def test_a_commit_is_whole_or_not_at_all(self, store: Store) -> None:
        """Whoever claims while a commit is under way sees all of it or nothing of it."""
        record = await create(store)
        expected: tuple[int, dict[str, bytes], float | None] = (0, {}, None)
        for number in range(30):
            owner = await owner_of(store, record, str(number))
            alarm = float(number)
            after = {f"{number} {name}": b"x" for name in "abc"}
            commit = owner.next(put=after, delete=frozenset(expected[1]), alarm=alarm)
            committing = asyncio.ensure_future(store.commit([commit]))
            if number % 3:
                await asyncio.sleep(0)
            claim = await look(store, record.id)
            (result,) = await committing
            seen = (claim.sequence, dict(claim.parts), claim.alarm)
            assert result in (COMMITTED, FENCED)
            if result is COMMITTED:
                expected = (commit.sequence, after, alarm)
            assert seen == expected
