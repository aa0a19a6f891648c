"""A connection that a handler opens, while nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from client_worlds import PATIENCE, WAYS, eventually, world

from rivet_ray import Actor, Event, Registry, Unauthorized, action, use
from rivet_ray.client import reconnecting
from rivet_ray.errors import RequestFailed


class Counter(Actor[int, None, Any]):
    counted = Event[int]()

    @classmethod
    async def on_auth(cls, request: Any, params: Any, intents: Any) -> None:
        if params == "nobody":
            raise Unauthorized

    @action
    def increment(self) -> int:
        self.state += 1
        self.broadcast(Counter.counted, self.state)
        return self.state


class App(Registry):
    counter = use(Counter)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "LONGEST_PAUSE", 0.1)


@WAYS
async def test_a_handler_opens_it(transport: Any) -> None:
    async with (
        world(App) as (road, beside),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        counts: list[int] = []
        opened = asyncio.Event()
        connection = client.counter.get_or_create("k").connect()
        await asyncio.sleep(0)
        assert road.opened == 0, "without a use nothing is opened"
        connection.on(Counter.counted, counts.append)
        connection.on("connected", opened.set)
        await asyncio.wait_for(opened.wait(), PATIENCE)
        while not counts:  # The subscription may still be on its way.
            await beside.counter.get("k").increment()
        await connection.dispose()


@WAYS
async def test_where_nobody_waits_it_is_tried_again(transport: Any) -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        road.open = False
        seen: list[Any] = []
        connection = client.counter.get_or_create("k").connect()
        connection.on("error", seen.append)
        connection.on("connected", lambda: seen.append("connected"))
        await eventually(lambda: road.opened >= 6)
        (error,) = seen
        assert isinstance(error, RequestFailed)
        waiting = asyncio.ensure_future(connection.actor.increment())
        tried = road.opened
        await eventually(lambda: road.opened > tried + 4)
        assert not waiting.done()
        road.open = True
        assert await waiting == 1
        assert seen[1:] == ["connected"]
        assert await connection is connection


@WAYS
async def test_who_waits_is_told_of_the_next_failure(
    transport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        road.open = False
        seen: list[Any] = []
        handle = client.counter.get_or_create("k")
        at_once = handle.connect()
        at_once.on("error", seen.append)
        with pytest.raises(RequestFailed):
            await at_once
        assert len(seen) == 1
        seen.clear()
        monkeypatch.setattr(reconnecting, "FIRST_PAUSE", 1_000.0)
        monkeypatch.setattr(reconnecting, "LONGEST_PAUSE", 1_000.0)
        later = handle.connect()
        later.on("error", seen.append)
        await eventually(lambda: len(seen) == 1)
        with pytest.raises(RequestFailed):
            await asyncio.wait_for(later.__aenter__(), PATIENCE)
        assert len(seen) == 2
        tried = road.opened
        with pytest.raises(RequestFailed):
            await later.actor.increment()
        assert road.opened == tried, "it is over"


@WAYS
async def test_who_waits_may_find_it_open(transport: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "FIRST_PAUSE", 1_000.0)
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        road.open = False
        seen: list[Any] = []
        connection = client.counter.get_or_create("k").connect()
        connection.on("error", seen.append)
        await eventually(lambda: len(seen) == 1)
        road.open = True
        async with asyncio.timeout(PATIENCE):
            assert await connection is connection
            monkeypatch.setattr(reconnecting, "FIRST_PAUSE", 0.01)
            back = asyncio.Event()
            connection.on("reconnected", back.set)
            road.cut()
            await back.wait()


@WAYS
async def test_a_refusal_is_told_and_final(
    transport: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        seen: list[Any] = []
        connection = client.counter.get_or_create("k", params="nobody").connect()
        connection.on("error", seen.append)
        await eventually(lambda: seen)
        tried = road.opened
        silent = client.counter.get_or_create("k", params="nobody").connect()
        silent.on(Counter.counted, print)
        await eventually(lambda: "Unauthorized" in caplog.text)
        await asyncio.sleep(0.2)
        assert road.opened == tried + 1
        assert [type(error) for error in seen] == [Unauthorized]
        with pytest.raises(Unauthorized):
            await connection


@WAYS
async def test_without_reconnect_it_is_tried_once(transport: Any) -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE, reconnect=False) as client,
    ):
        road.open = False
        seen: list[Any] = []
        connection = client.counter.get_or_create("k").connect()
        connection.on("error", seen.append)
        await eventually(lambda: seen)
        with pytest.raises(RequestFailed):
            await connection


def test_a_handler_where_no_loop_runs() -> None:
    client = App.client("http://127.0.0.1:9")
    connection = client.counter.get_or_create("k").connect()
    connection.on(Counter.counted, print)

    async def program() -> None:
        with pytest.raises(RequestFailed):
            await connection
        await client.aclose()

    asyncio.run(program())


@WAYS
async def test_blocking_code(transport: Any) -> None:
    async with world(App) as (road, beside):
        loop = asyncio.get_running_loop()
        counted = threading.Event()

        def program() -> None:
            with App.sync_client(road.url, transport=transport, timeout=PATIENCE) as client:
                connection = client.get_or_create(Counter, "k").connect()
                connection.on(Counter.counted, lambda count: counted.set())
                while not counted.wait(0.02):
                    asyncio.run_coroutine_threadsafe(
                        beside.counter.get_or_create("k").increment(), loop
                    ).result(PATIENCE)

        await asyncio.to_thread(program)
