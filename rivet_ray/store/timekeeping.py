"""Whether a store has a clock of its own, by which its actors are woken."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Timekeeper(Protocol):
    """A store on other machines, whose clock all hosts share. Drivers need not be."""

    async def now(self) -> float:
        """Seconds since the Unix epoch. Of several servers, those of the slowest clock."""
        ...
