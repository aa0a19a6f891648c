"""`handle.fetch` and `handle.websocket`, against the example's server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from websockets.exceptions import ConnectionClosed

from examples.raw import App
from rivet_ray import Client
from rivet_ray.errors import Outcome, RequestFailed
from rivet_ray.gateway.server import Server, bind, uvicorn_config


@pytest.fixture
async def url() -> AsyncIterator[str]:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = App.create_server(store="memory://")
        ready = asyncio.Event()
        serving = Server(
            uvicorn_config(server.handler, "127.0.0.1", port, log_config=None), ready.set
        )
        task = asyncio.create_task(serving._serve([listener]))
        async with asyncio.timeout(5):
            await ready.wait()
        yield f"http://127.0.0.1:{port}"
        serving.should_exit = True
        await task


async def test_fetch(url: str) -> None:
    async with App.client(url) as client:
        notes = client.notes.get_or_create("mine")
        missing = await notes.fetch("/notes/tea")
        assert (missing.status_code, missing.json()) == (
            404,
            {"detail": "There is no note 'tea'."},
        )
        text = "grün " * 50_000
        written = await notes.fetch("notes/tea?x=1", method="PUT", body=text)
        assert written.status_code == 204
        assert (await notes.fetch("notes/tea")).json() == text
        by_name = Client(url)
        assert (await by_name.get("notes", "mine").fetch("notes/tea")).json() == text
        await by_name.aclose()


async def test_the_content_type_is_the_callers(url: str) -> None:
    async with App.client(url) as client:
        notes = client.notes.get_or_create("mine")
        for headers in ({"content-type": "text/x"}, {"Content-Type": "text/x"}):
            answer = await notes.fetch("echo", method="POST", headers=headers, body="x")
            assert answer.request.headers["content-type"] == "text/x"
        plain = await notes.fetch("echo", method="POST", body="x")
        assert "content-type" not in plain.request.headers


@pytest.mark.parametrize("path", ["../../health", "a/../b", "a/./b", "%2e%2E/x", "a/..", r"..\x"])
async def test_a_path_does_not_lead_out_of_the_actor(url: str, path: str) -> None:
    async with App.client(url) as client:
        notes = client.notes.get_or_create("mine")
        with pytest.raises(ValueError, match="folded"):
            await notes.fetch(path)
        with pytest.raises(ValueError, match="folded"):
            async with notes.websocket(path):
                pass
        answer = await notes.fetch("a/...?b=../c")
        assert answer.status_code == 404


async def test_fetch_streams(url: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d" % number * 1000

    async with App.client(url) as client:
        notes = client.notes.get_or_create("mine")
        assert (await notes.fetch("notes/long", method="PUT", body=body())).status_code == 204
        answer = await notes.fetch("notes/long", stream=True)
        assert not answer.is_closed
        size = 0
        async for chunk in answer.aiter_bytes():
            size += len(chunk)
        assert size == 190_000 + 2
        await answer.aclose()


async def test_errors_of_the_server_are_answers(url: str) -> None:
    async with App.client(url) as client:
        answer = await client.notes.get("nobody").fetch("x")
        assert (answer.status_code, answer.json()["c"]) == (400, "actor_not_found")
        assert answer.headers["x-rivetkit-outcome"] == "not_started"
        unknown = await client.notes.get_or_create("x(y)").fetch("notes/a")
        assert unknown.status_code == 404


async def test_nobody_there() -> None:
    async with App.client("http://127.0.0.1:9") as client:
        with pytest.raises(RequestFailed) as caught:
            await client.notes.get("x").fetch("y")
        assert caught.value.outcome is Outcome.NOT_STARTED
        with pytest.raises(RequestFailed):
            async with client.notes.get("x").websocket():
                pass


async def test_websocket(url: str) -> None:
    async with App.client(url) as client:
        async with client.notes.get_or_create("a(b)").websocket("any", protocols=["p"]) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
        async with client.notes.get("nobody").websocket() as socket:
            with pytest.raises(ConnectionClosed) as caught:
                await socket.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.reason == "actor_not_found"
