"""The group commit of one host: what `checkpoint` has of each actor goes to the store together.

Faults. A batch shares a round trip and no fate. What the store refuses for one
actor ends that actor alone; where a driver only says that something in a batch
cannot be stored, the batch is taken apart until that something is found. Where
the store as a whole does not answer, the next group waits with the batch; where
it only lacks answers for some, as one on several servers does while one of them
is away, these are repeated on their own, and the next group does not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from rivet_ray.clock import Clock
from rivet_ray.definition.user_tasks import own_task
from rivet_ray.errors import (
    ActorStopped,
    InvalidStateType,
    Outcome,
    RivetError,
    StoreError,
    StoreLostData,
    StoreUnavailable,
)
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime.checkpoint import Checkpoint
from rivet_ray.runtime.deadline import Deadlines, sleep, within
from rivet_ray.runtime.patience import silent
from rivet_ray.store import Commit, CommitResult, Store

log = logger_of_strangers("rivet_ray.runtime")

FIRST_RETRY = 0.05
LONGEST_RETRY = 1.0
GIVE_UP_AFTER = 10.0
"""Seconds from a write's first try; who waits for it may stop before, by a deadline of its own."""

LAST_TRY = 1.0
"""Seconds for a try that begins shortly before that."""


class Saved(Protocol):
    """An instance, as the checkpointer sees it."""

    @property
    def checkpoint(self) -> Checkpoint: ...

    @property
    def holding(self) -> bool:
        """Not to be looked at now: nothing of it may leave, or it is gone."""
        ...

    def give_up(self, error: RivetError) -> None:
        """Break the gate with `error` and leave memory."""
        ...

    def undo(self, error: InvalidStateType) -> None:
        """Go back to the last state that could be saved; tell who waits."""
        ...

    def compared(self) -> None:
        """The state is what the store has."""
        ...

    def committed(self, commit: Commit) -> None:
        """A write is durable; the gate has opened for it."""
        ...


@dataclass(slots=True, eq=False)
class Batch:
    """Commits on their way to the store, and since when."""

    entries: list[tuple[Saved, Commit]]
    started: float
    """By the clock's monotonic time."""
    pause: float = FIRST_RETRY
    """Seconds until the next try."""
    answered: bool = False
    """The store as a whole is there, whatever it said of single commits."""
    why: StoreError | None = None
    """What the store said last of those that it did not answer for."""


