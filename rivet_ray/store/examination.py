"""What a store says of itself: how durable it is, and what its operator should know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from rivet_ray.store.ports import Store


class Verdict(str, Enum):
    OK = "ok"
    UNKNOWN = "unknown"
    """It cannot be found out, and nobody demanded it."""
    WARNING = "warning"
    """It works, and there is an event that it would not survive or cannot bear."""
    PROBLEM = "problem"
    """Data are in danger now, or less is kept than was demanded."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. Its texts hold no password."""

    subject: str
    found: str
    verdict: Verdict = Verdict.OK
    advice: str = ""
    """What follows from it and what helps, where something does."""

    @property
    def alarming(self) -> bool:
        return self.verdict in (Verdict.WARNING, Verdict.PROBLEM)


@runtime_checkable
class Examinable(Protocol):
    """A store that can say something of itself. Drivers need not be."""

    async def examine(self) -> list[Finding]:
        """Look at the store and change nothing. Raises StoreError."""
        ...


async def examine(store: Store) -> list[Finding]:
    """What the store says of itself; a driver that says nothing is unknown."""
    if isinstance(store, Examinable):
        return await store.examine()
    return [Finding("durability", "its driver does not say", Verdict.UNKNOWN)]
