"""Connections that are cut come back: nothing missed, nothing twice, and said where not."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import Any

import pytest
from client_worlds import PATIENCE, WAYS, eventually, world
from cut_actors import App
from cutting import Watch, cut_anywhere

from rivet_ray.client import reconnecting
from rivet_ray.client.connection import ActorConnection
from rivet_ray.client.session import Socket
from rivet_ray.client.transport import Closing
from rivet_ray.errors import ActorNotFound, ConnectionClosed, Outcome, RivetError
from rivet_ray.runtime import HostSettings


@WAYS
async def test_a_cut_is_not_noticed_by_the_actor(transport: Any) -> None:
    async with (
        world(App) as (road, beside),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
        client.counter.get_or_create("k").connect(params="watched") as connection,
    ):
        watch = Watch(connection)
        await connection.actor.rename("ann")
        await beside.counter.get("k").increment()
        await eventually(lambda: watch.counts == [1])
        road.open = False
        road.cut()
        for _ in range(3):
            await beside.counter.get("k").increment()
        queued = asyncio.ensure_future(connection.actor.whoami())
        await eventually(lambda: watch.life == ["disconnected"])
        assert not queued.done()
        road.open = True
        assert await queued == "ann"
        await eventually(lambda: watch.counts == [1, 2, 3, 4])
        assert watch.life == ["disconnected", "reconnected"]
        assert await beside.counter.get("k").hooks() == ["connect"]
    await asyncio.sleep(0)


@WAYS
async def test_dispose_is_a_goodbye(transport: Any) -> None:
    async with (
        world(App) as (road, beside),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        async with client.counter.get_or_create("k").connect(params="watched") as connection:
            await connection.actor.rename("ann")
        for _ in range(200):
            if await beside.counter.get("k").hooks() == ["connect", "disconnect"]:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the actor still thinks that its client is there")


@WAYS
async def test_missed_events_that_are_gone_are_said(transport: Any) -> None:
    async with (
        world(App, HostSettings(replay_events=2)) as (road, beside),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
        client.counter.get_or_create("k").connect(params="watched") as connection,
    ):
        watch = Watch(connection)
        await connection.actor.rename("ann")
        road.open = False
        road.cut()
        for _ in range(5):
            await beside.counter.get("k").increment()
        road.open = True
        await eventually(lambda: "resync" in watch.life)
        # Its subscriptions are there before any call of it is.
        assert await connection.actor.whoami() == "nobody", "it is another connection"
        await beside.counter.get("k").increment()
        await eventually(lambda: watch.counts == [6])


async def test_calls_under_way_are_unknown_unless_they_have_a_key() -> None:
    async with (
        world(App) as (road, beside),
        App.client(road.url, timeout=PATIENCE) as client,
        client.counter.get_or_create("k").connect() as connection,
    ):
        keyed = connection.actor.with_options(idempotency_key="once")  # type: ignore[attr-defined]
        calls = [asyncio.ensure_future(keyed.slowly()) for _ in range(2)]
        calls.append(asyncio.ensure_future(connection.actor.slowly()))
        await asyncio.sleep(0.1)
        road.cut()
        with pytest.raises(ConnectionClosed) as caught:
            await calls[2]
        assert caught.value.outcome is Outcome.UNKNOWN
        first, second = await asyncio.gather(*calls[:2])
        assert first == second
        assert await beside.counter.get("k").increment() == 3


async def test_a_closed_door_ends_it() -> None:
    """An actor that is gone, or wants no more of a client, is not asked again."""
    async with (
        world(App) as (road, beside),
        App.client(road.url, timeout=PATIENCE) as client,
    ):
        connection = client.counter.get_or_create("k").connect(params="watched")
        watch = Watch(connection)
        async with connection:
            await beside.counter.get("k").kick()
            await eventually(lambda: watch.life == ["connected", "disconnected"])
            with pytest.raises(ConnectionClosed, match="1000 enough"):
                await connection.actor.whoami()
        gone = client.counter.get("k").connect(params="watched")
        watch = Watch(gone)
        async with gone:
            road.open = False
            road.cut()
            await beside.counter.get("k").end()
            road.open = True
            await eventually(lambda: watch.life == ["connected", "disconnected", "actor_not_found"])
            with pytest.raises(RivetError) as caught:
                await gone.actor.whoami()
            assert caught.value.code == ActorNotFound.code


def test_pauses_grow_and_differ() -> None:
    for _ in range(20):
        made = reconnecting.pauses()
        found = [next(made) for _ in range(12)]
        assert 0 <= found[0] <= 0.25
        assert all(high <= low * 4.001 for low, high in itertools.pairwise(found[1:]))
        assert max(found) <= 30.0
    assert len({next(reconnecting.pauses()) for _ in range(50)}) > 40


async def test_a_server_that_accepts_and_closes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses grow until a connection lasts; each life used to begin them anew."""
    slept: list[float] = []
    lives = 0
    now = asyncio.get_running_loop().time

    async def sleep(self: Any, seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    async def run(self: Any) -> Closing:
        nonlocal lives
        lives += 1
        if lives == 8:
            late = now() + reconnecting.STEADY
            monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: max(late, now()))
        await self._transport.close()
        return Closing(1000 if lives == 10 else 1006, "")

    monkeypatch.setattr(ActorConnection, "_sleep", sleep)
    monkeypatch.setattr(Socket, "run", run)
    async with world(App) as (road, _), App.client(road.url, timeout=PATIENCE) as client:
        connection = client.counter.get_or_create("k").connect()
        await connection
        await eventually(lambda: lives == 10)
        await connection.dispose()
    assert [pause > 0.25 for pause in slept[:7]] == [False] + 6 * [True]
    assert slept[6] > 4
    assert slept[7] <= 0.25


@WAYS
async def test_cut_anywhere(transport: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(App) as (road, beside):
        found = await cut_anywhere(road, beside, transport, 40, monkeypatch, PATIENCE)
        assert found == {os.getpid()}


@pytest.mark.slow
@pytest.mark.timeout(600)
@WAYS
async def test_a_thousand_cuts(transport: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(App) as (road, beside):
        await cut_anywhere(road, beside, transport, 1_000, monkeypatch, PATIENCE)
