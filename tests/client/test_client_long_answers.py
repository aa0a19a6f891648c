"""Messages of a server that are longer than its client reads: bounded, typed, told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from client_worlds import PATIENCE, eventually, world
from websockets.exceptions import ConnectionClosedError

from rivet_ray import Actor, Event, Outcome, Registry, action, use
from rivet_ray.client import ClientSettings
from rivet_ray.errors import ConnectionClosed, MessageTooLong

BOUND = 100_000
BOUNDS = ClientSettings(max_message_size=BOUND)
ENCODINGS = pytest.mark.parametrize("encoding", ["json", "cbor"])
ran: list[str] = []


class Store(Actor[None]):
    public = True
    anonymous_keys = True
    told = Event[str]()

    @action
    def give(self, size: int) -> str:
        ran.append(f"give {size}")
        return "a" * size

    @action
    def many(self, count: int) -> list[list[int]]:
        return [[] for _ in range(count)]

    @action
    async def slowly(self) -> str:
        ran.append("slowly")
        await asyncio.sleep(0.3)
        return "right"

    @action
    def tell(self, size: int) -> None:
        self.broadcast(Store.told, "a" * size)

    async def on_websocket(self, socket: Any) -> None:
        await socket.accept()
        await socket.send_text("a" * (2 * BOUND))
        await socket.receive()


class App(Registry):
    store = use(Store)


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


class Life:
    def __init__(self, connection: Any) -> None:
        self.seen: list[Any] = []
        for name in ("disconnected", "reconnected", "resync"):
            connection.on(name, lambda name=name: self.seen.append(name))
        connection.on("error", self.seen.append)


@ENCODINGS
async def test_over_http(encoding: str) -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, encoding=encoding, timeout=PATIENCE, settings=BOUNDS) as client,
    ):
        store = client.store.get_or_create("k")
        good, bad = await asyncio.gather(
            store.slowly(), store.give(2 * BOUND), return_exceptions=True
        )
        assert good == "right"
        assert isinstance(bad, MessageTooLong)
        assert bad.outcome is Outcome.TOOK_EFFECT
        assert "max_message_size" in bad.message
        assert len(await store.give(BOUND - 1_000)) == BOUND - 1_000


@ENCODINGS
async def test_on_an_event_stream_an_answer_fails_alone(encoding: str) -> None:
    async with (
        world(App) as (road, _),
        App.client(
            road.url, encoding=encoding, transport="sse", timeout=PATIENCE, settings=BOUNDS
        ) as client,
        client.store.get_or_create("k").connect() as connection,
    ):
        life = Life(connection)
        good, bad = await asyncio.gather(
            connection.actor.slowly(), connection.actor.give(2 * BOUND), return_exceptions=True
        )
        assert good == "right"
        assert isinstance(bad, MessageTooLong)
        assert bad.outcome is Outcome.TOOK_EFFECT
        assert len(await connection.actor.give(BOUND - 1_000)) == BOUND - 1_000
        assert life.seen == []


@ENCODINGS
async def test_on_a_websocket_the_connection_comes_back(encoding: str) -> None:
    """Nobody can tell whose message it is; a call with a key would be answered so again."""
    async with (
        world(App) as (road, _),
        App.client(road.url, encoding=encoding, timeout=PATIENCE, settings=BOUNDS) as client,
        client.store.get_or_create("k").connect() as connection,
    ):
        life = Life(connection)
        keyed = connection.actor.with_options(idempotency_key="once")  # type: ignore[attr-defined]
        answers = await asyncio.gather(
            connection.actor.slowly(), keyed.give(2 * BOUND), return_exceptions=True
        )
        for lost in answers:
            assert isinstance(lost, ConnectionClosed)
            assert lost.outcome is Outcome.UNKNOWN
        assert await connection.actor.give(3) == "aaa"
        assert life.seen == ["disconnected", "reconnected", "resync"]
        assert ran.count(f"give {2 * BOUND}") == 1


@ENCODINGS
@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_too_many_values_fail_alone(transport: Any, encoding: str) -> None:
    """They take the event loop and fifty times their bytes, on a client as on a server (D2)."""
    bounds = ClientSettings(max_message_items=10_000)
    async with (
        world(App) as (road, _),
        App.client(
            road.url, encoding=encoding, transport=transport, timeout=PATIENCE, settings=bounds
        ) as client,
        client.store.get_or_create("k").connect() as connection,
    ):
        life = Life(connection)
        for actor in (connection.actor, client.store.get_or_create("k")):
            good, bad = await asyncio.gather(
                actor.slowly(), actor.many(2_000), return_exceptions=True
            )
            assert good == "right"
            assert isinstance(bad, MessageTooLong)
            assert bad.outcome is Outcome.TOOK_EFFECT
            assert len(await actor.many(1_000)) == 1_000
        assert life.seen == []


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_an_event_is_told_as_missing(transport: Any) -> None:
    async with (
        world(App) as (road, beside),
        App.client(road.url, transport=transport, timeout=PATIENCE, settings=BOUNDS) as client,
        client.store.get_or_create("k").connect() as connection,
    ):
        life = Life(connection)
        heard: list[int] = []
        connection.on(Store.told, lambda text: heard.append(len(text)))
        await connection.actor.give(1)
        await beside.store.get("k").tell(2 * BOUND)
        await eventually(lambda: "resync" in life.seen)
        await connection.actor.give(1)
        await beside.store.get("k").tell(3)
        await eventually(lambda: heard == [3])
        assert life.seen == ["disconnected", "reconnected", "resync"]


async def test_a_raw_socket_is_closed() -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, timeout=PATIENCE, settings=BOUNDS) as client,
        client.store.get_or_create("k").websocket() as socket,  # type: ignore[attr-defined]
    ):
        with pytest.raises(ConnectionClosedError) as caught:
            await socket.recv()
        assert caught.value.sent is not None
        assert caught.value.sent.code == 1009
