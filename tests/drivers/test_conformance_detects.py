"""The conformance suite goes red on drivers that break a promise.

Each store below is the memory driver with one fault, of a kind that is easily
made; beside it stand the tests that have to notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rivet_ray.ids import actor_id, escape_key
from rivet_ray.store import (
    ActorRecord,
    ActorSize,
    Claim,
    Commit,
    CommitResult,
    Fence,
    HostLease,
    NewActor,
    Snapshot,
    Store,
)
from rivet_ray.testing import DurableStoreConformance
from rivet_ray_drivers.memory import MemoryStore, Stored
from rivet_ray_drivers.tombstones import Tombstones


class NoFence(MemoryStore):
    """Takes commits of anybody."""

    def _commit(self, commit: Commit) -> CommitResult:
        stored = self._living.get(commit.actor_id)
        if stored is not None and stored.fence is not None:
            commit = replace(commit, fence=stored.fence)
        return super()._commit(commit)


class TokenAlone(MemoryStore):
    """Compares the token and not the epoch."""

    def _commit(self, commit: Commit) -> CommitResult:
        stored = self._living.get(commit.actor_id)
        if stored is not None and stored.fence and stored.fence.token == commit.fence.token:
            commit = replace(commit, fence=stored.fence)
        return super()._commit(commit)


class EpochAlone(MemoryStore):
    """Compares the epoch and not the token."""

    def _commit(self, commit: Commit) -> CommitResult:
        stored = self._living.get(commit.actor_id)
        if stored is not None and stored.fence and stored.fence.epoch == commit.fence.epoch:
            commit = replace(commit, fence=stored.fence)
        return super()._commit(commit)


class OwnedFromBirth(MemoryStore):
    """A new actor is owned by epoch 0 and an empty token, or by the last one's owner."""

    async def create(self, actor: NewActor) -> tuple[ActorRecord, bool]:
        before = self._tombstones.find((actor.namespace, actor.name, actor.key))
        record, created = await super().create(actor)
        if created:
            fences = [fence for fence, _ in before.lives.values()] if before else []
            self._living[record.id].fence = fences[-1] if fences else Fence(0, "")
        return record, created


class LostDeletes(MemoryStore):
    """Never deletes a part."""

    def _commit(self, commit: Commit) -> CommitResult:
        return super()._commit(replace(commit, delete=frozenset()))


class WholeSnapshots(MemoryStore):
    """Drops the parts that a commit does not name."""

    def _commit(self, commit: Commit) -> CommitResult:
        stored = self._living.get(commit.actor_id)
        gone = frozenset(stored.parts) - frozenset(commit.put) if stored else frozenset()
        return super()._commit(replace(commit, delete=gone))


class TwoWinners(MemoryStore):
    """Looks first, creates later."""

    async def create(self, actor: NewActor) -> tuple[ActorRecord, bool]:
        existing = await self.find(actor.namespace, actor.name, actor.key)
        await asyncio.sleep(0)
        if existing is not None:
            return existing, False
        record, _ = await super().create(actor)
        return record, True


class NothingIsRepeated(MemoryStore):
    """Refuses what it has done before."""

    def _commit(self, commit: Commit) -> CommitResult:
        result = super()._commit(commit)
        return CommitResult.FENCED if result is CommitResult.ALREADY_DONE else result


class DoneAgain(MemoryStore):
    """Applies a repeated commit once more."""

    def _commit(self, commit: Commit) -> CommitResult:
        result = super()._commit(commit)
        if result is CommitResult.ALREADY_DONE and commit.actor_id in self._living:
            self._living[commit.actor_id].parts.update(commit.put)
        return result


class ForgottenDestroys(MemoryStore):
    """Does not know a destroy when it is repeated."""

    def _commit(self, commit: Commit) -> CommitResult:
        result = super()._commit(commit)
        self._tombstones._places.clear()
        return result


class GapsAccepted(MemoryStore):
    """Takes any higher sequence."""

    def _commit(self, commit: Commit) -> CommitResult:
        stored = self._living.get(commit.actor_id)
        if stored is not None and commit.sequence > stored.sequence:
            stored.sequence = commit.sequence - 1
        return super()._commit(commit)


