"""The store port over the writer thread, and how it is opened."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rivet_ray.errors import StoreError
from rivet_ray.store import (
    ANYBODY,
    ActorRecord,
    ActorSize,
    ActorType,
    Claim,
    Claimant,
    Commit,
    CommitResult,
    Finding,
    HostLease,
    IndexEntry,
    NewActor,
    Ownership,
    Refusal,
    Snapshot,
    Store,
    TypeSize,
)
from rivet_ray_drivers.file_system.database import FILES, make_directory, open_database
from rivet_ray_drivers.file_system.ledger import Ledger
from rivet_ray_drivers.file_system.location import directory_of
from rivet_ray_drivers.file_system.lock import LOCK_NAME, DirectoryLock
from rivet_ray_drivers.file_system.privacy import tighten
from rivet_ray_drivers.file_system.tables import Step, Tables
from rivet_ray_drivers.file_system.writer import Statistics, Writer
from rivet_ray_drivers.leases import Leases


class FileSystemStore:
    """See `rivet_ray.store.Store`; use it on the event loop that opened it."""

    def __init__(self, directory: Path, ledger: Ledger, writer: Writer) -> None:
        self.directory = directory
        self._ledger = ledger
        self._writer = writer
        self._leases = Leases()

    def statistics(self) -> Statistics:
        return self._writer.statistics()

    async def find(self, namespace: str, name: str, key: Sequence[str]) -> ActorRecord | None:
        return await self._writer.do(partial(self._ledger.find, namespace, name, key))

    async def find_by_id(self, actor_id: str) -> ActorRecord | None:
        return await self._writer.do(partial(self._ledger.find_by_id, actor_id))

    async def create(self, actor: NewActor) -> tuple[ActorRecord, bool]:
        return await self._writer.do(partial(self._ledger.create, actor))

    async def list_actors(
        self,
        namespace: str,
        name: str | None = None,
        prefix: Sequence[str] = (),
        *,
        after: str | None = None,
        limit: int = 100,
    ) -> list[ActorRecord]:
        return await self._writer.do(
            partial(self._ledger.list_actors, namespace, name, prefix, after, limit)
        )

    async def claim(
        self,
        actor_id: str,
        token: str,
        claimant: Claimant = ANYBODY,
        *,
        expected: Ownership | None = None,
    ) -> Claim | Refusal | None:
        return await self._writer.do(
            partial(self._ledger.claim, actor_id, token, claimant, expected)
        )

    async def find_ownership(self, actor_id: str) -> Ownership | None:
        return await self._writer.do(partial(self._ledger.find_ownership, actor_id))

    async def read(self, actor_id: str) -> Snapshot | None:
        return await self._writer.do(partial(self._ledger.read, actor_id))

    async def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        return await self._writer.do(partial(self._ledger.commit, commits))

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
        return await self._writer.do(
            partial(self._ledger.list_index, type, index, (start, end), prefix, after, limit)
        )

    async def sizes(self) -> list[TypeSize]:
        return await self._writer.do(self._ledger.sizes)

    async def list_sizes(
        self, namespace: str | None = None, *, after: str | None = None, limit: int = 100
    ) -> list[ActorSize]:
        return await self._writer.do(partial(self._ledger.list_sizes, namespace, after, limit))

    async def alarms_due(
        self, now: float, limit: int = 100, *, types: Collection[ActorType] | None = None
    ) -> list[tuple[float, str]]:
        return await self._writer.do(partial(self._ledger.alarms_due, now, limit, types))

    # One server has the directory, so its leases need no disk.

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

    async def next_alarm(
        self, after: float | None = None, *, types: Collection[ActorType] | None = None
    ) -> float | None:
        return await self._writer.do(partial(self._ledger.next_alarm, after, types))

    async def probe(self) -> None:
        await self._writer.do(self._ledger.probe)

    async def examine(self) -> list[Finding]:
        kept = "every acknowledged change survives kill -9 and a loss of power"
        return [
            Finding("store", f"SQLite in the directory {self.directory}; one server at a time"),
            Finding("durability", f"write-ahead log, synchronous=FULL: {kept}"),
        ]

    async def close(self) -> None:
        """Finish what waits, fold the write-ahead log into the database, unlock."""
        await self._writer.close()

    def __del__(self) -> None:
        if not self._writer.closing:
            warnings.warn(f"{self.directory} was not closed", ResourceWarning, 2, self)


async def open_file_system(url: str) -> Store:
    """Open the store in the directory that `url` names, creating what is missing.

    Raises StoreError when the directory cannot be used, another server uses
    it, or its database is damaged or of a newer version; the database is then
    left as it was.
    """
    return await open_directory(directory_of(url))


def _no_step(_: str) -> None:
    pass


async def open_directory(directory: Path, step: Step = _no_step) -> FileSystemStore:
    """As `open_file_system`; `step` is called at each step of a write (for tests)."""
    opening = asyncio.get_running_loop().run_in_executor(None, _open, directory, step)
    try:
        opened = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_abandon)
        raise
    return FileSystemStore(
        directory, opened.ledger, Writer(opened.ledger, opened.tables, opened.lock)
    )


@dataclass(frozen=True, slots=True)
class Opened:
    """What is open before there is a thread to own it."""

    lock: DirectoryLock
    tables: Tables
    ledger: Ledger


def _open(directory: Path, step: Step) -> Opened:
    try:
        make_directory(directory)
        lock = DirectoryLock(directory)
        try:
            tighten(directory, (LOCK_NAME, *FILES))
            connection, crashes = open_database(directory)
            tables = Tables(connection, step)
            return Opened(lock, tables, Ledger(tables, crashes))
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        raise StoreError(f"The store directory {directory} cannot be used: {error}.") from error


def _abandon(opening: asyncio.Future[Opened]) -> None:
    """Nobody waits for this any more: close what it opened."""
    if not opening.cancelled() and opening.exception() is None:
        opened = opening.result()
        opened.ledger.close()
        opened.lock.release()
