"""What each operation of the port does; for one thread at a time.

Who owns which actor, and how far it got, is known in memory: nobody else can
change it while the directory is locked. So a commit is decided without
reading, and its rows are gathered until `save`.

**A claim writes nothing.** The new epoch and token stay in memory until the
actor's next commit carries them. That is safe because all owners live in the
process that holds the lock: the claims that its death forgets belong to owners
that died with it. Two things remain. A fence that was saved must not come to
life again when later ones are forgotten, so after a crash a saved fence admits
no new commit (repeating the last one is still ALREADY_DONE). And epochs must
keep growing over forgotten claims, so each crash counts as `RESERVED` claims
of every actor; before an actor is claimed that often without a commit, its
epoch is saved. An orderly `close` saves them all, so nothing is skipped then.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from rivet_ray.errors import StoreError
from rivet_ray.store import (
    UNWRITTEN,
    ActorRecord,
    ActorSize,
    ActorType,
    Claim,
    Claimant,
    Commit,
    CommitResult,
    Fence,
    IndexEntry,
    NewActor,
    Ownership,
    Refusal,
    Snapshot,
    Stamp,
    TypeSize,
    refused,
)
from rivet_ray_drivers.file_system.packing import pack_type
from rivet_ray_drivers.file_system.tables import SavedActor, SavedOwner, Tables

RESERVED = 1000
REMEMBERED = 100_000
"""How many owners are kept in memory, about 500 bytes each."""


NO_TYPE = ActorType("", "")


@dataclass(frozen=True, slots=True)
class Owner:
    """How far an actor got, and who may go on."""

    epoch: int
    fence: Fence | None
    """None before the first claim."""
    sequence: int
    alarm: float | None
    saved_epoch: int
    incarnation: str = ""
    """Of the host that claimed it last."""
    stamp: Stamp = UNWRITTEN
    type: ActorType = NO_TYPE
    living: bool = True
    lapsed: bool = False
    """The fence was saved before a crash: good for telling ALREADY_DONE only."""


class Ledger:
    """The operations between two `save`s are made durable together or undone together."""

    def __init__(self, tables: Tables, crashes: int) -> None:
        """`crashes`: how many runs on this database did not end with `close`."""
        self._tables = tables
        self._crashes = crashes
        self._owners: dict[str, Owner] = {}
        """As of the last `save`."""
        self._changed: dict[str, Owner] = {}
        """Since then."""

    # --- Operations ----------------------------------------------------------

    def find(self, namespace: str, name: str, key: Sequence[str]) -> ActorRecord | None:
        self._settle_destroyed()
        actor = self._tables.latest(namespace, name, key)
        return actor.record if actor and actor.living else None

    def find_by_id(self, actor_id: str) -> ActorRecord | None:
        self._settle_destroyed()
        return self._tables.living(actor_id)

    def create(self, new: NewActor) -> tuple[ActorRecord, bool]:
        self._settle_destroyed()
        latest = self._tables.latest(new.namespace, new.name, new.key)
        if latest is not None and latest.living:
            return latest.record, False
        generation = latest.generation if latest else 0
        self._tables.sweep_tombstones(latest.record if latest else None, generation)
        record = self._tables.insert(new, generation + 1)
        if record is None:
            raise StoreError(f"Another actor has the id of {new.name!r} {list(new.key)!r}.")
        if latest is not None:
            # Nobody owns it yet, but its epoch goes on from the tombstone's.
            before = latest.owner
            owner = SavedOwner(before.epoch, crashes=before.crashes, type=pack_type(record.type))
            self._tables.gather_owner(record.id, owner)
        return record, True

    def list_actors(
        self,
        namespace: str,
        name: str | None,
        prefix: Sequence[str],
        after: str | None,
        limit: int,
    ) -> list[ActorRecord]:
        self._settle_destroyed()
        return self._tables.actors(namespace, name, prefix, after or "", limit)

    def claim(
        self, actor_id: str, token: str, claimant: Claimant, expected: Ownership | None
    ) -> Claim | Refusal | None:
        actor, before = self._living(actor_id)
        if actor is None or before is None:
            return None
        refusal = refused(claimant, actor.record, _ownership(before), expected)
        if refusal is not None:
            return refusal
        epoch = before.epoch + 1
        owner = replace(
            before,
            epoch=epoch,
            fence=Fence(epoch, token),
            incarnation=claimant.incarnation,
            lapsed=False,
        )
        self._changed[actor_id] = owner
        if epoch - owner.saved_epoch >= RESERVED:
            self._gather(actor_id, owner)
        return Claim(
            record=actor.record,
            fence=Fence(epoch, token),
            sequence=owner.sequence,
            parts=self._tables.parts(actor_id),
            alarm=owner.alarm,
            stamp=owner.stamp,
            entries=self._tables.indexes.entries(actor_id),
        )

    def find_ownership(self, actor_id: str) -> Ownership | None:
        _, owner = self._living(actor_id)
        return None if owner is None else _ownership(owner)

    def read(self, actor_id: str) -> Snapshot | None:
        actor, owner = self._living(actor_id)
        if actor is None or owner is None:
            return None
        return Snapshot(
            record=actor.record,
            ownership=_ownership(owner),
            sequence=owner.sequence,
            parts=self._tables.parts(actor_id),
            alarm=owner.alarm,
            entries=self._tables.indexes.entries(actor_id),
        )

    def _living(self, actor_id: str) -> tuple[SavedActor | None, Owner | None]:
        if self._tables.gathered(actor_id):
            self._tables.write_gathered()
        actor = self._tables.actor(actor_id)
        if actor is None or not actor.living:
            return None, None
        return actor, self._known(actor_id) or self._loaded(actor)

    def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return [self._commit(commit) for commit in commits]

    def probe(self) -> None:
        self._tables.probe()

    def alarms_due(
        self, now: float, limit: int, types: Collection[ActorType] | None
    ) -> list[tuple[float, str]]:
        self._tables.write_gathered()
        return self._tables.indexes.alarms_due(now, limit, _packed(types))

    def next_alarm(self, after: float | None, types: Collection[ActorType] | None) -> float | None:
        self._tables.write_gathered()
        return self._tables.indexes.next_alarm(after, _packed(types))

    def list_index(
        self,
        type: ActorType,
        index: int,
        values: tuple[bytes, bytes | None],
        prefix: Sequence[str],
        after: IndexEntry | None,
        limit: int,
    ) -> list[IndexEntry]:
        self._tables.write_gathered()
        if index == 0:
            return self._tables.indexes.by_key(type, prefix, after, limit)
        return self._tables.indexes.by_value(type, index, values, after, limit)

    def sizes(self) -> list[TypeSize]:
        self._tables.write_gathered()
        return self._tables.indexes.sizes()

    def list_sizes(self, namespace: str | None, after: str | None, limit: int) -> list[ActorSize]:
        self._tables.write_gathered()
        return self._tables.indexes.list_sizes(namespace, after or "", limit)

    # --- The end of a group --------------------------------------------------

    def save(self) -> None:
        """Make everything since the last `save` durable. After it raised, call `undo`."""
        full = len(self._owners) + len(self._changed) > REMEMBERED
        if full:
            self._gather_claims()
        self._tables.save()
        if full:
            self._owners.clear()
        else:
            self._owners.update(self._changed)
        self._changed.clear()

    def undo(self) -> None:
        """Forget everything since the last `save`."""
        self._changed.clear()
        self._tables.undo()

    def close(self) -> None:
        """Save the claims and end the run; when that fails, it counts as a crash."""
        # Everything acknowledged is durable already: a failure here loses nothing.
        with contextlib.suppress(sqlite3.Error):
            self._gather_claims()
            self._tables.end_run()
        with contextlib.suppress(sqlite3.Error):
            self._tables.close()

    # --- Owners --------------------------------------------------------------

    def _commit(self, commit: Commit) -> CommitResult:
        identity = commit.actor_id
        owner = self._known(identity)
        if owner is None:
            actor = self._tables.actor(identity)
            owner = self._loaded(actor) if actor else None
        if owner is None or (owner.fence, owner.type) != (commit.fence, commit.type):
            return CommitResult.FENCED
        if commit.sequence == owner.sequence:
            return CommitResult.ALREADY_DONE
        if owner.lapsed or not owner.living or commit.sequence < owner.sequence:
            return CommitResult.FENCED
        if commit.sequence > owner.sequence + 1:
            return CommitResult.BEHIND
        self._gather(
            identity,
            Owner(
                epoch=owner.epoch,
                fence=owner.fence,
                sequence=commit.sequence,
                alarm=None if commit.destroy else commit.alarm,
                saved_epoch=owner.epoch,
                incarnation=owner.incarnation,
                stamp=owner.stamp if commit.stamp is None else commit.stamp,
                type=owner.type,
                living=not commit.destroy,
            ),
        )
        if commit.destroy:
            self._tables.gather_destroyed(identity)
            return CommitResult.COMMITTED
        for name in commit.delete:
            self._tables.gather_part(identity, name, None)
        for name, value in commit.put.items():
            self._tables.gather_part(identity, name, value)
        for index, entry in commit.entries.items():
            self._tables.gather_entry(identity, pack_type(commit.type), index, entry)
        return CommitResult.COMMITTED

    def _known(self, actor_id: str) -> Owner | None:
        return self._changed.get(actor_id) or self._owners.get(actor_id)

    def _loaded(self, actor: SavedActor) -> Owner:
        saved = actor.owner
        skipped = RESERVED * (self._crashes - saved.crashes)
        return Owner(
            epoch=saved.epoch + skipped,
            fence=None if saved.token is None else Fence(saved.epoch, saved.token),
            sequence=saved.sequence,
            alarm=saved.alarm,
            saved_epoch=saved.epoch + skipped,
            incarnation=saved.owner,
            stamp=saved.stamp,
            type=actor.record.type,
            living=actor.living,
            lapsed=skipped > 0,
        )

    def _gather(self, actor_id: str, owner: Owner) -> None:
        token = None if owner.fence is None else owner.fence.token
        self._changed[actor_id] = replace(owner, saved_epoch=owner.epoch)
        self._tables.gather_owner(
            actor_id,
            SavedOwner(
                owner.epoch,
                token,
                owner.sequence,
                self._crashes,
                owner.alarm,
                owner.incarnation,
                owner.stamp,
                pack_type(owner.type),
            ),
        )

    def _gather_claims(self) -> None:
        for actor_id, owner in (self._owners | self._changed).items():
            if owner.epoch != owner.saved_epoch:
                self._gather(actor_id, owner)

    def _settle_destroyed(self) -> None:
        if self._tables.gathered_destroyed:
            self._tables.write_gathered()


def _packed(types: Collection[ActorType] | None) -> list[bytes] | None:
    return None if types is None else list(map(pack_type, types))


def _ownership(owner: Owner) -> Ownership:
    return Ownership(owner.incarnation, owner.epoch, owner.stamp)