class EpochStartsOver(MemoryStore):
    """Forgets the epoch with the actor."""

    async def create(self, actor: NewActor) -> tuple[ActorRecord, bool]:
        record, created = await super().create(actor)
        if created:
            self._living[record.id].epoch = 0
        return record, created


class ResurrectedIds(MemoryStore):
    """Gives a successor the id of the destroyed actor."""

    async def create(self, actor: NewActor) -> tuple[ActorRecord, bool]:
        previous = self._tombstones.find((actor.namespace, actor.name, actor.key))
        if previous is not None:
            previous.generation = 0
        return await super().create(actor)


class LeftOvers(MemoryStore):
    """Gives a successor the parts of the destroyed actor."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[Any, dict[str, bytes]] = {}

    def _destroy(self, stored: Stored, commit: Commit) -> None:
        self.kept[stored.record.key] = dict(stored.parts)
        super()._destroy(stored, commit)

    async def create(self, actor: NewActor) -> tuple[ActorRecord, bool]:
        record, created = await super().create(actor)
        if created:
            self._living[record.id].parts.update(self.kept.get(actor.key, {}))
        return record, created


class HalfCommits(MemoryStore):
    """Puts, and deletes a moment later."""

    async def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        for commit in commits:
            stored = self._living.get(commit.actor_id)
            if stored is not None and stored.fence == commit.fence:
                stored.parts.update(commit.put)
        await asyncio.sleep(0)
        return await super().commit(commits)


class StopsAtTheFirst(MemoryStore):
    """Refuses the rest of a batch with the first refused commit."""

    async def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        results: list[CommitResult] = []
        for commit in commits:
            refused = bool(results) and not results[-1].durable
            results.append(results[-1] if refused else self._commit(commit))
        return results


class OnePerActor(MemoryStore):
    """Groups a batch by actor and keeps the last commit of each."""

    async def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        last = {commit.actor_id: commit for commit in commits}
        results = {identity: self._commit(commit) for identity, commit in last.items()}
        return [results[commit.actor_id] for commit in commits]


class LiveSnapshots(MemoryStore):
    """Hands out its own dictionary."""

    async def claim(self, actor_id: str, token: str) -> Claim | None:
        claim = await super().claim(actor_id, token)
        return claim and replace(claim, parts=self._living[actor_id].parts)


class StickyAlarms(MemoryStore):
    """Takes no alarm for no change."""

    def _commit(self, commit: Commit) -> CommitResult:
        stored = self._living.get(commit.actor_id)
        if stored is not None and commit.alarm is None:
            commit = replace(commit, alarm=stored.alarm)
        return super()._commit(commit)


class TruthyAlarms(MemoryStore):
    """Takes an alarm at 0 for none."""

    def _commit(self, commit: Commit) -> CommitResult:
        return super()._commit(replace(commit, alarm=commit.alarm or None))


class RoundedTimes(MemoryStore):
    """Keeps times as Lua writes them: 14 digits."""

    def _commit(self, commit: Commit) -> CommitResult:
        alarm = None if commit.alarm is None else float(f"{commit.alarm:.14g}")
        return super()._commit(replace(commit, alarm=alarm))


class RefusedAlarms(MemoryStore):
    """Moves the alarm before it looks at the fence."""

    def _commit(self, commit: Commit) -> CommitResult:
        if commit.actor_id in self._living:
            self._living[commit.actor_id].alarm = commit.alarm
        return super()._commit(commit)


class TakenAlarms(MemoryStore):
    """Removes the alarms that it gives out."""

    async def alarms_due(self, *asked: Any, **types: Any) -> list[tuple[float, str]]:
        due = await super().alarms_due(*asked, **types)
        for _, identity in due:
            self._living[identity].alarm = None
        return due


class JoinedKeys(MemoryStore):
    """Joins the parts of a key and escapes nothing."""

    async def find(self, namespace: str, name: str, key: Sequence[str]) -> ActorRecord | None:
        text = ":".join(key)
        found = [item.record for item in self._living.values() if ":".join(item.record.key) == text]
        found = [item for item in found if (item.namespace, item.name) == (namespace, name)]
        return found[0] if found else None


class PrefixOfText(MemoryStore):
    """Compares a prefix with the text of a key."""

    async def list_actors(
        self,
        namespace: str,
        name: str | None = None,
        prefix: Sequence[str] = (),
        *,
        after: str | None = None,
        limit: int = 100,
    ) -> list[ActorRecord]:
        found = await super().list_actors(namespace, name, after=after, limit=10_000)
        text = escape_key(prefix)
        return [item for item in found if escape_key(item.key).startswith(text)][:limit]


class PagesOverlap(MemoryStore):
    """Begins a page with the last actor of the page before."""

    async def list_actors(
        self, namespace: str, *args: Any, after: str | None = None, **options: Any
    ) -> list[ActorRecord]:
        if after is not None and after in self._living:
            after = after[:-1]
        return await super().list_actors(namespace, *args, after=after, **options)


class SizesOverlap(MemoryStore):
    """Begins a page of sizes with the last actor of the page before."""

    async def list_sizes(
        self, namespace: str | None = None, *, after: str | None = None, limit: int = 100
    ) -> list[ActorSize]:
        if after is not None and after in self._living:
            after = after[:-1]
        return await super().list_sizes(namespace, after=after, limit=limit)


class InputsUncounted(MemoryStore):
    """Leaves inputs out of the sizes of actors."""

    async def list_sizes(
        self, namespace: str | None = None, *, after: str | None = None, limit: int = 100
    ) -> list[ActorSize]:
        sizes = await super().list_sizes(namespace, after=after, limit=limit)
        return [
            replace(one, bytes=sum(map(len, self._living[one.id].parts.values()))) for one in sizes
        ]


class ReadsByClaiming(MemoryStore):
    """Reads an actor by owning it."""

    async def read(self, actor_id: str) -> Snapshot | None:
        await self.claim(actor_id, "reader")
        return await super().read(actor_id)


class ReadsTheLatestLife(MemoryStore):
    """Reads whatever lives under the key of an id."""

    async def read(self, actor_id: str) -> Snapshot | None:
        for identity in self._ids:
            if identity.startswith(actor_id[:16]):
                return await super().read(identity)
        return None


class ReadsWhatComes(MemoryStore):
    """Reads parts that are changed afterwards."""

    async def read(self, actor_id: str) -> Snapshot | None:
        found = await super().read(actor_id)
        return found and replace(found, parts=self._living[actor_id].parts)


class HidesTheDead(MemoryStore):
    """Lists no host that was marked dead."""

    async def list_hosts(self, limit: int = 1000) -> list[HostLease]:
        return [host for host in await super().list_hosts(limit) if not host.dead]


class ListsAnyHosts(MemoryStore):
    """Lists the hosts that were written first."""

    async def list_hosts(self, limit: int = 1000) -> list[HostLease]:
        return sorted(await super().list_hosts(), key=lambda host: host.beat)[:limit]


class OneNamespace(MemoryStore):
    """Computes ids without the namespace."""

    async def create(self, actor: NewActor) -> tuple[ActorRecord, bool]:
        record, created = await super().create(actor)
        return replace(record, id=actor_id("default", actor.name, actor.key)), created


class ForgetsOnClose(MemoryStore):
    """Keeps nothing when it is closed."""

    async def close(self) -> None:
        self.__init__()  # type: ignore[misc]


class ForgetsTombstones(MemoryStore):
    """Keeps only what lives when it is closed."""

    async def close(self) -> None:
        self._tombstones = Tombstones()


class ForgetsOwners(MemoryStore):
    """Keeps no fence when it is closed."""

    async def close(self) -> None:
        for stored in self._living.values():
            stored.fence = None


BROKEN: list[tuple[type[MemoryStore], list[str]]] = [
    (NoFence, ["a_claim_fences_the_owner_before", "a_refused_commit_changes_nothing"]),
    (TokenAlone, ["a_claim_fences_the_owner_before", "a_token_may_claim_again"]),
    (EpochAlone, ["a_claim_fences_the_owner_before", "a_refused_commit_changes_nothing"]),
    (
        OwnedFromBirth,
        ["an_actor_without_owner_takes_no_commits", "an_owner_of_the_old_actor_stays_fenced"],
    ),
    (LostDeletes, ["parts_are_put_kept_and_deleted", "every_part_can_be_deleted"]),
    (WholeSnapshots, ["parts_are_put_kept_and_deleted"]),
    (
        TwoWinners,
        ["of_many_creates_at_once_exactly_one_creates", "a_destroyed_actor_has_one_successor"],
    ),
    (NothingIsRepeated, ["a_repeated_commit_is_done_once", "a_destroy_is_done_once"]),
    (DoneAgain, ["a_repeated_commit_changes_nothing"]),
    (
        ForgottenDestroys,
        ["a_destroy_is_done_once", "a_repeated_destroy_leaves_the_next_actor_alone"],
    ),
    (GapsAccepted, ["a_gap_in_the_sequence_shows_a_store_that_lost_data"]),
    (EpochStartsOver, ["the_epoch_goes_on_after_a_destroy"]),
    (ResurrectedIds, ["generations_follow_destroys", "a_destroyed_actor_has_one_successor"]),
    (LeftOvers, ["the_next_actor_starts_with_nothing"]),
    (HalfCommits, ["a_commit_is_whole_or_not_at_all"]),
    (StopsAtTheFirst, ["a_batch_has_a_result_for_each_in_order"]),
    (OnePerActor, ["commits_of_one_actor_in_a_batch_are_applied_in_order"]),
    (LiveSnapshots, ["a_snapshot_does_not_change_later"]),
    (StickyAlarms, ["a_commit_without_alarm_clears_it"]),
    (TruthyAlarms, ["times_are_kept_to_the_last_bit"]),
    (RoundedTimes, ["times_are_kept_to_the_last_bit", "the_snapshot_is_what_was_committed"]),
    (RefusedAlarms, ["a_refused_commit_changes_nothing"]),
    (TakenAlarms, ["asking_does_not_change_what_is_due"]),
    (JoinedKeys, ["keys_are_kept_apart"]),
    (PrefixOfText, ["a_prefix_compares_whole_parts"]),
    (PagesOverlap, ["a_page_goes_on_after_the_last_id"]),
    (SizesOverlap, ["sizes_are_listed_in_the_order_of_ids"]),
    (InputsUncounted, ["the_size_of_an_actor_is_that_of_its_input_and_parts"]),
    (ReadsByClaiming, ["a_read_changes_nothing", "what_the_last_commit_left_is_read"]),
    (ReadsTheLatestLife, ["only_what_lives_can_be_read"]),
    (ReadsWhatComes, ["a_read_changes_nothing"]),
    (HidesTheDead, ["hosts_are_listed_in_the_order_of_incarnations"]),
    (ListsAnyHosts, ["hosts_are_listed_in_the_order_of_incarnations"]),
    (OneNamespace, ["ids_are_the_ones_that_ids_gives"]),
    (ForgetsOnClose, ["actors_are_found_again", "a_snapshot_is_found_again"]),
    (ForgetsTombstones, ["a_destroyed_actor_stays_destroyed"]),
    (ForgetsOwners, ["an_owner_stays_the_owner"]),
]


class Kept(DurableStoreConformance):
    """The durable suite over stores that stay in memory when they are closed."""

    kind: type[MemoryStore] = MemoryStore

    async def open_store(self) -> Store:
        return self.kind()

    async def reopen(self, store: Store) -> Store:
        await store.close()
        return store


class TestKept(Kept):
    """Nothing is wrong with the suite itself: a right store passes all of it."""


@pytest.mark.parametrize(
    ("broken", "name"),
    [(broken, name) for broken, names in BROKEN for name in names],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_a_broken_driver_is_noticed(broken: type[MemoryStore], name: str) -> None:
    """The test of that name fails on the broken store, by an assertion of its own."""
    suite = Kept()
    test: Callable[[Store], Awaitable[None]] = getattr(suite, f"test_{name}")
    with pytest.raises(AssertionError):
        await test(broken())
