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
is released at once, whoever else is being written.

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
from collections.abc import Callable, Sequence
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
from rivet_ray.store import Claim, Commit, CommitResult, Store

log = logging.getLogger("rivet_ray.runtime")

FIRST_RETRY = 0.05
GIVE_UP_AFTER = 10.0


class Checkpoint:
    """What the store has of one actor, and what it is to get next."""

    __slots__ = ("_claim", "_in_flight", "_saved", "_sequence", "_split", "gate")

    def __init__(self, claim: Claim, split: Callable[[], dict[str, bytes]]) -> None:
        """`split` gives the parts of the current state, each encoded."""
        self._claim = claim
        self._split = split
        self._saved: dict[str, bytes] = dict(claim.parts)
        self._sequence = claim.sequence
        self._in_flight = False
        self.gate = Gate()

    @property
    def in_flight(self) -> bool:
        """Whether a write is under way."""
        return self._in_flight

    def collect(self) -> Commit | None:
        """The commit that makes the current state durable, or None if it is.

        Raises InvalidStateType when the state holds what cannot be saved.
        """
        parts = self._split()
        saved = self._saved
        put = {name: value for name, value in parts.items() if saved.get(name) != value}
        if not put and len(parts) == len(saved):
            return None
        self._saved = parts
        self._sequence += 1
        self._in_flight = True
        self.gate.cover()
        return Commit(
            actor_id=self._claim.record.id,
            fence=self._claim.fence,
            sequence=self._sequence,
            put=put,
            delete=frozenset(saved.keys() - parts.keys()),
            alarm=self._claim.alarm,
        )

    def changed(self) -> bool:
        """Whether the current state differs from the last that was collected."""
        try:
            return self._split() != self._saved
        except InvalidStateType:
            return True

    def finished(self) -> None:
        """The write under way is durable."""
        self._in_flight = False
        self.gate.open_covered()


class Saved(Protocol):
    """An instance, as the checkpointer sees it."""

    @property
    def checkpoint(self) -> Checkpoint: ...

    def give_up(self, error: RivetError) -> None:
        """Break the gate with `error` and leave memory."""
        ...


class Checkpointer:
    """The group commit of one host."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._touched: dict[Saved, None] = {}
        self._gathering = False
        self._writer: asyncio.Task[None] | None = None
        self.round_trips = 0
        self.commits = 0
        self.refused = 0
        """Commits that the store refused because of their fence (promise C1)."""

    def touch(self, instance: Saved) -> None:
        """Look at the instance's state at the end of this tick."""
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
            if writing and self._must_wait(instance):
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
            commit = instance.checkpoint.collect()
        except InvalidStateType as error:
            instance.give_up(error)
            return None
        if commit is None:
            instance.checkpoint.gate.open_held()
        return commit

    async def _write(self, batch: list[tuple[Saved, Commit]]) -> None:
        try:
            results = await self._commit([commit for _, commit in batch])
            for (instance, commit), result in zip(batch, results, strict=True):
                self._finish(instance, commit, result)
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
            self._writer = None
            if self._touched and not self._gathering:
                self._gathering = True
                asyncio.get_running_loop().call_soon(self._gather)

    async def _commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        started = self._clock.monotonic()
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

    def _finish(self, instance: Saved, commit: Commit, result: CommitResult) -> None:
        if result.durable:
            self.commits += 1
            instance.checkpoint.finished()
            return
        self.refused += 1
        log.error(
            "the store refused a commit: actor=%s epoch=%d sequence=%d result=%s",
            commit.actor_id,
            commit.fence.epoch,
            commit.sequence,
            result.value,
        )
        instance.give_up(
            ActorStopped(
                "Another owner has taken the actor over; nothing of this call was saved.",
                outcome=Outcome.UNKNOWN,
            )
        )

    async def flush(self) -> None:
        """Wait until everything touched so far is durable or given up."""
        while self._writer is not None or self._touched:
            if self._writer is None:
                self._gather()
            else:
                await asyncio.wait([self._writer])
