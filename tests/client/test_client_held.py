"""A client as a whole is bounded in bytes, over all its connections and calls."""

from __future__ import annotations

import asyncio
import gc
import gzip
import threading
from contextlib import aclosing
from typing import Any

import pytest
from client_servers import Peer, socket_server
from client_worlds import PATIENCE, WAYS, eventually, world
from starlette.requests import Request
from starlette.responses import Response

from rivet_ray import Actor, Outcome, Registry, action, errors, use
from rivet_ray.budget import Budget
from rivet_ray.client import Client, ClientSettings, inline_fetch
from rivet_ray.client.answers import Share
from rivet_ray.client.handler_thread import HandlerThread
from rivet_ray.client.settings import Held
from rivet_ray.errors import MessageTooLong, Overloaded, SlowConsumer
from rivet_ray.protocol import v0
from rivet_ray.testing import setup_test

BOUND = 100_000


class Store(Actor[None]):
    public = True

    @action
    async def take(self, text: str) -> int:
        await asyncio.sleep(0.1)
        return len(text)

    async def on_fetch(self, request: Request) -> Any:
        match request.url.path:
            case "/long":
                return b"x" * (2 * BOUND)
            case "/packed":
                packed = gzip.compress(bytes(50 * BOUND))
                return Response(packed, headers={"content-encoding": "gzip"})
            case "/refused":
                return Response(b"x" * (2 * BOUND), status_code=404)
        return b"short"


class App(Registry):
    store = use(Store)


def refusals(answers: list[Any]) -> int:
    """How many calls were refused, each of them before it had started."""
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    for error in refused:
        assert isinstance(error, Overloaded)
        assert error.outcome is Outcome.NOT_STARTED
        assert "max_held_size" in error.message
    return len(refused)


@WAYS
async def test_calls_of_all_connections_are_bounded_together(transport: Any) -> None:
    bounds = ClientSettings(max_held_size=60_000)
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE, settings=bounds) as client,
        client.store.get_or_create("a").connect() as one,
        client.store.get_or_create("b").connect() as other,
    ):
        cut: list[str] = []
        for connection in (one, other):
            connection.on("disconnected", lambda: cut.append("disconnected"))
        road.open = False
        road.cut()
        await eventually(lambda: len(cut) == 2)
        calls = [
            asyncio.ensure_future(connection.actor.take("a" * 10_000))
            for _ in range(5)
            for connection in (one, other)
        ]
        await eventually(lambda: one.refused_calls + other.refused_calls == 5)
        road.open = True
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[:5] == [10_000] * 5
        assert refusals(answers) == 5
        assert await other.actor.take("abc") == 3


async def test_calls_over_http_are_bounded_too() -> None:
    bounds = ClientSettings(max_held_size=60_000)
    async with (
        world(App) as (road, _),
        App.client(road.url, timeout=PATIENCE, settings=bounds) as client,
    ):
        store = client.store.get_or_create("a")
        await store.take("abc")
        answers = await asyncio.gather(
            *(store.take("a" * 10_000) for _ in range(10)), return_exceptions=True
        )
        assert refusals(answers) == 5
        assert await store.take("a" * 100_000) == 100_000, "alone it may be longer"


def test_an_answer_that_is_read_counts() -> None:
    client = Budget("client", 100)
    with Share(client) as one, Share(client) as other:
        one.take(60)
        other.take(30)
        with pytest.raises(Overloaded) as caught:
            one.take(30, Outcome.TOOK_EFFECT)
        assert caught.value.outcome is Outcome.TOOK_EFFECT
    assert (client.held, client.refused) == (0, 1)
    with Share(client) as alone:
        for _ in range(5):
            alone.take(60)
    assert client.held == 0


async def played(peer: Peer) -> None:
    await peer.init()
    async for frame in peer.socket:
        message = v0.decode_to_server(peer.encoding, frame)
        if isinstance(message, v0.ActionRequest):
            for number in range(4):
                await peer.event("told", number, "x" * 10_000)
            await peer.answer(message, None)


