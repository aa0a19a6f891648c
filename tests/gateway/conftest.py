"""Every test here runs in both encodings, with the port plain, encoded, over a link, and
through Ray Serve."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import gateway_room
import pytest
from gateway_serve import Stack, running_stack
from gateway_servers import Actors, serving
from gateway_surfaces import SURFACES, Knock
from gateway_wire import WIRES, Serve, Site, Wire


@pytest.fixture(autouse=True)
def empty_rooms() -> None:
    gateway_room.forget()


@pytest.fixture(params=["json", "cbor"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return WIRES[request.param]


@pytest.fixture(params=["direct", "encoded", "linked", "served"])
def port(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
async def serve(wire: Wire, port: str, request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    """Starts servers: `site = await serve({"counter": Counter})`."""
    async with AsyncExitStack() as exits:
        running = request.getfixturevalue("stack") if port == "served" else None

        async def start(actors: Actors, **options: Any) -> Site:
            return await exits.enter_async_context(
                serving(port, wire, actors, stack=running, **options)
            )

        yield start


@pytest.fixture(params=SURFACES)
def surface(request: pytest.FixtureRequest) -> tuple[Knock, set[str]]:
    """A route that `on_auth` guards: how to knock there, and the intents that it adds."""
    return SURFACES[request.param]


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
