"""What a host sends to one gateway: in order, bounded, paid for with credit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rivet_ray.budget import Budget
from rivet_ray.errors import Outcome, Overloaded
from rivet_ray.protocol.port import INITIAL_CREDIT, Deliver, Failed, Reply, ToGateway
from rivet_ray.protocol.raw import RawData
from rivet_ray.runtime.failures import failure_of

OVERHEAD = 256
"""Bytes that a message counts for beside what it carries."""


class Outbox:
    """A queue in front of a gateway that may be slower than its actors.

    `Deliver` messages cost one credit each. Without credit everything waits here, in
    order, and counts in bytes against `budget`. Policy beyond it: an event is dropped
    and the connections it was for are closed (`overflow`), so that their clients know of
    the gap (promise C5); an answer becomes the error `overloaded`, as one that took
    effect. What is small and comes once for each call or connection always waits.
    """

    __slots__ = ("_budget", "_credit", "_overflow", "_queue", "_receive", "dropped")

    def __init__(
        self,
        receive: Callable[[ToGateway], None],
        overflow: Callable[[Deliver], None],
        budget: Budget,
    ) -> None:
        self._receive = receive
        self._overflow = overflow
        self._budget = budget
        self._credit = INITIAL_CREDIT
        self._queue: deque[ToGateway] = deque()
        self.dropped = 0

    def put(self, message: ToGateway) -> None:
        """Send a message, or queue it behind those that wait."""
        is_event = isinstance(message, Deliver)
        if not self._queue and (not is_event or self._credit > 0):
            if is_event:
                self._credit -= 1
            self._receive(message)
        elif self._budget.fits(_cost(message)):
            self._queue.append(message)
        elif isinstance(message, Deliver):
            self.dropped += 1
            self._overflow(message)
        else:
            if isinstance(message, Reply):
                message = _instead_of(message)
            self._budget.hold(_cost(message))
            self._queue.append(message)

    def grant(self, frames: int) -> None:
        """The gateway can take `frames` more events."""
        self._credit += frames
        queue = self._queue
        while queue:
            if type(queue[0]) is Deliver:
                if self._credit <= 0:
                    return
                self._credit -= 1
            message = queue.popleft()
            self._budget.give_back(_cost(message))
            self._receive(message)

    def end(self) -> None:
        """The gateway is gone, and with it what waits."""
        self._queue.clear()
        self._budget.end()


def _cost(message: ToGateway) -> int:
    if isinstance(message, Deliver):
        return OVERHEAD + len(message.event) + len(message.arguments)
    if isinstance(message, Reply):
        return OVERHEAD + len(message.output or b"")
    if isinstance(message, RawData):
        return OVERHEAD + len(message.data)
    if isinstance(message, Failed):
        return OVERHEAD + len(message.failure.message) + len(message.failure.metadata or b"")
    return OVERHEAD


def _instead_of(reply: Reply) -> Failed:
    full = Overloaded(
        "The action has run, but too much waits for its gateway for the answer to be sent.",
        outcome=Outcome.TOOK_EFFECT,
    )
    return Failed(reply.call, failure_of(full, Outcome.TOOK_EFFECT, "outbox"))
