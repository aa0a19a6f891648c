"""Who waits for whom at the start and the stop of actors, so that a cycle is refused at once.

A call to an actor that starts waits for the hooks of its start; a call to one that leaves
memory waits for `on_stop`. Such a hook may call others, which may call back: the chain
of a call names the turns that wait for it, and a call whose chain holds the hook that
it would have to wait for can never be answered.

Calls that came earlier from elsewhere wait for a hook as well. They are part of the chain
of what the hook calls from then on, and are looked up here for what it called before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from rivet_ray.errors import CallCycle, Outcome
from rivet_ray.runtime.turn import Turn

LONGEST = 256
"""Turns that a chain takes over from those that wait for a hook."""


class Waiting(Protocol):
    """Something that waits for an actor."""

    @property
    def chain(self) -> Sequence[str]: ...


class Waits:
    """The hooks of one host that calls wait for, and what waits for them."""

    def __init__(self, parked: Mapping[str, Iterable[Waiting]]) -> None:
        """`parked` is what waits for each actor."""
        self._parked = parked
        self._asking: dict[str, str] = {}
        """Of hooks that have called somebody: the actor, by the id of the turn."""

    def chain_of(self, turn: Turn) -> list[str]:
        """The turns that wait for what `turn` calls now, itself the last."""
        chain = [*turn.chain, turn.id]
        instance = turn.instance
        if instance.blocking is turn:
            self._asking[turn.id] = instance.record.id
            earlier = self._all(self._behind(instance.record.id)).difference(chain)
            chain = [*sorted(earlier)[:LONGEST], *chain]
        return chain

    def check(self, blocking: Turn | None, chain: Sequence[str]) -> None:
        """Raise CallCycle if `blocking` waits for a call with this chain."""
        if chain and blocking is not None and blocking.id in self._all(chain):
            raise CallCycle(
                "This call waits for its actor to start or to stop, and a hook of that waits "
                "for this call. Call from an action instead, or do not wait for it in the "
                "hook: self.wait_until(...).",
                outcome=Outcome.NOT_STARTED,
            )

    def ended(self, turn: Turn) -> None:
        """The hook waits for nobody any more."""
        self._asking.pop(turn.id, None)

    def _all(self, chain: Iterable[str]) -> set[str]:
        """These turns, and all that wait for them."""
        found, new = set[str](), set(chain)
        while new:
            found |= new
            actors = [self._asking[turn] for turn in new if turn in self._asking]
            new = {turn for actor in actors for turn in self._behind(actor)} - found
        return found

    def _behind(self, actor: str) -> Iterable[str]:
        return [turn for parked in self._parked.get(actor, ()) for turn in parked.chain]
