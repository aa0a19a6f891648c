"""What a connection is after it came back: its parameters and who its caller is."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from asgi_server import serving
from client_worlds import PATIENCE, WAYS
from road import Road, road_to

from rivet_ray import Actor, Registry, action, use
from rivet_ray.gateway import create_app
from rivet_ray.runtime import Standalone
from rivet_ray_drivers.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ASKED: list[Any] = []
"""Parameters that `on_before_connect` was asked about."""


@pytest.fixture(autouse=True)
def forget() -> None:
    ASKED.clear()


class Room(Actor[None, None, Any, None, Any]):
    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        return {"token": params["token"]}

    def on_before_connect(self, request: Any, params: Any) -> None:
        ASKED.append(params)

    @action
    def me(self) -> tuple[Any, Any]:
        return self.conn.params, self.conn.auth


class App(Registry):
    room = use(Room)


class Servers:
    """One server after another on the same store, at the end of the same road."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self._store = MemoryStore()
        self._exits = AsyncExitStack()
        self._backend = Standalone({})

    async def __aenter__(self) -> Servers:
        await self.start()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._exits.aclose()

    async def start(self) -> None:
        self._backend = Standalone(App.definitions(), self._store)
        url = await self._exits.enter_async_context(serving(create_app(self._backend)))
        self.road.port = int(url.rpartition(":")[2])

    async def crash(self) -> None:
        """Nothing is saved of what is in memory, and another server takes its place."""
        self._backend.abandon()
        await self.start()


@asynccontextmanager
async def world() -> AsyncIterator[Servers]:
    async with road_to(0) as road, Servers(road) as servers:
        yield servers


@WAYS
async def test_parameters_are_those_of_the_opening_and_auth_is_new(transport: Any) -> None:
    """One rule: a hook has seen whatever is in `params`, and `auth` is of this very caller."""
    given = {"role": "guest", "token": "one"}
    async with (
        world() as servers,
        App.client(servers.road.url, transport=transport, timeout=PATIENCE) as client,
        client.room.get_or_create("k").connect(params=lambda: dict(given)) as connection,
    ):
        opened = connection.connection_id
        back = asyncio.Event()
        connection.on("reconnected", back.set)
        opening = {"role": "guest", "token": "one"}
        assert await connection.actor.me() == (opening, {"token": "one"})

        given.update(role="admin", token="two")
        servers.road.cut()
        await asyncio.wait_for(back.wait(), PATIENCE)
        assert await connection.actor.me() == (opening, {"token": "two"})

        given.update(token="three")
        back.clear()
        await servers.crash()
        servers.road.cut()
        await asyncio.wait_for(back.wait(), PATIENCE)
        assert await connection.actor.me() == (opening, {"token": "three"})
        assert connection.connection_id == opened
        assert [opening] == ASKED
