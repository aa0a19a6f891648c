"""`memory://`: the store port as an executable specification.

Everything is lost with the process. No method awaits anything, so each is
atomic; the other drivers must behave as this one does.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

from rivet_ray.ids import Key, actor_id
from rivet_ray.store import (
    ANYBODY,
    UNWRITTEN,
    ActorRecord,
    Claim,
    Claimant,
    Commit,
    CommitResult,
    Fence,
    Finding,
    HostLease,
    NewActor,
    Ownership,
    Refusal,
    Stamp,
    Store,
    Verdict,
    refused,
)
from rivet_ray_drivers.leases import Leases


@dataclass(slots=True)
class Stored:
    """An actor that lives, or the tombstone of one that was destroyed."""

    record: ActorRecord
    generation: int
    epoch: int = 0
    """Of the last claim, of an actor before this one too."""
    fence: Fence | None = None
    """None until the first claim: nobody may commit before it."""
    sequence: int = 0
    parts: dict[str, bytes] = field(default_factory=dict[str, bytes])
    alarm: float | None = None
    owner: str = ""
    stamp: Stamp = UNWRITTEN

    @property
    def ownership(self) -> Ownership:
        return Ownership(self.owner, self.epoch, self.stamp)


class MemoryStore:
    """See `rivet_ray.store.Store`."""

    def __init__(self) -> None:
        self._leases = Leases()
        self._living: dict[str, Stored] = {}
        self._by_key: dict[tuple[str, str, Key], Stored] = {}
        self._ids: list[str] = []
        self._destroyed: dict[str, tuple[Fence, int]] = {}

    async def find(self, namespace: str, name: str, key: Sequence[str]) -> ActorRecord | None:
        stored = self._by_key.get((namespace, name, tuple(key)))
        return stored.record if stored and stored.record.id in self._living else None

    async def find_by_id(self, actor_id: str) -> ActorRecord | None:
        stored = self._living.get(actor_id)
        return stored.record if stored else None

    async def create(self, actor: NewActor) -> tuple[ActorRecord, bool]:
        place = (actor.namespace, actor.name, actor.key)
        previous = self._by_key.get(place)
        if previous is not None and previous.record.id in self._living:
            return previous.record, False
        generation = previous.generation + 1 if previous else 1
        record = ActorRecord(
            id=actor_id(actor.namespace, actor.name, actor.key, generation),
            namespace=actor.namespace,
            name=actor.name,
            key=actor.key,
            input=actor.input,
            region=actor.region,
            created_at=actor.created_at,
        )
        epoch = previous.epoch if previous else 0
        self._by_key[place] = self._living[record.id] = Stored(record, generation, epoch)
        bisect.insort(self._ids, record.id)
        return record, True

    async def list_actors(
        self,
        namespace: str,
        name: str | None = None,
        prefix: Sequence[str] = (),
        *,
        after: str | None = None,
        limit: int = 100,
    ) -> list[ActorRecord]:
        found: list[ActorRecord] = []
        start = 0 if after is None else bisect.bisect_right(self._ids, after)
        for identity in self._ids[start:]:
            if len(found) >= limit:
                break
            record = self._living[identity].record
            if (
                record.namespace == namespace
                and (name is None or record.name == name)
                and record.key[: len(prefix)] == tuple(prefix)
            ):
                found.append(record)
        return found

    async def claim(
        self,
        actor_id: str,
        token: str,
        claimant: Claimant = ANYBODY,
        *,
        expected: Ownership | None = None,
    ) -> Claim | Refusal | None:
        stored = self._living.get(actor_id)
        if stored is None:
            return None
        refusal = refused(claimant, stored.record, stored.ownership, expected)
        if refusal is not None:
            return refusal
        stored.epoch += 1
        stored.owner = claimant.incarnation
        stored.fence = Fence(stored.epoch, token)
        return Claim(
            record=stored.record,
            fence=stored.fence,
            sequence=stored.sequence,
            parts=dict(stored.parts),
            alarm=stored.alarm,
            stamp=stored.stamp,
        )

    async def find_ownership(self, actor_id: str) -> Ownership | None:
        stored = self._living.get(actor_id)
        return None if stored is None else stored.ownership

    async def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return [self._commit(commit) for commit in commits]

    def _commit(self, commit: Commit) -> CommitResult:
        stored = self._living.get(commit.actor_id)
        if stored is None and self._destroyed.get(commit.actor_id) == (
            commit.fence,
            commit.sequence,
        ):
            return CommitResult.ALREADY_DONE
        if stored is None or stored.fence != commit.fence:
            return CommitResult.FENCED
        if commit.sequence == stored.sequence:
            return CommitResult.ALREADY_DONE
        if commit.sequence > stored.sequence + 1:
            return CommitResult.BEHIND
        if commit.sequence < stored.sequence:
            return CommitResult.FENCED
        if commit.destroy:
            self._destroy(stored, commit)
            return CommitResult.COMMITTED
        stored.sequence = commit.sequence
        for part in commit.delete:
            stored.parts.pop(part, None)
        stored.parts.update(commit.put)
        stored.alarm = commit.alarm
        if commit.stamp is not None:
            stored.stamp = commit.stamp
        return CommitResult.COMMITTED

    def _destroy(self, stored: Stored, commit: Commit) -> None:
        self._destroyed[commit.actor_id] = (commit.fence, commit.sequence)
        del self._living[stored.record.id]
        del self._ids[bisect.bisect_left(self._ids, stored.record.id)]
        stored.parts.clear()
        stored.alarm = None

    async def renew_lease(self, incarnation: str, beat: int, address: str = "") -> bool:
        return self._leases.renew(incarnation, beat, address)

    async def find_lease(self, incarnation: str) -> HostLease | None:
        return self._leases.find(incarnation)

    async def mark_dead(self, incarnation: str, beat: int) -> bool:
        return self._leases.mark_dead(incarnation, beat)

    async def end_lease(self, incarnation: str) -> None:
        self._leases.end(incarnation)

    async def alarms_due(self, now: float, limit: int = 100) -> list[tuple[float, str]]:
        due = [
            (stored.alarm, identity)
            for identity, stored in self._living.items()
            if stored.alarm is not None and stored.alarm <= now
        ]
        return sorted(due)[:limit]

    async def next_alarm(self, after: float | None = None) -> float | None:
        alarms = [
            stored.alarm
            for stored in self._living.values()
            if stored.alarm is not None and (after is None or stored.alarm > after)
        ]
        return min(alarms, default=None)

    async def examine(self) -> list[Finding]:
        what = "none: state lives as long as its process"
        cure = "For development and tests; use file:// or redis:// to keep anything."
        return [Finding("durability", what, Verdict.WARNING, cure)]

    async def close(self) -> None:
        pass


async def open_memory(url: str) -> Store:
    """Open a new, empty store; two of them share nothing."""
    return MemoryStore()
