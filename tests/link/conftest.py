"""Every asynchronous test of this folder runs on asyncio's own loop and on uvloop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack

import pytest
import uvloop
from link_worlds import Connect, Gateway, Serve, World

from rivet_ray.link import LinkSettings


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts hosts behind links: `world = await serve()`; their clients are closed with them."""
    async with AsyncExitStack() as stack:

        async def start(settings: LinkSettings | None = None) -> World:
            world = World(settings)
            await world.start()
            stack.push_async_callback(world.close)
            return world

        yield start


@pytest.fixture
async def connect(serve: Serve) -> Connect:
    """A host and a gateway, linked: `world, gateway = await connect()`."""

    async def start(settings: LinkSettings | None = None) -> tuple[World, Gateway]:
        world = await serve(settings)
        return world, await world.gateway()

    return start


@pytest.fixture(autouse=True)
def nothing_escapes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception reaches the event loop, whatever a test does."""
    yield
    escaped = [
        record
        for phase in ("setup", "call")
        for record in caplog.get_records(phase)
        if record.levelno >= logging.ERROR and record.name == "asyncio"
    ]
    assert not escaped, [(record.getMessage(), record.exc_text) for record in escaped]
