"""What carries a connection: a WebSocket, but where none gets through."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from client_worlds import PATIENCE, eventually, world

from rivet_ray import Actor, Event, Registry, action, use
from rivet_ray.client import either, http
from rivet_ray.errors import RivetError


class Door(Actor[None]):
    public = True
    opened = Event[str]()

    async def on_start(self) -> None:
        if self.key == ("slow",):
            await asyncio.sleep(0.5)

    def on_before_connect(self, request: Any, params: Any) -> None:
        self.way = request.url.rpartition("/")[2].partition("?")[0]

    @action
    def last(self) -> str:
        """What carries the connection that was opened last."""
        self.broadcast(Door.opened, self.way)
        return self.way


class App(Registry):
    door = use(Door)


async def test_without_websockets_it_is_an_event_stream() -> None:
    async with world(App) as (road, _):
        road.blocks_upgrades = True
        async with App.client(road.url, timeout=PATIENCE) as client:
            for key in ("k", "l"):
                seen: list[str] = []
                async with client.door.get_or_create(key).connect() as connection:
                    connection.on(Door.opened, seen.append)
                    assert await connection.actor.last() == "sse"
                    await eventually(lambda seen=seen: seen == ["sse"])
        async with App.client(road.url, timeout=PATIENCE, transport="websocket") as client:
            with pytest.raises(RivetError, match="403"):
                await client.door.get_or_create("k").connect()


async def test_an_actor_that_starts_slowly_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(either, "PATIENCE", 0.2)
    async with world(App) as (road, _), App.client(road.url, timeout=PATIENCE) as client:
        for key in ("slow", "k"):
            async with client.door.get_or_create(key).connect() as connection:
                assert await connection.actor.last() == "websocket"


async def test_a_handshake_that_gets_lost_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(either, "PATIENCE", 0.2)
    async with world(App) as (road, _), App.client(road.url, timeout=PATIENCE) as client:
        road.swallows_upgrades = True
        async with client.door.get_or_create("k").connect() as connection:
            assert await connection.actor.last() == "sse"


async def test_websockets_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(App) as (road, _), App.client(road.url, timeout=PATIENCE) as client:

        async def way() -> str:
            async with client.door.get_or_create("k").connect() as connection:
                return await connection.actor.last()

        road.blocks_upgrades = True
        assert await way() == "sse"
        road.blocks_upgrades = False
        assert await way() == "sse", "what was in the way may still be there"
        monkeypatch.setattr(http, "STREAMS_FOR", 0.0)
        assert await way() == "websocket"


async def test_a_connection_that_comes_back_tries_again_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "STREAMS_FOR", 0.0)
    async with world(App) as (road, _), App.client(road.url, timeout=PATIENCE) as client:
        road.blocks_upgrades = True
        async with client.door.get_or_create("k").connect() as connection:
            back = asyncio.Event()
            connection.on("reconnected", back.set)
            road.blocks_upgrades = False
            asked = road.upgrades
            road.cut()
            await asyncio.wait_for(back.wait(), PATIENCE)
            assert road.upgrades == asked + 1


async def test_a_server_that_goes_at_the_wrong_moment_demotes_nothing() -> None:
    async with world(App) as (road, _), App.client(road.url, timeout=PATIENCE) as client:
        road.breaks_upgraded = True
        async with client.door.get_or_create("k").connect() as connection:
            assert await connection.actor.last() == "sse"
        road.breaks_upgraded = False
        async with client.door.get_or_create("k").connect() as connection:
            assert await connection.actor.last() == "websocket"
