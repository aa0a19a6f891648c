"""`memory://`: the store port as an executable specification.

Everything is lost with the process. No method awaits anything, so each is
atomic; the other drivers must behave as this one does.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from rivet_ray.ids import Key, actor_id
from rivet_ray.store import (
    ANYBODY,
    UNWRITTEN,
    ActorRecord,
    ActorSize,
    ActorType,
    Claim,
    Claimant,
    Commit,
    CommitResult,
    Fence,
    Finding,
    HostLease,
    IndexEntry,
    NewActor,
    Ownership,
    Refusal,
    Snapshot,
    Stamp,
    Store,
    TypeSize,
    Verdict,
    refused,
)
from rivet_ray_drivers.file_system.packing import pack
from rivet_ray_drivers.leases import Leases
from rivet_ray_drivers.tombstones import Tombstones


@dataclass(slots=True)
class Stored:
    """An actor that lives."""

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
    entries: dict[int, bytes] = field(default_factory=dict[int, bytes])

    @property
    def size(self) -> int:
        return len(self.record.input or b"") + sum(map(len, self.parts.values()))

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
        self._tombstones = Tombstones()

    async def find(self, namespace: str, name: str, key: Sequence[str]) -> ActorRecord | None:
        stored = self._by_key.get((namespace, name, tuple(key)))
        return stored.record if stored else None

    async def find_by_id(self, actor_id: str) -> ActorRecord | None:
        stored = self._living.get(actor_id)
        return stored.record if stored else None

    async def create(self, actor: NewActor) -> tuple[ActorRecord, bool]:
        place = (actor.namespace, actor.name, actor.key)
        living = self._by_key.get(place)
        if living is not None:
            return living.record, False
        previous = self._tombstones.find(place)
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

    async def list_index(
        self,
        type: ActorType,
        index: int = 0,
        *,
        start: bytes = b"",
        end: bytes | None = None,
        prefix: Sequence[str] = (),
        after: IndexEntry | None = None,
        limit: int = 100,
    ) -> list[IndexEntry]:
        entries: list[IndexEntry] = []
        for stored in self._living.values():
            record = stored.record
            value = b"" if index == 0 else stored.entries.get(index)
            if record.type != type or value is None:
                continue
            if value < start or (end is not None and value >= end):
                continue
            if index != 0 or record.key[: len(prefix)] == tuple(prefix):
                entries.append(IndexEntry(value, record.key, record.id))
        entries.sort(key=_order)
        if after is not None:
            del entries[: bisect.bisect_right(entries, _order(after), key=_order)]
        return entries[: max(limit, 0)]

    async def sizes(self) -> list[TypeSize]:
        found: dict[ActorType, list[int]] = {}
        for stored in self._living.values():
            found.setdefault(stored.record.type, []).append(stored.size)
        return [TypeSize(of, len(found[of]), sum(found[of])) for of in sorted(found)]

    async def list_sizes(
        self, namespace: str | None = None, *, after: str | None = None, limit: int = 100
    ) -> list[ActorSize]:
        start = 0 if after is None else bisect.bisect_right(self._ids, after)
        living = (self._living[identity] for identity in self._ids[start:])
        wanted = (one for one in living if namespace in (None, one.record.namespace))
        return [
            ActorSize(one.record.id, one.record.type, one.record.key, one.size)
            for one in islice(wanted, max(limit, 0))
        ]

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
            entries=dict(stored.entries),
        )

    async def find_ownership(self, actor_id: str) -> Ownership | None:
        stored = self._living.get(actor_id)
        return None if stored is None else stored.ownership

    async def read(self, actor_id: str) -> Snapshot | None:
        stored = self._living.get(actor_id)
        if stored is None:
            return None
        return Snapshot(
            record=stored.record,
            ownership=stored.ownership,
            sequence=stored.sequence,
            parts=dict(stored.parts),
            alarm=stored.alarm,
            entries=dict(stored.entries),
        )

    async def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return [self._commit(commit) for commit in commits]

    def _commit(self, commit: Commit) -> CommitResult:
        stored = self._living.get(commit.actor_id)
        if stored is None and self._tombstones.made(commit):
            return CommitResult.ALREADY_DONE
        if stored is None or (stored.fence, stored.record.type) != (commit.fence, commit.type):
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
        for index, value in commit.entries.items():
            stored.entries.pop(index, None)
            if value is not None:
                stored.entries[index] = value
        return CommitResult.COMMITTED

    def _destroy(self, stored: Stored, commit: Commit) -> None:
        record = stored.record
        place = (record.namespace, record.name, record.key)
        self._tombstones.bury(place, stored.generation, stored.epoch, commit)
        del self._living[record.id], self._by_key[place]
        del self._ids[bisect.bisect_left(self._ids, record.id)]

    async def renew_lease(self, incarnation: str, beat: int, address: str = "") -> bool:
        return self._leases.renew(incarnation, beat, address)

    async def find_lease(self, incarnation: str) -> HostLease | None:
        return self._leases.find(incarnation)

    async def list_hosts(self, limit: int = 1000) -> list[HostLease]:
        return self._leases.list(limit)

    async def mark_dead(self, incarnation: str, beat: int) -> bool:
        return self._leases.mark_dead(incarnation, beat)

    async def end_lease(self, incarnation: str) -> None:
        self._leases.end(incarnation)

    async def alarms_due(
        self, now: float, limit: int = 100, *, types: Collection[ActorType] | None = None
    ) -> list[tuple[float, str]]:
        return sorted(alarm for alarm in self._alarms(types) if alarm[0] <= now)[: max(limit, 0)]

    async def next_alarm(
        self, after: float | None = None, *, types: Collection[ActorType] | None = None
    ) -> float | None:
        alarms = (alarm for alarm, _ in self._alarms(types))
        return min((alarm for alarm in alarms if after is None or alarm > after), default=None)

    def _alarms(self, types: Collection[ActorType] | None) -> Iterator[tuple[float, str]]:
        for identity, stored in self._living.items():
            if stored.alarm is not None and (types is None or stored.record.type in types):
                yield stored.alarm, identity

    async def examine(self) -> list[Finding]:
        what = "none: state lives as long as its process"
        cure = "For development and tests; use file:// or redis:// to keep anything."
        return [Finding("durability", what, Verdict.WARNING, cure)]

    async def close(self) -> None:
        pass


def _order(entry: IndexEntry) -> tuple[bytes, list[bytes], str]:
    return entry.value, [pack(part) for part in entry.key], entry.id


async def open_memory(url: str) -> Store:
    """Open a new, empty store; two of them share nothing."""
    return MemoryStore()
