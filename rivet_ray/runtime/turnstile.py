"""Who may run beside whom: exclusive actions and the turns around them.

Turns enter in the order in which they came. An exclusive one waits until no
other turn is open, and while it is open or waits first in line, nobody else
enters. Everything else enters at once.
"""

from __future__ import annotations

import asyncio

from rivet_ray.errors import CallCycle, Outcome
from rivet_ray.runtime.turn import Turn


class Turnstile:
    """The turns of one instance."""

    __slots__ = ("_exclusive", "_open", "_queue")

    def __init__(self) -> None:
        # A dict and a list, since thousands of idle actors have one of these each:
        # empty, they are a fifth of a set's and a tenth of a deque's size.
        self._open: dict[Turn, None] = {}
        self._exclusive = False
        self._queue: list[tuple[asyncio.Future[None], Turn, bool]] = []

    @property
    def closed(self) -> bool:
        """Whether a turn that came now would have to wait."""
        return self._exclusive or bool(self._queue)

    @property
    def open(self) -> int:
        """How many turns are running."""
        return len(self._open)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Those that are running."""
        return tuple(self._open)

    def mark_undone(self) -> None:
        """A field went back to what it was; any of the open turns may have changed it."""
        for turn in self._open:
            turn.undone = True

    async def enter(self, turn: Turn, *, exclusive: bool, chain: list[str]) -> None:
        """Wait for this turn's place; `leave` gives it up.

        `chain` names the turns that wait for this one. Raises CallCycle when
        this turn would have to wait for one of them.
        """
        if not self.closed and not (exclusive and self._open):
            self._admit(turn, exclusive)
            return
        if any(waiting.id in chain for waiting in self._open):
            raise CallCycle(
                "This call waits for an exclusive action that is itself waiting for this call.",
                outcome=Outcome.NOT_STARTED,
            )
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (place, turn, exclusive)
        self._queue.append(entry)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave(turn)
            else:
                if entry in self._queue:
                    self._queue.remove(entry)
                self._advance()
            raise

    def _admit(self, turn: Turn, exclusive: bool) -> None:
        self._open[turn] = None
        self._exclusive = exclusive

    def leave(self, turn: Turn) -> None:
        """The turn has ended; harmless when it never entered."""
        if turn in self._open:
            del self._open[turn]
            self._exclusive = False
            self._advance()

    def _advance(self) -> None:
        while self._queue and not self._exclusive:
            place, turn, exclusive = self._queue[0]
            if exclusive and self._open:
                return
            del self._queue[0]
            if not place.done():
                self._admit(turn, exclusive)
                place.set_result(None)
