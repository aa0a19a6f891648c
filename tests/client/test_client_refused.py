"""A server that does not let a client come back: it is told, once, and why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from client_worlds import PATIENCE, WAYS, eventually, world

from rivet_ray import Actor, Event, Registry, Unauthorized, UserError, action, use
from rivet_ray.client import ActorConnection
from rivet_ray.client.reconnecting import may_pass, wait_of
from rivet_ray.client.transport import retry_after
from rivet_ray.errors import AuthUnavailable, Outcome, RequestFailed, RivetError

valid: set[str] = set()
refusals: list[RivetError] = []
"""What the next openings are refused with."""


class NotNow(UserError):
    def __init__(self, status: int, seconds: float | None = None) -> None:
        super().__init__("Slow down.", "slow_down", {"retry_after": seconds} if seconds else None)
        self.status = status


class Guarded(Actor[int, None, Any]):
    counted = Event[int]()

    @classmethod
    async def on_auth(cls, request: Any, params: Any, intents: Any) -> None:
        if refusals:
            raise refusals.pop(0)
        if params not in valid:
            raise Unauthorized("The token has expired.", metadata={"reason": "expired_token"})

    @action
    def refuse(self) -> None:
        raise NotNow(429)

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
    refusals.clear()


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


@WAYS
async def test_what_is_refused_for_now_is_tried_again(transport: Any) -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        connection = client.guarded.get_or_create("k", params="token").connect()
        life = Life(connection)
        async with connection:
            refusals.extend([NotNow(429), NotNow(408), AuthUnavailable("Away."), NotNow(425)])
            road.cut()
            await eventually(lambda: life.seen == ["connected", "disconnected", "reconnected"])
            assert await connection.actor.increment() == 1
            assert not refusals
            refusals.append(NotNow(403))
            road.cut()
            await eventually(lambda: len(life.seen) == 5)
            with pytest.raises(UserError) as caught:
                await connection.actor.increment()
            assert (caught.value.code, caught.value.status) == ("slow_down", 403)


@WAYS
async def test_a_refusal_may_ask_for_a_pause(transport: Any) -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
        client.guarded.get_or_create("k", params="token").connect() as connection,
    ):
        refusals.append(NotNow(429, 1.0))
        road.cut()
        await eventually(lambda: not refusals)
        begun = asyncio.get_running_loop().time()
        await connection.actor.increment()
        assert asyncio.get_running_loop().time() - begun > 0.9


@WAYS
async def test_errors_keep_their_status(transport: Any) -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        handle = client.guarded.get_or_create("k", params="token")
        async with handle.connect() as connection:
            for refuse in (handle.refuse, connection.actor.refuse):
                with pytest.raises(UserError) as caught:
                    await refuse()
                assert (caught.value.code, caught.value.status) == ("slow_down", 429)
        refusals.append(NotNow(429))
        with pytest.raises(UserError) as refused:
            await handle.connect()
        assert refused.value.status == 429


def test_how_long_a_refusal_puts_a_client_off() -> None:
    assert [wait_of(NotNow(429, seconds)) for seconds in (2, 2.5, 1e9)] == [2.0, 2.5, 300.0]
    for metadata in (None, [], {}, {"retry_after": "soon"}, {"retry_after": -1}):
        assert wait_of(RequestFailed("x", metadata=metadata)) == 0.0
    assert wait_of(RequestFailed("x", metadata=retry_after("120"))) == 120.0
    for header in (None, "", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "9" * 400):
        assert retry_after(header) is None
    assert may_pass(RequestFailed("x"))
    assert not may_pass(Unauthorized())
