"""Looks at a store, each of which has an end."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from rivet_ray.clock import Clock
from rivet_ray.runtime.patience import answered

T = TypeVar("T")

LOOK = 30.0
"""Seconds for one answer; a large database adds up many rows for some of them."""


async def look(clock: Clock, answer: Awaitable[T]) -> T:
    """Return the answer. Raises StoreUnavailable if there is none within LOOK."""
    return await answered(clock, answer, LOOK)
