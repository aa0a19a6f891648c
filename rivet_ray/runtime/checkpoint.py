"""Group commit: the state of many actors to the store in one round trip.

Turns do not write. They change state in memory, leave their outputs at the
gate (see `gate`) and *touch* their instance. At the end of the event loop's
tick the checkpointer gathers every touched instance: it takes the state apart
into fields, compares each with what the store has, and makes one commit of
what differs. So a thousand turns on one actor cost one comparison, and a small
change in a large state costs about its field.

One write is in flight for a host at a time. What is touched meanwhile is
gathered when it returns; the slower the store, the larger the groups. An
instance that is touched, unchanged and not itself part of the write in flight
is released at once, whoever else is being written. Where only a part of the
store does not answer, the commits of that part are repeated apart, and those
of all others go on.

Order. The commits of one actor carry sequence numbers one apart, and there is
at most one in flight, so the store sees them in order. A commit is repeated
under the same fence and number when the store did not answer: the store tells
*already done* from *refused*, which is how an unknown result is found out.
After a bounded time without an answer the instance is given up: its gate
breaks with the outcome *unknown*, and the next activation reads what was kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from rivet_ray.clock import Clock
from rivet_ray.errors import (
    ActorStopped,
    InvalidStateType,
    Outcome,
    RivetError,
    StoreError,
    StoreUnavailable,
)
from rivet_ray.runtime.deadline import sleep
from rivet_ray.runtime.gate import Gate
from rivet_ray.runtime.ledger import Ledger
from rivet_ray.store import Claim, Commit, CommitResult, Store

log = logging.getLogger("rivet_ray.runtime")

FIRST_RETRY = 0.05
GIVE_UP_AFTER = 10.0


class Source(Protocol):
    """Where a checkpoint finds what is to be saved: the instance."""

    @property
    def ledger(self) -> Ledger: ...
    @property
    def destroying(self) -> bool: ...
    def split(self) -> dict[str, bytes]:
        """The state's parts as they are now. Raises InvalidStateType."""
        ...

    def state_changed(self, parts: dict[str, bytes]) -> dict[str, bytes]:
        """The state differs from what is saved; the parts to save instead, if any."""
        ...

    def before_comparison(self) -> None:
        """The moment to say in the ledger what has changed beside the state."""
        ...

    def before_commit(self) -> None:
        """A commit will be made: the last moment to add to the ledger."""
        ...

    def inspect(self, changed: Mapping[str, bytes]) -> None:
        """These parts of the state are about to be written. Raises InvalidStateType."""
        ...

    def next_alarm(self) -> float | None: ...


class Checkpoint:
    """What the store has of one actor, and what it is to get next."""

    __slots__ = (
        "_carries_ledger",
        "_claim",
        "_in_flight",
        "_saved",
        "_sequence",
        "_source",
        "gate",
    )

    def __init__(self, claim: Claim, saved: dict[str, bytes], source: Source) -> None:
        """`saved` are the parts of the state as the store has them."""
        self._claim = claim
        self._source = source
        self._saved = saved
        self._sequence = claim.sequence
        self._in_flight = False
        self._carries_ledger = False
        self.gate = Gate()

    @property
    def epoch(self) -> int:
        return self._claim.fence.epoch

    @property
    def in_flight(self) -> bool:
        """Whether a write is under way."""
        return self._in_flight

    @property
    def carries_ledger(self) -> bool:
        """Whether the write under way holds more than state: a schedule, a key."""
        return self._carries_ledger

    @property
    def saved(self) -> dict[str, bytes]:
        """The state's parts as they were last collected. Not to be changed."""
        return self._saved

    def collect(self) -> Commit | None:
        """The commit that makes the current state durable, or None if it is.

        Raises InvalidStateType when the state holds what cannot be saved.
        """
        source = self._source
        if source.destroying:
            return self._destroy()
        source.before_comparison()
        parts = source.split()
        if parts != self._saved:
            parts = source.state_changed(parts)
        saved = self._saved
        changed = {name: value for name, value in parts.items() if saved.get(name) != value}
        deleted = saved.keys() - parts.keys()
        if not changed and not deleted and not source.ledger:
            return None
        source.inspect(changed)
        source.before_commit()
        put, removed = source.ledger.take()
        self._saved = parts
        self._sequence += 1
        self._in_flight = True
        self._carries_ledger = bool(put or removed)
        self.gate.cover()
        return Commit(
            actor_id=self._claim.record.id,
            fence=self._claim.fence,
            sequence=self._sequence,
            put=changed | put,
            delete=frozenset(deleted | removed.keys()),
            alarm=source.next_alarm(),
        )

    def _destroy(self) -> Commit:
        self._sequence += 1
        self._in_flight = True
        self.gate.cover()
        return Commit(self._claim.record.id, self._claim.fence, self._sequence, destroy=True)

    def changed(self) -> bool:
        """Whether anything differs from what was last collected."""
        source = self._source
        source.before_comparison()
        try:
            return bool(source.ledger) or source.destroying or source.split() != self._saved
        except InvalidStateType:
            return True

    def finished(self) -> None:
        """The write under way is durable."""
        self._in_flight = self._carries_ledger = False
        self.gate.open_covered()


class Saved(Protocol):
    """An instance, as the checkpointer sees it."""

    @property
    def checkpoint(self) -> Checkpoint: ...

    @property
    def holding(self) -> bool:
        """Not to be looked at now: nothing of it may leave."""
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


