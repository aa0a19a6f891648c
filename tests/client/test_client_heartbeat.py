"""A server that vanishes without a word: the client finds out, and goes on when it can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgi_server import serving
from client_servers import Peer, socket_server
from network import Network, network

from rivet_ray import Actor, Client, Event, Registry, action, use
from rivet_ray.client import reconnecting, websocket
from rivet_ray.errors import ConnectionClosed, Outcome
from rivet_ray.gateway import GatewaySettings, create_app
from rivet_ray.gateway.server import bind
from rivet_ray.runtime import Standalone

PATIENCE = 10.0
HEARTBEAT = 0.2
KEEP_ALIVE = 0.2
BOUND = 2 * HEARTBEAT + 1.0
"""Seconds: a ping and its answer, or a comment and its delay; and time for this machine."""


class Counter(Actor[int]):
    public = True
    anonymous_keys = True
    counted = Event[int]()

    def create_state(self, input: None) -> int:
        return 0

    @action
    def increment(self) -> int:
        self.state += 1
        self.broadcast(Counter.counted, self.state)
        return self.state

    @action
    async def slowly(self) -> int:
        await asyncio.sleep(0.5)
        return self.increment.local()

    @action
    def swallow(self, text: str) -> int:
        return len(text)


class App(Registry):
    counter = use(Counter)


@asynccontextmanager
async def world(keep_alive: float = KEEP_ALIVE) -> AsyncIterator[tuple[Network, str]]:
    """A server on another machine, and the way there."""
    settings = GatewaySettings(keep_alive=keep_alive)
    with network() as found:
        app = create_app(Standalone(App.definitions(), "memory://"), settings)
        async with serving(app, lambda: found.listen(bind)) as url:
            try:
                yield found, url
            finally:
                found.returns()


def client_of(url: str, transport: Any, **options: Any) -> App:
    return App.client(
        url, transport=transport, timeout=PATIENCE, **{"heartbeat": HEARTBEAT, **options}
    )


WAYS = pytest.mark.parametrize("transport", ["websocket", "sse"])


@WAYS
async def test_a_server_that_vanishes_is_a_cut(
    transport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnecting, "LONGEST_PAUSE", 0.2)
    async with (
        world() as (net, url),
        client_of(url, transport) as client,
        client.counter.get_or_create("k").connect() as connection,
    ):
        counts = connection.events(Counter.counted)
        cut, back = asyncio.Event(), asyncio.Event()
        connection.on("disconnected", cut.set)
        connection.on("reconnected", back.set)
        assert await connection.actor.increment() == 1
        await asyncio.sleep(BOUND)
        assert not cut.is_set(), "it is there, and only quiet"

        plain = asyncio.ensure_future(connection.actor.slowly())
        keyed: Any = connection.actor.with_options(idempotency_key="once")  # type: ignore[attr-defined]
        again = asyncio.ensure_future(keyed.slowly())
        await asyncio.sleep(0.1)
        net.vanishes()
        begun = time.monotonic()
        with pytest.raises(ConnectionClosed) as caught:
            await plain
        assert time.monotonic() - begun < BOUND
        assert caught.value.outcome is Outcome.UNKNOWN
        await cut.wait()
        waits = asyncio.ensure_future(connection.actor.increment())
        net.returns()
        await asyncio.gather(again, waits)
        assert back.is_set()
        assert await connection.actor.increment() == 5, "each call had one effect"
        async with asyncio.timeout(PATIENCE):
            expected = 1
            async for count in counts:
                assert count == expected
                if count == 5:
                    break
                expected += 1


@WAYS
async def test_much_that_waits_to_be_sent_hides_nothing(transport: Any) -> None:
    async with world() as (net, url), client_of(url, transport, reconnect=False) as client:
        connection = await client.counter.get_or_create("k").connect()
        assert await connection.actor.increment() == 1
        net.vanishes()
        begun = time.monotonic()
        calls = [connection.actor.swallow("x" * 60_000) for _ in range(100)]
        failures = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - begun < BOUND
        outcomes = [failure.outcome for failure in failures]  # type: ignore[union-attr]
        sent = outcomes.count(Outcome.UNKNOWN)
        assert outcomes == [Outcome.UNKNOWN] * sent + [Outcome.NOT_STARTED] * (100 - sent)
        assert 0 < sent < 100
        begun = time.monotonic()
        await connection.dispose()
        assert time.monotonic() - begun < BOUND


async def test_leaving_waits_for_nobody_behind_what_cannot_be_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before anything was noticed, while more waits than the socket takes."""
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT", 0.3)
    async with world() as (net, url), client_of(url, "websocket", heartbeat=None) as client:
        connection = await client.counter.get_or_create("k").connect()
        net.vanishes()
        calls = [asyncio.ensure_future(connection.actor.swallow("x" * 60_000)) for _ in range(100)]
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        await connection.dispose()
        assert time.monotonic() - begun < BOUND
        for failure in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(failure, ConnectionClosed)


async def test_what_is_posted_to_nowhere_has_an_end() -> None:
    """Also where nothing tells that the stream itself is gone."""
    async with (
        world(keep_alive=0) as (net, url),
        client_of(url, "sse") as client,
        client.counter.get_or_create("k").connect() as connection,
    ):
        assert await connection.actor.increment() == 1
        net.vanishes()
        posted: Any = connection.actor.with_options(timeout=0.5)  # type: ignore[attr-defined]
        first, second = await asyncio.gather(
            posted.increment(), posted.increment(), return_exceptions=True
        )
        assert first.outcome is Outcome.UNKNOWN
        assert second.outcome is Outcome.NOT_STARTED, "it waited behind the first"
        net.returns()


async def test_a_server_that_announces_nothing_is_not_expected_to_speak() -> None:
    """Nor is one given up by a client without a heartbeat."""
    for keep_alive, heartbeat in ((0.0, HEARTBEAT), (KEEP_ALIVE, None)):
        async with (
            world(keep_alive) as (net, url),
            client_of(url, "sse", heartbeat=heartbeat) as client,
            client.counter.get_or_create("k").connect() as connection,
        ):
            cut = asyncio.Event()
            connection.on("disconnected", cut.set)
            assert await connection.actor.increment() == 1
            net.vanishes()
            await asyncio.sleep(BOUND)
            assert not cut.is_set()
            net.returns()
            assert await connection.actor.increment() == 2


async def test_a_server_that_answers_no_ping_is_left() -> None:
    """On any system: the process is there, and hears nothing."""

    async def script(peer: Peer) -> None:
        await peer.init()
        peer.socket.transport.pause_reading()
        await peer.socket.wait_closed()

    async with (
        socket_server(script) as server,
        Client(server.url, heartbeat=HEARTBEAT, reconnect=False) as client,
        client.actor("counter").connect() as connection,
    ):
        begun = time.monotonic()
        with pytest.raises(ConnectionClosed, match=r"no answer to a ping within 0\.2 s"):
            await connection.actor.call("increment")
        assert HEARTBEAT < time.monotonic() - begun < BOUND
        server.peers[0].socket.transport.abort()


@pytest.mark.parametrize("heartbeat", [0, -1.0, float("inf"), float("nan")])
def test_a_heartbeat_that_is_none(heartbeat: float) -> None:
    with pytest.raises(ValueError, match="heartbeat"):
        Client(heartbeat=heartbeat)
