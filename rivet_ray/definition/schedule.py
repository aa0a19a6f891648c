"""The schedule of an actor: actions that it calls on itself later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, overload

from typing_extensions import ParamSpec

from rivet_ray.definition.actions import Action

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One entry of a schedule."""

    id: str
    action: str
    """The wire name of the action."""
    args: tuple[Any, ...]
    due: datetime
    """In UTC. It never runs before."""
    attempt: int = 0
    """How often it has been started: 1 while it runs for the first time."""
    error: str | None = None
    """What the last attempt failed with."""
    failed: bool = False
    """All attempts are used up; it stays here to be seen, until it is cancelled. Or the class
    has no such action, or other parameters: then it runs once a class has them again."""


class Schedule(Protocol):
    """`self.schedule`: survives restarts and crashes, like the state.

    What is scheduled is saved with what the action has changed, in one write. An
    action that fails keeps both. An entry runs at least once, never early by
    the store's clock, and is removed in the same write that saves its effect,
    so a crash in between runs it again, with a higher `attempt`.

    An action that raises, or that ends its process, is tried again after 1, 2, 4, ...
    seconds, at most 300 apart and at most 10 times; then the entry is kept as `failed`.
    Each attempt is on record before it begins.

    An entry whose action the class no longer has, or whose arguments no longer fit, is
    `failed` when it is due, without an attempt. It is kept, and runs once a class has the
    action again.
    """

    @overload
    def after(
        self,
        delay: timedelta | float,
        action: Action[Any, P, Any, Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> str: ...
    @overload
    def after(self, delay: timedelta | float, action: str, /, *args: Any) -> str: ...
    def after(self, delay: timedelta | float, action: Any, /, *args: Any, **kwargs: Any) -> str:
        """Call an action of this actor after a delay; numbers are milliseconds.

        Returns the entry's id. Raises InvalidArgument when the arguments do not
        fit the action, ActionNotFound for an unknown name, ValueError for a
        negative delay.
        """
        ...

    @overload
    def at(
        self,
        when: datetime,
        action: Action[Any, P, Any, Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> str: ...
    @overload
    def at(self, when: datetime, action: str, /, *args: Any) -> str: ...
    def at(self, when: datetime, action: Any, /, *args: Any, **kwargs: Any) -> str:
        """Call an action of this actor at a time, or at once if it has passed.

        Raises ValueError for a datetime without a time zone, else as `after`.
        """
        ...

    def cancel(self, schedule_id: str) -> bool:
        """Remove an entry. False when it is not there, or has been removed already."""
        ...

    def list(self) -> list[Scheduled]:
        """All entries, the next one first, failed ones last: the newest 100 of these are kept."""
        ...

    @property
    def current(self) -> Scheduled | None:
        """The entry that caused the current turn; None in any other turn."""
        ...
