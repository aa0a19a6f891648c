"""The statements: what is read from the tables, and the one transaction that writes.

Rows of commits are gathered and written together, many in one statement. Few
statements matter: each gives up the interpreter lock, and a busy event loop
hands it back late.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from zlib import crc32

from rivet_ray.errors import StoreError
from rivet_ray.ids import actor_id
from rivet_ray.store import TOMBSTONE_KEPT, TOMBSTONES, UNWRITTEN, ActorRecord, NewActor, Stamp
from rivet_ray_drivers.file_system.indexes import Indexes
from rivet_ray_drivers.file_system.packing import key_range, pack, pack_key, unpack, unpack_key

Step = Callable[[str], None]
"""Told of each step of a write; tests stop the thread or the process there."""

VARIABLES = 999
"""In one statement: as many as old SQLites take."""

RECORD = "id, namespace, name, key, input, region, created_at"
WITH_OWNER = (
    f"SELECT {RECORD}, generation, living, epoch, token, sequence, crashes, alarm,"
    " owner, state_version, fingerprint FROM actors LEFT JOIN owners ON owners.actor = actors.id"
)

SAVE_OWNERS = (
    "INSERT INTO owners (actor, epoch, token, sequence, crashes, alarm,"
    " owner, state_version, fingerprint, type) VALUES {}"
    " ON CONFLICT (actor) DO UPDATE SET epoch = excluded.epoch, token = excluded.token,"
    " sequence = excluded.sequence, crashes = excluded.crashes, alarm = excluded.alarm,"
    " owner = excluded.owner, state_version = excluded.state_version,"
    " fingerprint = excluded.fingerprint"
)
SAVE_PARTS = (
    "INSERT INTO parts (actor, name, value, checksum) VALUES {}"
    " ON CONFLICT (actor, name) DO UPDATE SET value = excluded.value,"
    " checksum = excluded.checksum"
)
DELETE_PARTS = (  # a comparison of pairs alone would read the whole table
    "WITH gone (actor, name) AS (VALUES {}) DELETE FROM parts"
    " WHERE actor IN (SELECT actor FROM gone) AND (actor, name) IN gone"
)
DESTROY_PARTS = "DELETE FROM parts WHERE actor IN (VALUES {})"
DESTROY_ENTRIES = "DELETE FROM entries WHERE actor IN (VALUES {})"
DESTROY_ACTORS = (
    "WITH gone (actor, at) AS (VALUES {}) UPDATE actors SET living = 0, input = NULL,"
    " destroyed_at = (SELECT at FROM gone WHERE gone.actor = actors.id)"
    " WHERE id IN (SELECT actor FROM gone)"
)
DELETE_ENTRIES = (
    "WITH gone (actor, number) AS (VALUES {}) DELETE FROM entries"
    " WHERE actor IN (SELECT actor FROM gone) AND (actor, number) IN gone"
)
SAVE_ENTRIES = (
    "WITH given (type, number, value, actor) AS (VALUES {}) INSERT INTO entries"
    " SELECT given.type, given.number, given.value, actors.key, given.actor"
    " FROM given JOIN actors ON actors.id = given.actor"
)
SWEPT_AT_ONCE = 10
"""Tombstones that a create removes at most, once they are TOMBSTONE_KEPT old."""


@dataclass(frozen=True, slots=True)
class SavedOwner:
    """A row of `owners`; without one, the actor was never committed."""

    epoch: int = 0
    token: str | None = None
    """None: nobody has claimed it."""
    sequence: int = 0
    crashes: int = 0
    """How many runs had crashed when this was written."""
    alarm: float | None = None
    owner: str = ""
    stamp: Stamp = UNWRITTEN
    type: bytes = b""
    """Namespace and name of the actor, packed."""


@dataclass(frozen=True, slots=True)
class SavedActor:
    record: ActorRecord
    generation: int
    living: bool
    owner: SavedOwner


class Tables:
    """Reads see what the transaction under way has written, not what is gathered."""

    def __init__(
        self, connection: sqlite3.Connection, step: Step, now: Callable[[], float] = time.time
    ) -> None:
        """`now` is the store's own time, in seconds since the Unix epoch."""
        self._connection = connection
        self.indexes = Indexes(connection)
        self._now = now
        self._step = step
        self._doubtful = False
        self.saves = 0
        """COMMITs, each with an fsync."""
        self._forget_rows()

    # --- Reading -------------------------------------------------------------

    def living(self, identity: str) -> ActorRecord | None:
        row = self._one(
            f"SELECT {RECORD} FROM actors WHERE id = ? AND living = 1", (pack(identity),)
        )
        return _record(row) if row else None

    def actor(self, identity: str) -> SavedActor | None:
        row = self._one(f"{WITH_OWNER} WHERE id = ?", (pack(identity),))
        return _saved(row) if row else None

    def latest(self, namespace: str, name: str, key: Sequence[str]) -> SavedActor | None:
        """The last generation of a place, or its tombstone."""
        row = self._one(
            f"{WITH_OWNER} WHERE namespace = ? AND name = ? AND key = ?"
            " ORDER BY generation DESC LIMIT 1",
            (pack(namespace), pack(name), pack_key(key)),
        )
        return _saved(row) if row else None

    def actors(
        self, namespace: str, name: str | None, prefix: Sequence[str], after: str, limit: int
    ) -> list[ActorRecord]:
        """Costs one page, except for a prefix: all that have it, or, without name, all."""
        conditions = "living = 1 AND id > ?"
        values = [pack(after), pack(namespace)]
        if name is None:
            index = ""
            conditions += " AND +namespace = ?"  # + stops an index: the table is in our order
        else:
            index = "INDEXED BY actors_by_key" if prefix else "INDEXED BY actors_by_name"
            conditions += " AND namespace = ? AND name = ?"
            values.append(pack(name))
        if prefix:
            conditions += " AND key >= ? AND key < ?"
            values.extend(key_range(prefix))
        rows = self._connection.execute(
            f"SELECT {RECORD} FROM actors {index} WHERE {conditions} ORDER BY id LIMIT ?",
            (*values, max(limit, 0)),
        )
        return [_record(row) for row in rows.fetchall()]

    def parts(self, identity: str) -> dict[str, bytes]:
        """Raises StoreError where a value is not what was written."""
        rows = self._connection.execute(
            "SELECT name, value, checksum FROM parts WHERE actor = ?", (pack(identity),)
        ).fetchall()
        for name, value, checksum in rows:
            if crc32(value) != checksum:
                raise StoreError(
                    f"The database is damaged: part {unpack(name)!r} of actor {identity} is not"
                    " what was written. Restore it from a backup."
                )
        return {unpack(name): value for name, value, _ in rows}

    # --- Writing -------------------------------------------------------------

    def insert(self, new: NewActor, generation: int) -> ActorRecord | None:
        """The new actor, or None where that generation of its place exists."""
        identity = actor_id(new.namespace, new.name, new.key, generation)
        cursor = self._write(
            "INSERT INTO actors (id, namespace, name, key, generation, input, region, created_at)"
            " VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
            (
                pack(identity),
                pack(new.namespace),
                pack(new.name),
                pack_key(new.key),
                generation,
                new.input,
                None if new.region is None else pack(new.region),
                new.created_at,
            ),
        )
        if cursor.rowcount != 1:
            return None
        return ActorRecord(
            id=identity,
            namespace=new.namespace,
            name=new.name,
            key=tuple(new.key),
            input=new.input,
            region=new.region,
            created_at=new.created_at,
        )

    def gather_owner(self, identity: str, owner: SavedOwner) -> None:
        self._owner_rows[identity] = owner

    def gather_part(self, identity: str, name: str, value: bytes | None) -> None:
        """None deletes. The last of several changes of one part counts."""
        self._part_rows[pack(identity), pack(name)] = value

    def gather_entry(self, identity: str, type: bytes, number: int, value: bytes | None) -> None:
        """None deletes. The last of several changes of one entry counts."""
        self._entry_rows[pack(identity), number] = (type, value)

    def gather_destroyed(self, identity: str) -> None:
        """Also loses the parts and entries that were gathered before."""
        self._destroyed_rows.append((pack(identity),))

    def sweep_tombstones(self, before: ActorRecord | None, generation: int) -> None:
        """Delete some that are old, and of a place all but those of its last lives."""
        old = "SELECT id FROM actors WHERE living = 0 AND destroyed_at < ? LIMIT ?"
        self._sweep(old, (self._now() - TOMBSTONE_KEPT, SWEPT_AT_ONCE))
        first_kept = generation - TOMBSTONES + 2  # With that of the life that begins.
        if before is not None and first_kept > 1:
            earlier = (
                "SELECT id FROM actors WHERE namespace = ? AND name = ? AND key = ?"
                " AND generation < ?"
            )
            place = (pack(before.namespace), pack(before.name), pack_key(before.key))
            self._sweep(earlier, (*place, first_kept))

    def _sweep(self, which: str, values: Sequence[Any]) -> None:
        if self._one(which, values) is not None:
            self._write(f"DELETE FROM owners WHERE actor IN ({which})", values)
            self._write(f"DELETE FROM actors WHERE id IN ({which})", values)

    def gathered(self, identity: str) -> bool:
        return identity in self._owner_rows

    @property
    def gathered_destroyed(self) -> bool:
        return bool(self._destroyed_rows)

    def write_gathered(self) -> None:
        """Put the gathered rows into the transaction, where statements see them."""
        if not self._owner_rows:
            return
        owners = [
            (
                pack(identity),
                owner.epoch,
                None if owner.token is None else pack(owner.token),
                owner.sequence,
                owner.crashes,
                owner.alarm,
                pack(owner.owner),
                owner.stamp.state_version,
                pack(owner.stamp.fingerprint),
                owner.type,
            )
            for identity, owner in self._owner_rows.items()
        ]
        parts = self._part_rows
        put = [(*place, value, crc32(value)) for place, value in parts.items() if value is not None]
        delete = [place for place, value in parts.items() if value is None]
        self._write_many(SAVE_OWNERS, owners)
        self._write_many(SAVE_PARTS, put)
        self._write_many(DELETE_PARTS, delete)
        self._write_many(DELETE_ENTRIES, list(self._entry_rows))
        self._write_many(
            SAVE_ENTRIES,
            [
                (of, number, value, identity)
                for (identity, number), (of, value) in self._entry_rows.items()
                if value is not None
            ],
        )
        self._write_many(DESTROY_PARTS, self._destroyed_rows)
        self._write_many(DESTROY_ENTRIES, self._destroyed_rows)
        now = self._now()
        self._write_many(DESTROY_ACTORS, [(*row, now) for row in self._destroyed_rows])
        self._forget_rows()

    def save(self) -> None:
        """Make everything since the last `save` durable; free when that is nothing.

        After it has raised, call `undo`.
        """
        if self._doubtful:
            # A COMMIT failed, other than for want of space. Its pages may lie in the
            # log, to be found after a crash; only a write that lands over them makes
            # sure. Until then nobody, readers included, is told anything.
            self._write("UPDATE runs SET doubts = doubts + 1")
        self.write_gathered()
        if not self._connection.in_transaction:
            return
        try:
            self._step("before COMMIT")
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._doubtful = getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL
            raise
        self._step("after COMMIT")
        self._doubtful = False
        self.saves += 1

    def probe(self) -> None:
        """Write what is there already: the next `save` shows whether the disk takes it."""
        self._write("UPDATE runs SET running = 1")

    def undo(self) -> None:
        """Forget everything since the last `save`."""
        self._forget_rows()
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                # Never let the next group go on in this transaction.
                self._connection.close()

    def end_run(self) -> None:
        """Save, and note that what follows is not a crash."""
        self.write_gathered()
        self._write("UPDATE runs SET running = 0")
        self.save()
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._connection.close()

    def _forget_rows(self) -> None:
        self._owner_rows: dict[str, SavedOwner] = {}
        self._part_rows: dict[tuple[bytes, bytes], bytes | None] = {}
        self._entry_rows: dict[tuple[bytes, int], tuple[bytes, bytes | None]] = {}
        self._destroyed_rows: list[tuple[bytes]] = []

    def _one(self, statement: str, values: Sequence[Any] = ()) -> Sequence[Any] | None:
        row: Sequence[Any] | None = self._connection.execute(statement, values).fetchone()
        return row

    def _write(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        if not self._connection.in_transaction:
            self._step("before BEGIN")
            self._connection.execute("BEGIN IMMEDIATE")
            self._step("after BEGIN")
        cursor = self._connection.execute(statement, values)
        self._step(f"after {' '.join(statement.split()[:3])}")
        return cursor

    def _write_many(self, statement: str, rows: Collection[tuple[Any, ...]]) -> None:
        """Chunks are powers of two, so that few statements are ever compiled."""
        waiting = list(rows)
        start = 0
        size = 1 << (VARIABLES // len(waiting[0])).bit_length() - 1 if waiting else 0
        while start < len(waiting):
            while size > len(waiting) - start:
                size //= 2
            chunk = waiting[start : start + size]
            marks = f"({','.join('?' * len(chunk[0]))})"
            values = tuple(chain.from_iterable(chunk))
            self._write(statement.format(",".join([marks] * size)), values)
            start += size


def _record(row: Sequence[Any]) -> ActorRecord:
    identity, namespace, name, key, given, region, created_at = row[:7]
    return ActorRecord(
        id=unpack(identity),
        namespace=unpack(namespace),
        name=unpack(name),
        key=unpack_key(key),
        input=given,
        region=None if region is None else unpack(region),
        created_at=created_at,
    )


def _saved(row: Sequence[Any]) -> SavedActor:
    generation, living, epoch, token, sequence, crashes, alarm = row[7:14]
    owner = SavedOwner()
    if epoch is not None:
        holder, version, fingerprint = row[14:]
        owner = SavedOwner(
            epoch,
            None if token is None else unpack(token),
            sequence,
            crashes,
            alarm,
            unpack(holder),
            Stamp(version, unpack(fingerprint)),
        )
    return SavedActor(_record(row), generation, bool(living), owner)
