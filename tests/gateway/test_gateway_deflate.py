"""permessage-deflate is off, whatever the server around the gateway was told."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from gateway_wire import JSON, Site, get_or_create
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from examples.counter import App
from rivet_ray.gateway import deflate

A = get_or_create("counter", "a")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflate, "_warned", False)
    monkeypatch.setattr(deflate, "_known_to_be_off", False)


class Wrapping:
    """Middleware that wraps what the server has given, as many do."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            await send(message)

        await self.app(scope, receive, sending)


@asynccontextmanager
async def by_hand(**options: Any) -> AsyncIterator[str]:
    """`uvicorn module:app`, with no option of ours."""
    server = App.create_server(store="memory://")
    app = FastAPI(lifespan=server.lifespan)

    @app.websocket("/theirs")
    async def theirs(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    app.mount("/registry", server.handler)
    app.add_middleware(Wrapping)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, **options)
        config.load()
        running = uvicorn.Server(config)
        running.lifespan = config.lifespan_class(config)
        await running.startup(sockets=[listener])
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await running.shutdown(sockets=[listener])
            await server.client.aclose()


def protocols(address: str) -> list[Subprotocol]:
    site: Any = Site(address, JSON, None)  # type: ignore[arg-type]
    found: list[Subprotocol] = site.protocols(A)
    return found


async def test_a_server_that_was_started_by_hand(caplog: pytest.LogCaptureFixture) -> None:
    async with by_hand() as address:
        url = f"ws://{address}/registry/actors/connect/websocket"
        offered = protocols(address)
        async with connect(url, subprotocols=offered, compression="deflate", proxy=None) as ours:
            assert ours.response is not None
            assert "Sec-WebSocket-Extensions" not in ours.response.headers
            assert '"i"' in str(await ours.recv())
            await ours.send('{"b":{"ar":{"i":1,"n":"increment","a":[' + " " * 2_000 + "2]}}}")
            assert '"o":2' in str(await ours.recv())
        theirs = f"ws://{address}/theirs"
        async with connect(theirs, compression="deflate", proxy=None) as other:
            assert other.response is not None
            assert "permessage-deflate" in other.response.headers["Sec-WebSocket-Extensions"]
            await other.send("x" * 2_000)
            assert await other.recv() == "x" * 2_000
    assert not [record for record in caplog.records if "compress" in record.getMessage()]


async def test_a_server_that_cannot_be_told_to(caplog: pytest.LogCaptureFixture) -> None:
    """Once, where it may matter; never where no client asks for it."""

    async def send(message: Any) -> None:
        raise AssertionError

    offer = (b"Sec-WebSocket-Extensions", b"permessage-deflate; client_max_window_bits")
    with caplog.at_level(logging.WARNING):
        deflate.without_deflate({"headers": []}, send)
        assert not caplog.records
        deflate.without_deflate({"headers": [offer]}, send)
        deflate.without_deflate({"headers": [offer]}, send)
    (record,) = caplog.records
    assert "--ws-per-message-deflate false" in record.getMessage()