async def test_unread_events_of_all_connections_are_bounded_together() -> None:
    bounds = ClientSettings(max_held_size=70_000)
    async with (
        socket_server(played) as server,
        Client(server.url, settings=bounds) as client,
        client.actor("x").connect() as one,
        client.actor("x").connect() as other,
    ):
        streams = [connection.events("told") for connection in (one, other)]
        for connection in (one, other):
            await connection.actor.call("tell")
        first, second = [aiter(stream) for stream in streams]
        assert [(await anext(first))[0] for _ in range(4)] == [0, 1, 2, 3]
        assert [(await anext(second))[0] for _ in range(2)] == [0, 1]
        with pytest.raises(SlowConsumer, match="70000 bytes"):
            await anext(second)
        assert (one.dropped_events, other.dropped_events) == (0, 1)


async def test_what_nobody_will_read_is_held_no_longer() -> None:
    async with socket_server(played) as server, Client(server.url) as client:
        async with client.actor("x").connect() as connection:
            stream = connection.events("told")
            await connection.actor.call("tell")
        assert client._held.budget.held > 40_000
        del stream, connection
        gc.collect()
        await eventually(lambda: client._held.budget.held == 0)


def test_events_for_the_threads_of_handlers_are_bounded_together() -> None:
    held = Held(ClientSettings(max_held_size=100_000))
    go = threading.Event()
    threads = [
        HandlerThread(name, lambda event, error: None, 10_000_000, held) for name in ("one", "two")
    ]
    for thread in threads:
        thread.put("told", lambda: go.wait(5), (), 40_000)
    with pytest.raises(SlowConsumer, match="max_held_size"):
        threads[1].put("told", lambda: None, (), 40_000)
    assert [thread.dropped for thread in threads] == [0, 1]
    go.set()
    for thread in threads:
        thread.close()
    assert held.handlers.held == 0


# --- Raw requests -----------------------------------------------------------------


def active(client: Any) -> int:
    """Connections that are neither idle nor closed."""
    pool = client._transport._http._transport._pool
    return sum(not (item.is_idle() or item.is_closed()) for item in pool.connections)


@pytest.mark.parametrize("path", ["/long", "/packed", "/refused"])
async def test_a_fetch_that_is_not_streamed_is_bounded(path: str) -> None:
    bounds = ClientSettings(max_message_size=BOUND)
    async with (
        world(App) as (road, _),
        App.client(road.url, timeout=PATIENCE, settings=bounds) as client,
    ):
        inner: Any = client.store._client
        store = client.store.get_or_create("a")
        with pytest.raises(MessageTooLong, match="max_message_size") as caught:
            await store.fetch(path)
        # A status of another kind may be the server's own.
        told = Outcome.UNKNOWN if path == "/refused" else Outcome.TOOK_EFFECT
        assert caught.value.outcome is told
        assert active(inner) == 0
        assert inner._held.budget.held == 0
        whole = await store.fetch("/")
        assert (whole.content, whole.text, await whole.aread()) == (b"short", "short", b"short")
        async with aclosing(await store.fetch(path, stream=True)) as answer:
            size = 0
            async for piece in answer.aiter_bytes():
                size += len(piece)
        assert size >= 2 * BOUND
        assert active(inner) == 0


def test_a_fetch_of_the_synchronous_client_is_bounded() -> None:
    bounds = ClientSettings(max_message_size=BOUND)
    ready, over = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with world(App) as (road, _):
            urls.append(road.url)
            ready.set()
            await asyncio.to_thread(over.wait, PATIENCE)

    server = threading.Thread(target=lambda: asyncio.run(serve()))
    server.start()
    try:
        assert ready.wait(PATIENCE)
        with App.sync_client(urls[0], timeout=PATIENCE, settings=bounds) as client:
            store = client.get_or_create(Store, "a")
            with pytest.raises(MessageTooLong):
                store.fetch("/long")
            assert active(client._client) == 0
            assert store.fetch("/").text == "short"
            with store.fetch("/long", stream=True) as answer:
                assert len(answer.read()) == 2 * BOUND
    finally:
        over.set()
        server.join()


async def test_a_fetch_without_network_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline_fetch, "DEFAULTS", ClientSettings(max_message_size=BOUND))
    async with setup_test(App) as test:
        store = test.client.store.get_or_create("a")
        with pytest.raises(MessageTooLong):
            await store.fetch("/long")
        assert (await store.fetch("/")).text == "short"
        assert errors.MessageTooLong.code == "message_too_long"
