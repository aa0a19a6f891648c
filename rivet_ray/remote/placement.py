"""Which host an actor is on, and where that host is."""

from __future__ import annotations

from typing import Protocol

from rivet_ray.errors import RivetError


class HostUnreachable(RivetError):
    """The host is not there yet, or not any more. Asked again after a while."""

    code = "host_unreachable"


class Placement(Protocol):
    """One for each topology."""

    def host_of(self, actor: str) -> str:
        """The name of the host of an actor id. Never blocks."""
        ...

    async def address_of(self, host: str) -> str:
        """Where the host's link listens now, `host:port`; it is started where it is missing.

        Asked before each connection. Raises HostUnreachable.
        """
        ...

    async def close(self) -> None: ...


class Fixed:
    """One host at a known address."""

    def __init__(self, address: str) -> None:
        self._address = address

    def host_of(self, actor: str) -> str:
        return "host"

    async def address_of(self, host: str) -> str:
        return self._address

    async def close(self) -> None:
        """Nothing was opened."""
