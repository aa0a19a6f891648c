"""A real server behind an unreliable road, and a client that does not take the road."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from asgi_server import serving
from road import Road, road_to

from rivet_ray import Registry
from rivet_ray.asgi import serve_exchange
from rivet_ray.gateway import GatewaySettings, create_app
from rivet_ray.runtime import HostSettings, Standalone

App = TypeVar("App", bound=Registry)

PATIENCE = 10.0
WAYS = pytest.mark.parametrize("transport", ["websocket", "sse"])


@asynccontextmanager
async def world(
    registry: type[App],
    settings: HostSettings | None = None,
    gateway: GatewaySettings | None = None,
) -> AsyncIterator[tuple[Road, App]]:
    """The road, whose URL clients take, and the client beside it."""
    backend = Standalone(
        registry.definitions(), "memory://", settings=settings, handle=serve_exchange
    )
    async with (
        serving(create_app(backend, gateway)) as url,
        road_to(int(url.rpartition(":")[2])) as road,
        registry.client(url, timeout=PATIENCE) as beside,
    ):
        yield road, beside


async def eventually(condition: Any, seconds: float = PATIENCE) -> None:
    for _ in range(int(seconds * 200)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError("it does not come")
