"""One server after another on the same store, at the end of the same road."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from asgi_server import serving
from client_worlds import eventually
from road import Road, road_to

from rivet_ray import Registry
from rivet_ray.gateway import create_app
from rivet_ray.protocol import values
from rivet_ray.runtime import Standalone
from rivet_ray_drivers.memory import MemoryStore


class Servers:
    """The road leads to the one that was started last."""

    def __init__(self, registry: type[Registry], road: Road) -> None:
        self.road = road
        self._registry = registry
        self._store = MemoryStore()
        self._exits = AsyncExitStack()
        self._backend = Standalone({})

    async def __aenter__(self) -> Servers:
        await self.start()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._exits.aclose()

    async def start(self) -> None:
        self._backend = Standalone(self._registry.definitions(), self._store)
        url = await self._exits.enter_async_context(serving(create_app(self._backend)))
        self.road.port = int(url.rpartition(":")[2])

    async def saved(self, name: str, key: str, field: str, value: Any) -> None:
        """Wait until a field of an actor's state has this value in the store."""
        record = await self._store.find("default", name, (key,))
        assert record is not None
        part = values.encode(value)
        await eventually(lambda: self._store._living[record.id].parts.get(f"state/{field}") == part)

    async def crash(self) -> None:
        """Nothing is saved of what is in memory, and another server takes its place."""
        self.road.open = False
        self.road.cut()
        self._backend.abandon()
        await self.start()
        self.road.open = True


@asynccontextmanager
async def succession(registry: type[Registry]) -> AsyncIterator[Servers]:
    async with road_to(0) as road, Servers(registry, road) as servers:
        yield servers
