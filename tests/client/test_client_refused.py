"""A server that does not let a client come back: it is told, once, and why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from client_worlds import PATIENCE, WAYS, eventually, world

from rivet_ray import Actor, Event, Registry, Unauthorized, action, use
from rivet_ray.client import ActorConnection
from rivet_ray.errors import Outcome

valid: set[str] = set()


class Guarded(Actor[int, None, Any]):
    counted = Event[int]()

    @classmethod
    async def on_auth(cls, request: Any, params: Any, intents: Any) -> None:
        if params not in valid:
            raise Unauthorized("The token has expired.", metadata={"reason": "expired_token"})

    @action
    def increment(self) -> int:
        self.state += 1
        self.broadcast(Guarded.counted, self.state)
        return self.state


class App(Registry):
    guarded = use(Guarded)


@pytest.fixture(autouse=True)
def tokens() -> None:
    valid.clear()
    valid.add("token")


class Life:
    """What the handlers of a connection are told of its life."""

    def __init__(self, connection: Any) -> None:
        self.seen: list[Any] = []
        for name in ("connected", "disconnected", "reconnected", "resync"):
            connection.on(name, lambda name=name: self.seen.append(name))
        connection.on("error", self.seen.append)


@WAYS
async def test_a_refused_reconnect_is_an_error(transport: Any) -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        connection = client.guarded.get_or_create("k", params="token").connect()
        life = Life(connection)
        async with connection:
            assert await connection.actor.increment() == 1
            counts = connection.events(Guarded.counted)
            reading = asyncio.ensure_future(anext(aiter(counts)))
            valid.clear()
            road.cut()
            with pytest.raises(Unauthorized, match="expired") as caught:
                await asyncio.wait_for(reading, PATIENCE)
            assert caught.value.metadata == {"reason": "expired_token"}
            assert life.seen[:2] == ["connected", "disconnected"]
            (error,) = life.seen[2:]
            assert isinstance(error, Unauthorized)
            with pytest.raises(Unauthorized) as refused:
                await connection.actor.increment()
            assert refused.value.outcome is Outcome.NOT_STARTED
            with pytest.raises(Unauthorized):
                await anext(aiter(connection.events(Guarded.counted)))
    assert len(life.seen) == 3


@WAYS
async def test_a_refusal_that_nobody_handles_is_logged(
    transport: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
        client.guarded.get_or_create("k", params="token").connect() as connection,
    ):
        valid.clear()
        road.cut()
        await eventually(lambda: "The token has expired" in caplog.text)
        assert isinstance(connection, ActorConnection)


@WAYS
async def test_dispose_while_cut_off_is_no_second_cut(transport: Any) -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        connection = client.guarded.get_or_create("k", params="token").connect()
        life = Life(connection)
        await connection
        events = connection.events(Guarded.counted)
        road.open = False
        road.cut()
        await eventually(lambda: life.seen == ["connected", "disconnected"])
        await connection.dispose()
        assert [count async for count in events] == []
    assert life.seen == ["connected", "disconnected"]
