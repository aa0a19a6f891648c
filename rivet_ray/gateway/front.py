"""What a server spends on clients before it knows who they are: connections, heads, messages.

A `Front` belongs to a gateway, and the protocols of its server ask it. A server of
somebody else's that the gateway is mounted into asks nothing, and has its own bounds.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

import uvicorn

from rivet_ray.budget import Budget
from rivet_ray.gateway.budgets import Budgets
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.gateway.statistics import GatewayStatistics

FIELD: Final = 32
"""Bytes that a header counts for beside its own, as in HTTP/2: what it takes in memory."""
LONGEST_CHARACTER: Final = 3
"""Bytes of UTF-8 for one unit of UTF-16, in which text frames are measured."""
CONNECT: Final = "/actors/connect/websocket"
UNLIMITED: Final = 65_536
"""Connections where the system sets no limit to open files."""
RESERVE: Final = 64
"""Open files that are left for the store, links and logs, or an eighth of all."""


def most_connections() -> int:
    """How many connections the limit to open files (`ulimit -n`) has room for."""
    if sys.platform == "win32":
        return UNLIMITED
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return UNLIMITED
    return max(files - max(RESERVE, files // 8), 1)


def address_of(transport: asyncio.BaseTransport) -> str | None:
    """The address of the peer; None for a socket of the file system."""
    peer: Any = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else None  # pyright: ignore[reportUnknownArgumentType]


class Silent(Protocol):
    """A connection whose client has not sent a whole request."""

    def make_way(self) -> None:
        """End at once: another connection needs the place."""
        ...


class Front:
    """The bounds before admission, of one gateway."""

    def __init__(
        self, settings: GatewaySettings, budgets: Budgets, statistics: GatewayStatistics
    ) -> None:
        self.statistics = statistics
        self.unread: Budget = budgets.unread
        self.max_head_size = settings.max_head_size
        self.head_timeout = settings.head_timeout
        self._max_connections = settings.max_connections or most_connections()
        self._max_per_address = settings.max_connections_per_address
        self._message_size = LONGEST_CHARACTER * settings.max_incoming_message_size
        self._raw_message_size = settings.max_raw_message_size
        self.parting = 0
        """Connections for which there is no place, and that are being told so."""
        self._addresses: Counter[str] = Counter()
        self._silent: dict[Silent, None] = {}
        """The longest silent first."""

    @staticmethod
    def connects(path: str) -> bool:
        """Whether it is the path of a connection, and not that of a raw socket."""
        return path.partition("?")[0].rstrip("/").endswith(CONNECT)

    def message_size(self, path: str) -> int:
        """The longest message of a WebSocket with that path, in bytes."""
        return self._message_size if self.connects(path) else self._raw_message_size

    def admits(self, connections: int, address: str | None) -> bool:
        """Whether there is room for one more connection, beside so many; counts it if not.

        If all places are taken, the client that has been silent for the longest loses its.
        """
        if self._max_per_address and address and self._addresses[address] >= self._max_per_address:
            self.statistics.connections_refused += 1
            return False
        if connections >= self._max_connections:
            if not self._silent:
                self.statistics.connections_refused += 1
                return False
            self.statistics.silent_connections += 1
            oldest = next(iter(self._silent))
            del self._silent[oldest]
            oldest.make_way()
        return True

    def entered(self, connection: Silent, address: str | None) -> None:
        """A connection is there, and silent."""
        self._silent[connection] = None
        if self._max_per_address and address:
            self._addresses[address] += 1

    def spoke(self, connection: Silent) -> None:
        """Its client has sent a request, or has left."""
        self._silent.pop(connection, None)

    def left(self, address: str | None) -> None:
        """A connection that had entered is no longer there."""
        if self._max_per_address and address:
            self._addresses[address] -= 1
            if self._addresses[address] <= 0:
                del self._addresses[address]


_fronts: WeakKeyDictionary[uvicorn.Config, Front] = WeakKeyDictionary()


def front_of(config: uvicorn.Config) -> Front:
    """The bounds of the gateway that a server with this configuration serves."""
    found = _fronts.get(config)
    if found is None:
        loaded: Any = config
        app = getattr(loaded, "gateway", None) or loaded.loaded_app
        found = _fronts[config] = _find(app) or _default()
    return found


def _find(app: Any) -> Front | None:
    """The gateway is the application, or inside of a middleware, or mounted."""
    while app is not None:
        front = getattr(getattr(app, "state", None), "rivet_front", None)
        if isinstance(front, Front):
            return front
        for route in getattr(app, "routes", ()):
            front = getattr(
                getattr(getattr(route, "app", None), "state", None), "rivet_front", None
            )
            if isinstance(front, Front):
                return front
        app = getattr(app, "app", None)
    return None


def _default() -> Front:
    settings = GatewaySettings()
    budgets = Budgets(settings)
    return Front(settings, budgets, GatewayStatistics(budgets.gateway))