class Checkpointer:
    """The group commit of one host."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._touched: dict[Saved, None] = {}
        self._gathering = False
        self._writer: asyncio.Task[None] | None = None
        self._deadlines = Deadlines(clock)
        """Of commits that the store has not answered."""
        self._stragglers: set[asyncio.Task[None]] = set()
        """Writes of some actors whose group has its answer already."""
        self._under_way_since: dict[Batch, float] = {}
        self._gathering_since = 0.0
        self._abandoned = False
        self.round_trips = 0
        self.commits = 0
        self.refused = 0
        """Commits that the store refused because of their fence (promise C1)."""

    def touch(self, instance: Saved) -> None:
        """Look at the instance's state at the end of this tick."""
        if self._abandoned:
            return
        self._touched[instance] = None
        self._gather_soon()

    def _gather_soon(self) -> None:
        if self._touched and not self._gathering:
            asyncio.get_running_loop().call_soon(self._gather)
            self._gathering = True
            self._gathering_since = self._clock.monotonic()

    @property
    def waiting(self) -> float:
        """For how many seconds the oldest change has waited to be durable, or to be looked at."""
        begun = list(self._under_way_since.values())
        if self._gathering:
            begun.append(self._gathering_since)
        return self._clock.monotonic() - min(begun) if begun else 0.0

    def _gather(self) -> None:
        self._gathering = False
        touched, self._touched = self._touched, {}
        entries: list[tuple[Saved, Commit]] = []
        for instance in touched:
            # What is wrong with one of them is nobody else's affair.
            try:
                commit = self._look_at(instance)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                log.exception("%r cannot be saved", instance, extra=REPEATED)
                lose(instance, StoreError(f"the actor cannot be saved: {error}"))
                continue
            if commit is not None:
                entries.append((instance, commit))
        if entries:
            batch = Batch(entries, self._clock.monotonic())
            self._under_way_since[batch] = batch.started
            self._writer = own_task(self._write(batch))

    def _look_at(self, instance: Saved) -> Commit | None:
        """What is to be written of the instance now; what need not wait is released."""
        if instance.holding:
            return None  # It will be touched again, or never.
        in_flight = instance.checkpoint.in_flight
        if (self._writer is not None or in_flight) and self._must_wait(instance):
            self._touched[instance] = None
            return None
        commit = self._collect_or_undo(instance)
        instance.compared()
        if commit is None:
            instance.checkpoint.gate.open_held()
        return commit

    def _must_wait(self, instance: Saved) -> bool:
        """While a write is in flight: release the instance if it is unchanged."""
        checkpoint = instance.checkpoint
        if checkpoint.in_flight or checkpoint.changed():
            return True
        checkpoint.gate.open_held()
        return False

    @staticmethod
    def _collect_or_undo(instance: Saved) -> Commit | None:
        try:
            return instance.checkpoint.collect()
        except InvalidStateType as error:
            instance.undo(error)
            return instance.checkpoint.collect()

    # --- Writing ------------------------------------------------------------

    async def _write(self, batch: Batch) -> None:
        """The write that every later one waits for, until the store answers at all."""
        try:
            while await self._try(batch) and not batch.answered:
                if not await self._pause(batch):
                    return
            if batch.entries:
                straggler = own_task(self._repeat(batch))
                self._stragglers.add(straggler)
                straggler.add_done_callback(self._stragglers.discard)
        finally:
            if not batch.entries:
                self._under_way_since.pop(batch, None)
            self._writer = None
            self._gather_soon()

    async def _repeat(self, batch: Batch) -> None:
        """Write what the store has not answered for, beside the writes of others."""
        try:
            while batch.entries and await self._pause(batch):
                await self._try(batch)
                self._gather_soon()  # Those that it has answered for need not wait for the rest.
        finally:
            self._under_way_since.pop(batch, None)
            self._gather_soon()

    async def _pause(self, batch: Batch) -> bool:
        """Wait before the next try; False when there is none, and all are given up."""
        passed = self._clock.monotonic() - batch.started
        if passed + batch.pause > GIVE_UP_AFTER:
            log.error("writes of %d actors were given up: %s", len(batch.entries), batch.why)
            self._give_up(batch.entries)
            batch.entries = []
            return False
        log.warning(
            "the store did not answer for %d actors, trying again in %.2f s: %s",
            len(batch.entries),
            batch.pause,
            batch.why,
        )
        await sleep(self._clock, batch.pause)
        batch.pause = min(2 * batch.pause, LONGEST_RETRY)
        return True

    async def _try(self, batch: Batch) -> bool:
        """Send what the batch holds; whether anything of it is still unknown, and kept there."""
        sent, batch.entries = batch.entries, []
        try:
            await self._send(sent, batch)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            log.critical("the store's driver failed in a way that it must not", exc_info=error)
            self._give_up(sent)
            batch.entries = []
            if not isinstance(error, Exception):
                raise
        return bool(batch.entries)

    async def _send(self, entries: Sequence[tuple[Saved, Commit]], batch: Batch) -> None:
        """One round trip, and more only to find what a driver cannot store."""
        self.round_trips += 1
        results: Sequence[CommitResult | StoreError]
        try:
            results = await self._commit([commit for _, commit in entries], batch)
            batch.answered = True
        except (StoreUnavailable, StoreLostData) as error:
            results = [error] * len(entries)
        except StoreError as error:
            if len(entries) > 1:
                half = len(entries) // 2
                await self._send(entries[:half], batch)
                await self._send(entries[half:], batch)
                return
            results = [error]
            batch.answered = True
        for (instance, commit), result in zip(entries, results, strict=True):
            if isinstance(result, StoreUnavailable):
                batch.entries.append((instance, commit))
                batch.why = result
            else:
                self._finish(instance, commit, result)

    async def _commit(
        self, commits: Sequence[Commit], batch: Batch
    ) -> Sequence[CommitResult | StoreError]:
        """Raises StoreUnavailable where the store has not answered when the batch is given up."""
        task, late = asyncio.current_task(), False
        assert task is not None

        def expire() -> None:
            nonlocal late
            late = True
            task.cancel()

        at = max(batch.started + GIVE_UP_AFTER, self._clock.monotonic() + LAST_TRY)
        self._deadlines.add(batch, at, expire)
        try:
            return await self._store.commit(commits)
        except asyncio.CancelledError as error:
            if not late or task.uncancel():
                raise
            raise silent(GIVE_UP_AFTER) from error
        finally:
            self._deadlines.drop(batch)

    def _finish(self, instance: Saved, commit: Commit, result: CommitResult | StoreError) -> None:
        try:
            if isinstance(result, StoreError):
                self._failed(instance, commit, result)
            elif result.durable:
                self.commits += 1
                instance.checkpoint.finished()
                instance.committed(commit)
            else:
                self._refused(instance, commit, result)
        except Exception:
            log.exception("%r: its write came back, and that failed", instance, extra=REPEATED)
            self._give_up([(instance, commit)])

    def _refused(self, instance: Saved, commit: Commit, result: CommitResult) -> None:
        self.refused += 1
        log.error(
            "the store refused a commit: actor=%s epoch=%d sequence=%d result=%s refused=%d",
            commit.actor_id,
            commit.fence.epoch,
            commit.sequence,
            result.value,
            self.refused,
        )
        if result is CommitResult.BEHIND:
            instance.give_up(lost_data())
            return
        why = "Another owner has taken the actor over; what this call changed may not be saved."
        instance.give_up(ActorStopped(why, outcome=Outcome.UNKNOWN))

    @staticmethod
    def _failed(instance: Saved, commit: Commit, error: StoreError) -> None:
        if isinstance(error, StoreLostData):
            instance.give_up(lost_data())  # The driver has logged it, once for all actors.
            return
        text = "the store cannot take a commit: actor=%s: %s"
        log.error(text, commit.actor_id, error, extra=REPEATED)
        instance.give_up(unconfirmed())

    @staticmethod
    def _give_up(entries: Sequence[tuple[Saved, Commit]]) -> None:
        for instance, _ in entries:
            lose(instance, unconfirmed())

    def abandon(self) -> None:
        """Write nothing any more; what waits is never released."""
        self._abandoned = True
        self._touched.clear()
        for task in self._under_way():
            task.cancel()

    def _under_way(self) -> list[asyncio.Task[None]]:
        return [*self._stragglers, *([] if self._writer is None else [self._writer])]

    async def flush(self, seconds: float) -> None:
        """Wait until everything touched so far is durable or given up, at most so long."""
        until = self._clock.monotonic() + seconds
        while self._touched or self._under_way():
            if self._writer is None:
                self._gather()
            tasks, left = self._under_way(), until - self._clock.monotonic()
            if not tasks or left <= 0:
                return
            with suppress(TimeoutError):
                async with within(self._clock, left, "the last writes"):
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    def close(self) -> None:
        """Write nothing any more, and let go of timers."""
        self.abandon()
        self._deadlines.close()


def lose(instance: Saved, error: RivetError) -> None:
    """Give an instance up, whatever that meets: others of its batch come after it."""
    try:
        instance.give_up(error)
    except Exception:
        log.exception("%r was given up, and that failed", instance, extra=REPEATED)


def unconfirmed() -> StoreUnavailable:
    text = "The store did not confirm a write; it may have happened."
    return StoreUnavailable(text, told=text, outcome=Outcome.UNKNOWN)


def lost_data() -> StoreLostData:
    text = "The store has lost data of this actor; what this call changed may not be saved."
    return StoreLostData(text, told=text, outcome=Outcome.UNKNOWN)
