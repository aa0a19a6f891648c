"""What a connection is after it came back: its parameters and who its caller is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from client_succession import succession
from client_worlds import PATIENCE, WAYS

from rivet_ray import Actor, Registry, action, use

ASKED: list[Any] = []
"""Parameters that `on_before_connect` was asked about."""


@pytest.fixture(autouse=True)
def forget() -> None:
    ASKED.clear()


class Room(Actor[None, None, Any, None, Any]):
    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        return {name: params[name] for name in ("token", "sub") if name in params}

    def on_before_connect(self, request: Any, params: Any) -> None:
        ASKED.append(params)

    @action
    def me(self) -> tuple[Any, Any]:
        return self.conn.params, self.conn.auth


class App(Registry):
    room = use(Room)


@WAYS
async def test_parameters_are_those_of_the_opening_and_auth_is_new(transport: Any) -> None:
    """One rule: a hook has seen whatever is in `params`, and `auth` is of this very caller."""
    given = {"role": "guest", "token": "one"}
    async with (
        succession(App) as servers,
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
        await asyncio.wait_for(back.wait(), PATIENCE)
        assert await connection.actor.me() == (opening, {"token": "three"})
        assert connection.connection_id == opened
        assert [opening] == ASKED


@WAYS
async def test_another_caller_gets_another_connection(transport: Any) -> None:
    """Whoever logs in as somebody else in the same page: no hook has seen that one."""
    given = {"token": "one", "sub": "ann"}
    async with (
        succession(App) as servers,
        App.client(servers.road.url, transport=transport, timeout=PATIENCE) as client,
        client.room.get_or_create("k").connect(params=lambda: dict(given)) as connection,
    ):
        opened = connection.connection_id
        back, missed = asyncio.Event(), asyncio.Event()
        connection.on("reconnected", back.set)
        connection.on("resync", missed.set)
        given.update(sub="bob")
        servers.road.cut()
        await asyncio.wait_for(back.wait(), PATIENCE)
        await asyncio.wait_for(missed.wait(), PATIENCE)
        assert connection.connection_id != opened
        assert await connection.actor.me() == (given, {"token": "one", "sub": "bob"})
        assert [params["sub"] for params in ASKED] == ["ann", "bob"]
