"""What a host sends to one gateway: in order, bounded, paid for with credit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rivet_ray.budget import Budget
from rivet_ray.errors import Outcome, Overloaded
from rivet_ray.protocol.caller import cost_of_headers
from rivet_ray.protocol.port import (
    INITIAL_CREDIT,
    Ask,
    Attached,
    Close,
    Deliver,
    Failed,
    Handed,
    Reply,
    ToGateway,
    subscription_cost,
)
from rivet_ray.protocol.raw import RawData, RawEnd, RawStart
from rivet_ray.runtime.failures import failure_of

SMALL = 2
"""How many times its bound what is small may make a gateway's queue grow."""
OVERHEAD = 256
"""Bytes that a message counts for beside what it carries."""


class Outbox:
    """A queue in front of a gateway that may be slower than its actors.

    `Deliver` messages cost one credit each. Without credit everything waits here, in
    order, and counts in bytes against `budget`. Policy beyond it: an event is dropped
    and the connections it was for are closed (`overflow`), so that their clients know of
    the gap (promise C5). What else may be long is replaced by what `instead` returns, or
    left out: an answer becomes the error `overloaded`, as one that took effect.

    What is small and ends or opens something always waits: it comes once or twice for
    each call, connection and raw request, and for each `GRANT` bytes of a raw body, whose
    pieces wait in a lane of 4 MiB before they come here. A gateway that takes nothing
    may still begin and cancel calls, so that is bounded too: if `SMALL` times the
    budget's bound is held, `give_up` is called, once; the session ends with its queue.
    """

    __slots__ = (
        "_budget",
        "_credit",
        "_give_up",
        "_given_up",
        "_instead",
        "_overflow",
        "_queue",
        "_receive",
        "dropped",
    )

    def __init__(
        self,
        receive: Callable[[ToGateway], None],
        overflow: Callable[[Deliver], None],
        budget: Budget,
        *,
        instead: Callable[[ToGateway], ToGateway | None] = lambda message: message,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._receive = receive
        self._overflow = overflow
        self._budget = budget
        self._instead = instead
        self._give_up = give_up
        self._given_up = False
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
        elif isinstance(message, Reply):
            self._keep(_instead_of(message))
        else:
            small = self._instead(message)
            if small is not None:
                self._keep(small)

    def _keep(self, message: ToGateway) -> None:
        """Queue what is small, whatever waits already."""
        self._budget.hold(_cost(message))
        self._queue.append(message)
        if self._budget.held > SMALL * self._budget.limit and not self._given_up:
            self._given_up = True
            self._budget.refuse("gateway that takes nothing")
            self._give_up()

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
    if isinstance(message, RawStart):
        return OVERHEAD + cost_of_headers(message.headers)
    if isinstance(message, Attached):
        return OVERHEAD + sum(map(subscription_cost, message.events))
    if isinstance(message, Handed):
        return OVERHEAD + (message.said.cost if isinstance(message.said, Ask) else 0)
    if isinstance(message, Close | RawEnd):
        return OVERHEAD + len(message.reason)
    return OVERHEAD


def _instead_of(reply: Reply) -> Failed:
    full = Overloaded(
        "The action has run, but too much waits for its gateway for the answer to be sent.",
        outcome=Outcome.TOOK_EFFECT,
    )
    return Failed(reply.call, failure_of(full, Outcome.TOOK_EFFECT, "outbox"))
