"""Bounds the events that wait for the handlers of one connection, in bytes."""

from __future__ import annotations

from rivet_ray.budget import KIB, Budget
from rivet_ray.client.settings import admit
from rivet_ray.definition.remote import LIFECYCLE
from rivet_ray.errors import SlowConsumer
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

MAX_UNREAD = 1_024
"""How many events may wait, where they are counted too."""
MAX_LIFECYCLE = 256
"""How many life-cycle events, errors among them, may wait beyond the others."""
LIFECYCLE_SIZE = 1_024 * KIB
"""Bytes of life-cycle events that may wait beyond the others."""
EVENT = 512
"""Bytes that an event which waits takes beside its arguments."""
TASK = 4 * KIB
"""The same for an asynchronous handler that runs."""

log = logger_of_strangers("rivet_ray.client")


class Backlog:
    """Counts the events that handlers have not finished yet.

    An event that does not fit is dropped, and SlowConsumer is raised for the first,
    until less than half of the room is taken. Belongs to one thread at a time.
    """

    def __init__(self, label: str, limit: int, *above: Budget) -> None:
        """`above` is the bound of the whole client."""
        self._label = label
        self._events = Budget("events", limit, *above)
        self._lifecycle = Budget("life-cycle events", LIFECYCLE_SIZE)
        self.dropped = 0
        """How many events were dropped because too much waited."""
        self._dropping = False

    def take(self, event: str, size: int, waiting: int = 0) -> bool:
        """Count an event of `size` bytes; return False to drop it. Raises SlowConsumer.

        Where events are counted too, `waiting` is how many there are.
        """
        events = self._events
        if events.held * 2 < events.limit and waiting * 2 < MAX_UNREAD:
            self._dropping = False
        lifecycle = event in LIFECYCLE
        budget = self._lifecycle if lifecycle else events
        room = MAX_UNREAD + (MAX_LIFECYCLE if lifecycle else 0)
        full = admit(budget, size) if waiting < room else None
        if waiting < room and full is None:
            return True
        self.dropped += 1
        if self._dropping:
            return False
        self._dropping = True
        if lifecycle:
            log.warning(
                "the handlers of %s are too slow: %r is dropped", self._label, event, extra=REPEATED
            )
            return False
        what = f"{MAX_UNREAD} events wait" if full is None else f"{full.limit} bytes wait"
        setting = "max_unread_size" if full in (None, events) else "max_held_size"
        raise SlowConsumer(
            f"The handlers of {self._label} are too slow: {what} for them. "
            f"An event {event!r} was dropped, and more will be until half of them are handled "
            f"({self.dropped} so far). Do less in handlers, read conn.events(…), or raise "
            f"ClientSettings.{setting}."
        )

    def give_back(self, event: str, size: int) -> None:
        """A handler has finished an event that was taken."""
        (self._lifecycle if event in LIFECYCLE else self._events).give_back(size)


def size_of(arguments: tuple[object, ...]) -> int:
    """About how many bytes a life-cycle event holds, which is never encoded."""
    return sum(len(str(argument)) for argument in arguments)
