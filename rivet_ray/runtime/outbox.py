"""What a host sends to one gateway: in order, bounded, paid for with credit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rivet_ray.protocol.port import INITIAL_CREDIT, Deliver, ToGateway

LIMIT = 65_536


class Outbox:
    """A queue in front of a gateway that may be slower than its actors.

    `Deliver` messages cost one credit each. Without credit everything waits
    here, in order. Policy when `limit` events wait: the event is dropped and
    the connections it was for are closed (`overflow`), so that their clients
    know of the gap (promise C5).
    """

    __slots__ = ("_credit", "_events", "_limit", "_overflow", "_queue", "_receive", "dropped")

    def __init__(
        self,
        receive: Callable[[ToGateway], None],
        overflow: Callable[[Deliver], None],
        limit: int = LIMIT,
    ) -> None:
        self._receive = receive
        self._overflow = overflow
        self._limit = limit
        self._credit = INITIAL_CREDIT
        self._queue: deque[ToGateway] = deque()
        self._events = 0
        self.dropped = 0

    def put(self, message: ToGateway) -> None:
        """Send a message, or queue it behind those that wait."""
        is_event = isinstance(message, Deliver)
        if not self._queue and (not is_event or self._credit > 0):
            if is_event:
                self._credit -= 1
            self._receive(message)
        elif not isinstance(message, Deliver):
            self._queue.append(message)
        elif self._events < self._limit:
            self._events += 1
            self._queue.append(message)
        else:
            self.dropped += 1
            self._overflow(message)

    def grant(self, frames: int) -> None:
        """The gateway can take `frames` more events."""
        self._credit += frames
        queue = self._queue
        while queue:
            if type(queue[0]) is Deliver:
                if self._credit <= 0:
                    return
                self._credit -= 1
                self._events -= 1
            self._receive(queue.popleft())
