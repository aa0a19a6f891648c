"""Clients that vanish without a word: their connections end, and within a time that is said."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from asgi_server import serving
from network import HERE, Network, network
from openings import opening

from rivet_ray import Actor, Event, Registry, action, use
from rivet_ray.gateway import GatewaySettings
from rivet_ray.gateway.server import bind
from rivet_ray.gateway.vanishing import HttpProtocol
from rivet_ray.gateway.websocket_protocol import LAST_WORDS
from rivet_ray.runtime import connections as runtime_connections

PATIENCE = 10.0
PINGS = {"ws_ping_interval": 0.2, "ws_ping_timeout": 0.3}
SETTINGS = GatewaySettings(keep_alive=0.2, unacknowledged_timeout=0.3)
BOUND = 0.2 + 0.3 + LAST_WORDS + 0.5
"""Seconds: for the next comment or ping, for its answer; and what a machine needs."""
KEPT = 0.5
"""Seconds that a connection is kept for a client that counts events; 30 by default."""


class Room(Actor[None]):
    public = True
    said = Event[str]()
    hooks: list[str]

    def on_start(self) -> None:
        self.hooks = []

    def on_connect(self, conn: Any) -> None:
        if conn.params is not None:
            self.hooks.append(f"connect {conn.params}")

    def on_disconnect(self, conn: Any) -> None:
        if conn.params is not None:
            self.hooks.append(f"disconnect {conn.params}")

    @action
    def say(self, text: str) -> None:
        self.broadcast(Room.said, text)

    @action
    async def empty(self) -> None:
        for conn in self.conns:
            await conn.disconnect("closing time")

    @action
    def told(self) -> list[str]:
        return list(self.hooks)

    @action
    def present(self) -> list[str]:
        return [conn.params for conn in self.conns if conn.params is not None]


class App(Registry):
    room = use(Room)


@asynccontextmanager
async def world(settings: GatewaySettings = SETTINGS) -> AsyncIterator[tuple[Network, str, Any]]:
    """A server on another machine, and a way to the room that needs no network."""
    server = App.create_server(store="memory://", settings=settings)
    with network() as found:
        async with (
            serving(server.handler, lambda: found.listen(bind), **PINGS) as url,
            server.client,
        ):
            try:
                yield found, url, server.client.room.get_or_create("k")
            finally:
                found.returns()


WAYS = pytest.mark.parametrize("transport", ["websocket", "sse"])


@pytest.fixture
def short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_connections, "RESUME_WINDOW", KEPT)


async def soon(ask: Any, expected: Any, seconds: float) -> float:
    """How long it took until the answer was the expected one."""
    begun = time.monotonic()
    while (found := await ask()) != expected:
        assert time.monotonic() - begun < seconds, f"it is still {found}"
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


@WAYS
@pytest.mark.parametrize(
    ("towards", "events"), [(None, 0), (HERE, 300)], ids=["quiet", "while much waits for it"]
)
@pytest.mark.usefixtures("short_memory")
async def test_a_client_that_vanishes(transport: Any, towards: str | None, events: int) -> None:
    """Also one that more waits for than its socket takes, yet too little to be slow."""
    async with (
        world() as (net, url, room),
        App.client(url, transport=transport, timeout=PATIENCE, heartbeat=None) as client,
        client.room.get_or_create("k").connect(params="ann") as connection,
    ):
        connection.on(Room.said, lambda text: None)
        assert await connection.actor.present() == ["ann"]
        if not events:
            await asyncio.sleep(BOUND)
            assert await room.told() == ["connect ann"], "it is there, and only quiet"
        net.vanishes(towards)
        for _ in range(events):
            await room.say("x" * 20_000)
        # It counts events, so it is away for a while before it is gone.
        await soon(room.present, [], BOUND + KEPT)
        assert await room.told() == ["connect ann", "disconnect ann"]
        net.returns()


@WAYS
async def test_one_that_does_not_count_events_is_gone_at_once(transport: str) -> None:
    async with world() as (net, url, room):
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(opening(transport, "room", "k", "ann"))
        assert b"\r\n" in await reader.read(1_000)
        await soon(room.present, ["ann"], PATIENCE)
        net.vanishes()
        await soon(room.present, [], BOUND)
        net.returns()
        writer.transport.abort()


async def test_the_next_request_of_the_same_socket_may_take_its_time() -> None:
    """A download may be taken slower than events: the limit is that of the stream alone."""
    limits: list[tuple[int, int]] = []

    class Look(HttpProtocol):
        def on_message_begin(self) -> None:
            before = self.limit()
            super().on_message_begin()
            limits.append((before, self.limit()))

        def limit(self) -> int:
            accepted = self.transport.get_extra_info("socket")
            found: int = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            return found

    server = App.create_server(store="memory://", settings=SETTINGS)
    one = httpx.Limits(max_connections=1)
    async with (
        serving(server.handler, http=Look) as url,
        server.client,
        httpx.AsyncClient(timeout=PATIENCE, limits=one) as http,
    ):
        headers = {
            "X-RivetKit-Encoding": "json",
            "X-RivetKit-Query": '{"getOrCreateForKey":{"name":"room","key":["k"]}}',
        }
        async with http.stream("GET", f"{url}/actors/connect/sse", headers=headers) as answer:
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith("data: ")
            await server.client.room.get("k").empty()
            async for _ in lines:
                pass
        assert (await http.get(f"{url}/health")).is_success
    milliseconds = round(SETTINGS.unacknowledged_timeout * 1000)
    assert limits == [(0, 0), (milliseconds, 0)]
