"""The thread that writes: one group of operations, one transaction, one fsync.

While a group is on its way to the disk, the next gathers. The results of a
group go to the event loop together, after its COMMIT (promise C2).

A loop that never rests starves every other thread, for seconds: it lets go of
the interpreter lock at each poll, but only for a microsecond, and has it back
before a waiting thread is awake. (Asking for the lock, which happens after 5 ms,
does not help: each of those moments starts the 5 ms anew.) So while a group is
late, the loop pauses now and then for long enough; see `_give_way`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray_drivers.file_system.ledger import Ledger
from rivet_ray_drivers.file_system.lock import DirectoryLock
from rivet_ray_drivers.file_system.tables import Tables

Result = TypeVar("Result")

QUEUE_LIMIT = 10_000
"""Operations that may wait, those under way included; one more is refused."""

LATE = 0.001
PAUSE = 0.0002
"""Seconds: how often the loop pauses for a late group, and for how long at least."""


@dataclass(slots=True)
class Job:
    operation: Callable[[], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """Since the store was opened, except `waiting`, which is now."""

    operations: int
    groups: int
    saves: int
    """Groups that wrote: each cost one fsync."""
    waiting: int
    refused: int
    """Operations that found the queue full."""


class Writer:
    """Owns the thread, the queue, the ledger and its lock.

    Belongs to the event loop that was running when it was made.
    """

    def __init__(self, ledger: Ledger, tables: Tables, lock: DirectoryLock) -> None:
        self._ledger = ledger
        self._tables = tables
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._closed: asyncio.Future[None] | None = None
        self._operations = self._groups = self._waiting = self._refused = 0
        self._timer: asyncio.TimerHandle | None = None
        # A daemon: a loop that ended without `close` must not keep the process.
        self._thread = threading.Thread(target=self._work, name="rivet-ray-store", daemon=True)
        self._thread.start()

    @property
    def closing(self) -> bool:
        return self._closed is not None

    def statistics(self) -> Statistics:
        return Statistics(
            self._operations, self._groups, self._tables.saves, self._waiting, self._refused
        )

    # --- On the event loop ---------------------------------------------------

    async def do(self, operation: Callable[[], Result]) -> Result:
        """Run `operation` on the thread; return when what it did is durable.

        A cancelled caller does not stop it. Raises StoreUnavailable when the
        queue is full or the store closed (then nothing ran), or when the disk
        failed (then nothing was kept, or it is unknown), and StoreError when the
        database is damaged or cannot hold a value.
        """
        if self._closed is not None:
            raise StoreUnavailable("The store is closed.")
        if self._waiting >= QUEUE_LIMIT:
            self._refused += 1
            raise StoreUnavailable(
                f"The store is overloaded: {QUEUE_LIMIT} operations wait for the disk."
            )
        self._waiting += 1
        self._operations += 1
        if self._timer is None:
            self._timer = self._loop.call_later(LATE, self._give_way, self._groups)
        future: asyncio.Future[Result] = self._loop.create_future()
        self._queue.put(Job(operation, future))
        return await future

    async def close(self) -> None:
        """Refuse what comes, finish what waits, close the ledger. Idempotent."""
        if self._closed is None:
            self._closed = self._loop.create_future()
            self._queue.put(None)
        await asyncio.shield(self._closed)
        self._thread.join()

    def _give_way(self, groups: int) -> None:
        """Pause when no group was delivered since there were `groups`."""
        self._timer = None
        if self._waiting:
            if groups == self._groups:
                time.sleep(PAUSE)
            self._timer = self._loop.call_later(LATE, self._give_way, self._groups)

    def _deliver(self, group: list[Job]) -> None:
        self._waiting -= len(group)
        self._groups += 1
        for job in group:
            if job.future.done():  # its caller was cancelled
                continue
            if job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)

    def _ended(self) -> None:
        if self._closed is not None:
            self._closed.set_result(None)

    # --- On the thread -------------------------------------------------------

    def _work(self) -> None:
        try:
            while group := self._next_group():
                self._perform(group)
                self._tell(self._deliver, group)
            self._ledger.close()
        finally:
            self._lock.release()
            self._tell(self._ended)

    def _next_group(self) -> list[Job]:
        """Everything that waits; nothing at the end."""
        group: list[Job] = []
        job = self._queue.get()
        while job is not None:
            group.append(job)
            try:
                job = self._queue.get_nowait()
            except Empty:
                return group
        if group:
            self._queue.put(None)  # the end comes after this group
        return group

    def _perform(self, group: list[Job]) -> None:
        try:
            for job in group:
                job.result = job.operation()
            self._ledger.save()
        except Exception as error:
            self._ledger.undo()
            if isinstance(error, sqlite3.OperationalError) or len(group) == 1:
                for job in group:
                    job.error = _translated(error)
                return
            # Not the storage as such, but values that cannot be stored, or a page that
            # is damaged: the operation that has to do with them must fail alone.
            for job in group:
                self._perform([job])

    def _tell(self, callback: Callable[..., None], *values: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, nobody waits
            self._loop.call_soon_threadsafe(callback, *values)


def _translated(error: Exception) -> Exception:
    """A new exception for each caller, since raising one adds to its traceback."""
    if isinstance(error, sqlite3.OperationalError):
        translated: Exception = StoreUnavailable(
            f"The database could not be read or written: {error}."
        )
    elif type(error) is sqlite3.DatabaseError:
        translated = StoreError(f"The database is damaged: {error}. Restore it from a backup.")
    elif isinstance(error, sqlite3.Error):
        translated = StoreError(f"SQLite cannot store this: {error}.")
    else:
        return error
    translated.__cause__ = error
    return translated
