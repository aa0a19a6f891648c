"""Every test here runs in both encodings, with the port plain, encoded and over a link."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from gateway_wire import WIRES, Actors, Serve, Site, Wire, serving


@pytest.fixture(params=["json", "cbor"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return WIRES[request.param]


@pytest.fixture(params=["direct", "encoded", "linked"])
def port(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
async def serve(wire: Wire, port: str) -> AsyncIterator[Serve]:
    """Starts servers: `site = await serve({"counter": Counter})`."""
    async with AsyncExitStack() as stack:

        async def start(actors: Actors, **options: Any) -> Site:
            return await stack.enter_async_context(serving(port, wire, actors, **options))

        yield start


@pytest.fixture(autouse=True)
def nothing_escapes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception reaches uvicorn or the event loop, whatever a test does."""
    yield
    escaped = [
        record
        for phase in ("setup", "call")
        for record in caplog.get_records(phase)
        if record.levelno >= logging.ERROR
        and record.name.partition(".")[0] in ("uvicorn", "asyncio", "websockets")
    ]
    assert not escaped, [(record.name, record.getMessage(), record.exc_text) for record in escaped]