class Checkpointer:
    """The group commit of one host."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._touched: dict[Saved, None] = {}
        self._gathering = False
        self._writer: asyncio.Task[None] | None = None
        self._repeating: set[asyncio.Task[None]] = set()
        """Writes to parts of the store that do not answer."""
        self._unanswered: set[Saved] = set()
        """The instances of those writes."""
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
        if not self._gathering:
            self._gathering = True
            asyncio.get_running_loop().call_soon(self._gather)

    def _gather(self) -> None:
        self._gathering = False
        touched, self._touched = self._touched, {}
        writing = self._writer is not None
        batch: list[tuple[Saved, Commit]] = []
        for instance in touched:
            if instance.holding:
                continue  # It will be touched again.
            if instance in self._unanswered or (writing and self._must_wait(instance)):
                self._touched[instance] = None
                continue
            commit = self._collect(instance)
            if commit is not None:
                batch.append((instance, commit))
        if batch:
            self._writer = asyncio.get_running_loop().create_task(self._write(batch))

    def _must_wait(self, instance: Saved) -> bool:
        """While a write is in flight: release the instance if it is unchanged."""
        checkpoint = instance.checkpoint
        if checkpoint.in_flight or checkpoint.changed():
            return True
        checkpoint.gate.open_held()
        return False

    def _collect(self, instance: Saved) -> Commit | None:
        try:
            commit = self._collect_or_undo(instance)
        except Exception as error:
            log.exception("%r cannot be saved", instance)
            instance.give_up(StoreError(f"the actor cannot be saved: {error}"))
            return None
        instance.compared()
        if commit is None:
            instance.checkpoint.gate.open_held()
        return commit

    @staticmethod
    def _collect_or_undo(instance: Saved) -> Commit | None:
        try:
            return instance.checkpoint.collect()
        except InvalidStateType as error:
            instance.undo(error)
            return instance.checkpoint.collect()

    async def _write(self, batch: list[tuple[Saved, Commit]]) -> None:
        """Write until all is known; after the first answer others no longer wait for it."""
        started = self._clock.monotonic()
        wait = FIRST_RETRY
        try:
            while batch:
                results = await self._commit([commit for _, commit in batch], started)
                batch = self._finish_known(batch, results)
                if batch:
                    self._repeat_apart([instance for instance, _ in batch])
                    if self._clock.monotonic() - started + wait > GIVE_UP_AFTER:
                        raise StoreUnavailable("A part of the store does not answer.")
                    await sleep(self._clock, wait)
                    wait *= 2
        except asyncio.CancelledError:
            if not self._abandoned:
                raise
        except BaseException as error:
            unknown = StoreUnavailable(
                "The store did not confirm a write; it may have happened.",
                outcome=Outcome.UNKNOWN,
            )
            for instance, _ in batch:
                instance.give_up(unknown)
            if not isinstance(error, StoreError):
                raise
            log.error("a write was given up: %s", error)
        finally:
            self._unanswered.difference_update([instance for instance, _ in batch])
            self._repeating -= {asyncio.current_task()}
            self._make_place()

    def _repeat_apart(self, instances: Sequence[Saved]) -> None:
        """This write goes on beside those of others."""
        task = asyncio.current_task()
        assert task is not None
        self._repeating.add(task)
        self._unanswered.update(instances)
        self._make_place()

    def _make_place(self) -> None:
        if self._writer is asyncio.current_task():
            self._writer = None
        if self._touched and not self._gathering:
            self._gathering = True
            asyncio.get_running_loop().call_soon(self._gather)

    async def _commit(self, commits: Sequence[Commit], started: float) -> list[CommitResult]:
        wait = FIRST_RETRY
        while True:
            self.round_trips += 1
            try:
                return await self._store.commit(commits)
            except StoreUnavailable as error:
                if self._clock.monotonic() - started + wait > GIVE_UP_AFTER:
                    raise
                log.warning("the store did not answer, trying again in %.2f s: %s", wait, error)
            await sleep(self._clock, wait)
            wait *= 2

    def _finish_known(
        self, batch: list[tuple[Saved, Commit]], results: list[CommitResult]
    ) -> list[tuple[Saved, Commit]]:
        """Finish what the store answered; gives what it did not."""
        unknown: list[tuple[Saved, Commit]] = []
        for (instance, commit), result in zip(batch, results, strict=True):
            if result is CommitResult.UNKNOWN:
                unknown.append((instance, commit))
            else:
                self._unanswered.discard(instance)
                self._finish(instance, commit, result)
        return unknown

    def _finish(self, instance: Saved, commit: Commit, result: CommitResult) -> None:
        if result.durable:
            self.commits += 1
            instance.checkpoint.finished()
            instance.committed(commit)
            return
        self.refused += 1
        log.error(
            "the store refused a commit: actor=%s epoch=%d sequence=%d result=%s",
            commit.actor_id,
            commit.fence.epoch,
            commit.sequence,
            result.value,
        )
        if result is CommitResult.BEHIND:
            why = "The store has lost data of this actor; what this call changed is not saved."
        else:
            why = "Another owner has taken the actor over; what this call changed is not saved."
        instance.give_up(ActorStopped(why, outcome=Outcome.UNKNOWN))

    def abandon(self) -> None:
        """Write nothing any more; what waits is never released."""
        self._abandoned = True
        self._touched.clear()
        for task in self._under_way():
            task.cancel()

    async def flush(self) -> None:
        """Wait until everything touched so far is durable or given up."""
        while self._touched or self._under_way():
            if self._writer is None and self._touched:
                self._gather()
            if tasks := self._under_way():
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    def _under_way(self) -> set[asyncio.Task[None]]:
        return self._repeating if self._writer is None else {*self._repeating, self._writer}
