"""A store that a test holds up, over the one that its server uses."""

from __future__ import annotations

from typing import Any

from rivet_ray_drivers.memory import MemoryStore


class StoreOver:
    """Hands everything on to the store below it: memory, where its server puts no other."""

    def __init__(self) -> None:
        self.below: Any = MemoryStore()
        self.url: str | None = None
        """Of the store below, where a server has put one there."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)
