"""The output gate: nothing leaves an actor before what it reveals is durable.

Everything that an actor gives away (a reply, an error, an event, the word that
a connection is open, a close) passes its instance's gate. It is encoded when
it is given and *held*. The checkpoint then looks at the state, once for many
turns:

* nothing differs from what the store has, and no write is under way: all that
  is held depends on nothing unwritten and is released at once;
* something differs: it is written, and what is held is *covered* by that write.
  It is released when the store has confirmed it;
* a write is under way: what is held may reveal it, so it waits for that one and
  for the next look.

Release is in the order in which things were given, always. A write that the
store refuses, or whose result cannot be found out, breaks the gate: everything
held or covered is handed the error instead, and so is all that comes later.
A reply then becomes a failure with its outcome, an event is dropped.

User I/O inside an action (SQL, HTTP) cannot be gated. `await self.save()`
waits at the gate like a reply, and is the way to order such I/O after a write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rivet_ray.budget import KIB, Budget
from rivet_ray.errors import RivetError
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.runtime")

OVERHEAD = 256
"""Bytes that something held counts for beside what it carries."""
COUNTED = 64 * KIB
"""Bytes from which on what is held counts for its actor."""

Release = Callable[[RivetError | None], None]
"""Called once: with None when the gate opens, with the error when it breaks."""


class Gate:
    """The gate of one instance. Only the checkpoint opens or breaks it."""

    __slots__ = ("_broken", "_covered", "_covered_size", "_held", "_held_size", "budget", "counted")

    def __init__(self) -> None:
        self._held: list[Release] = []
        self._covered: list[Release] = []
        self._held_size = self._covered_size = 0
        self._broken: RivetError | None = None
        self.budget: Budget | None = None
        """The actor's, while much is held; see `count`."""
        self.counted = 0
        """Bytes of what is held that count against it."""

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._held and not self._covered

    @property
    def uncounted(self) -> int:
        """Bytes of what is held that count for nobody yet."""
        return self._held_size + self._covered_size - self.counted

    def hold(self, release: Release, size: int = OVERHEAD) -> None:
        """Keep something of so many bytes until what it may reveal is durable."""
        if self._broken is not None:
            _release([release], self._broken)
        else:
            self._held.append(release)
            self._held_size += size

    def count(self, budget: Budget) -> None:
        """Count all that is held against a budget, until it leaves.

        Done from COUNTED bytes on, so that a gate that opens soon costs nothing.
        """
        self.budget = budget
        more = self.uncounted
        budget.hold(more)
        self.counted += more

    def _give_back(self) -> None:
        left = -self.uncounted
        if left > 0 and self.budget is not None:
            self.budget.give_back(left)
            self.counted -= left
            if not self.counted:
                self.budget = None

    def _take_held(self) -> list[Release]:
        released, self._held, self._held_size = self._held, [], 0
        self._give_back()
        return released

    def cover(self) -> None:
        """A write of the current state begins: what is held waits for it."""
        self._covered.extend(self._held)
        self._held.clear()
        self._covered_size += self._held_size
        self._held_size = 0

    def open_covered(self) -> None:
        """That write is durable."""
        released, self._covered, self._covered_size = self._covered, [], 0
        self._give_back()
        _release(released, None)

    def open_held(self) -> None:
        """The state holds nothing unwritten."""
        _release(self._take_held(), None)

    def refuse_held(self, error: RivetError) -> None:
        """What is held comes from code that failed to leave a state to save."""
        for release in self._take_held():
            release(error)

    def break_with(self, error: RivetError) -> None:
        """A write was refused or stays unknown. Final."""
        if self._broken is not None:
            return
        self._broken = error
        released = self._covered + self._held
        self._covered, self._covered_size = [], 0
        self._take_held()
        _release(released, error)


def _release(released: Sequence[Release], error: RivetError | None) -> None:
    """Call each; one that fails is logged and takes nobody else with it."""
    for release in released:
        try:
            release(error)
        except Exception:
            log.exception(
                "something that an actor gave away could not be delivered", extra=REPEATED
            )
