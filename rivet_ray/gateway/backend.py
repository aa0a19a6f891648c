"""What stands behind a gateway: a directory, and the hosts that it leads to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rivet_ray.budget import Budget
from rivet_ray.definition import ActorDefinition
from rivet_ray.runtime import Calls, Directory


class Backend(Protocol):
    """The way to the actors; `rivet_ray.runtime.Standalone` is one."""

    @property
    def definitions(self) -> Mapping[str, ActorDefinition]: ...

    @property
    def started(self) -> bool: ...

    @property
    def directory(self) -> Directory:
        """Available once `start` has returned."""
        ...

    @property
    def calls(self) -> Calls:
        """Available once `start` has returned."""
        ...

    def ailing(self) -> str | None:
        """Why no write gets through in this process, for the log; None while they do."""
        ...

    @property
    def held(self) -> Budget | None:
        """What the host of this process holds for callers; None where hosts are elsewhere."""
        ...

    @property
    def unanswered(self) -> Budget | None:
        """What calls hold that wait for hosts elsewhere; None where the host is here."""
        ...

    async def start(self) -> None:
        """Open everything, once; called before each use until `started`."""
        ...

    async def close(self) -> None: ...
