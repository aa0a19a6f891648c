"""Group commit: the state of many actors to the store in one round trip.

Turns do not write. They change state in memory, leave their outputs at the
gate (see `gate`) and *touch* their instance. At the end of the event loop's
tick the checkpointer (see `checkpointer`) gathers every touched instance: it
takes the state apart into fields, compares each with what the store has, and
makes one commit of what differs. So a thousand turns on one actor cost one
comparison, and a small change in a large state costs about its field.

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

from collections.abc import Mapping
from typing import Protocol

from rivet_ray.errors import InvalidStateType
from rivet_ray.runtime.gate import Gate
from rivet_ray.runtime.ledger import Ledger
from rivet_ray.store import Claim, Commit, Stamp


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
        """The moment to say in the ledger what has changed beside the state.

        Raises InvalidStateType.
        """
        ...

    @property
    def unsaved(self) -> bool:
        """Whether a commit is needed though neither state nor ledger has changed."""
        ...

    def before_commit(self, *, alone: bool) -> None:
        """A commit will be made: the last moment to add to the ledger.

        `alone` tells that it is made only because of `unsaved`.
        """
        ...

    def inspect(self, changed: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """These parts of the state are about to be written; return them as they are written.

        Raises InvalidStateType.
        """
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
        "_stamp",
        "gate",
    )

    def __init__(self, claim: Claim, saved: dict[str, bytes], source: Source, stamp: Stamp) -> None:
        """`saved` are the parts of the state as the store has them, `stamp` names our code."""
        self._stamp = None if claim.stamp == stamp else stamp
        """What the next commit says of our code, where the store has another stamp."""
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
        alone = not (changed or deleted or source.ledger)
        if alone and not source.unsaved:
            return None
        written = source.inspect(changed)
        source.before_commit(alone=alone)
        alarm = source.next_alarm()
        put, removed = source.ledger.take()
        self._saved = parts
        self._sequence += 1
        self._in_flight = True
        self._carries_ledger = bool(put or removed)
        self.gate.cover()
        stamp, self._stamp = self._stamp, None
        return Commit(
            actor_id=self._claim.record.id,
            fence=self._claim.fence,
            sequence=self._sequence,
            put={**written, **put},
            delete=frozenset(deleted | removed.keys()),
            alarm=alarm,
            stamp=stamp,
            type=self._claim.record.type,
        )

    def _destroy(self) -> Commit:
        self._sequence += 1
        self._in_flight = True
        self.gate.cover()
        return Commit(
            self._claim.record.id,
            self._claim.fence,
            self._sequence,
            destroy=True,
            type=self._claim.record.type,
        )

    def changed(self) -> bool:
        """Whether anything differs from what was last collected."""
        source = self._source
        try:
            source.before_comparison()
            if source.ledger or source.destroying or source.unsaved:
                return True
            return source.split() != self._saved
        except InvalidStateType:
            return True

    def finished(self) -> None:
        """The write under way is durable."""
        self._in_flight = self._carries_ledger = False
        self.gate.open_covered()
