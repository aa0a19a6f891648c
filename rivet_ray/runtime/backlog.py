"""Messages for a connection whose client has not been told yet that it is open."""

from __future__ import annotations

from rivet_ray.budget import Budget
from rivet_ray.protocol.port import Close, Deliver
from rivet_ray.runtime.gate import OVERHEAD


class Backlog:
    """Messages in order, bounded in bytes.

    Policy beyond the bound: all its events are dropped, and those that follow. The
    connection is closed as a slow consumer once it is open, so that its client knows of
    the gap (promise C5); whoever gave the event is not hurt.
    """

    __slots__ = ("_budget", "_messages", "full")

    def __init__(self) -> None:
        self._messages: list[Deliver | Close] = []
        self._budget: Budget | None = None
        self.full = False
        """Events were dropped."""

    def close(self, message: Close) -> None:
        """End the connection as soon as it is open."""
        self._messages.append(message)

    def put(self, event: Deliver, limit: int, actor: Budget) -> list[Deliver]:
        """Keep an event, and return those that are dropped.

        `limit` is in bytes for this connection, `actor` bounds what counts for its actor.
        """
        if self.full:
            return [event]
        if self._budget is None:
            self._budget = Budget("backlog", limit, actor)
        self._messages.append(event)
        if self._budget.fits(OVERHEAD + len(event.event) + len(event.arguments)):
            return []
        self.full = True
        dropped = [message for message in self._messages if isinstance(message, Deliver)]
        self._messages = [message for message in self._messages if isinstance(message, Close)]
        self._budget.end()
        return dropped

    def take(self) -> list[Deliver | Close]:
        """All of it, which is kept here no longer."""
        messages, self._messages = self._messages, []
        if self._budget is not None:
            self._budget.end()
        return messages

    def __del__(self) -> None:
        if self._budget is not None:
            self._budget.end()
