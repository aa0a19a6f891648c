"""Connections that are cut come back: nothing missed, nothing twice, and said where not."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from client_worlds import PATIENCE, WAYS, eventually, world

from rivet_ray import Actor, Event, Registry, action, use
from rivet_ray.client import reconnecting
from rivet_ray.errors import ActorNotFound, ConnectionClosed, Outcome, RivetError
from rivet_ray.runtime import HostSettings


@dataclass
class State:
    count: int = 0
    hooks: list[str] = field(default_factory=list[str])


@dataclass
class Member:
    name: str = "nobody"


class Counter(Actor[State, Member]):
    public = True
    counted = Event[int]()

    def on_connect(self, conn: Any) -> None:
        if conn.params == "watched":
            self.state.hooks.append("connect")

    def on_disconnect(self, conn: Any) -> None:
        if conn.params == "watched":
            self.state.hooks.append("disconnect")

    @action
    def increment(self) -> int:
        self.state.count += 1
        self.broadcast(Counter.counted, self.state.count)
        return self.state.count

    @action
    async def slowly(self) -> int:
        await asyncio.sleep(0.2)
        return self.increment.local()

    @action
    def rename(self, name: str) -> None:
        self.conn.state.name = name

    @action
    def whoami(self) -> str:
        return self.conn.state.name

    @action
    def hooks(self) -> list[str]:
        return list(self.state.hooks)

    @action
    async def kick(self) -> None:
        for conn in self.conns:
            if conn.params == "watched":
                await conn.disconnect("enough")

    @action
    def end(self) -> None:
        self.destroy()


class App(Registry):
    counter = use(Counter)


class Watch:
    """Everything that a connection tells."""

    def __init__(self, connection: Any) -> None:
        self.counts: list[int] = []
        self.life: list[str] = []
        connection.on(Counter.counted, self.counts.append)
        for name in ("connected", "disconnected", "reconnected", "resync"):
            connection.on(name, lambda name=name: self.life.append(name))
        connection.on("error", lambda error: self.life.append(error.code))


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
        await beside.counter.get("k").increment()
        await eventually(lambda: watch.counts == [6])
        assert await connection.actor.whoami() == "nobody", "it is another connection"


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


@WAYS
async def test_cut_anywhere(transport: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await cut_anywhere(transport, 40, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(600)
@WAYS
async def test_a_thousand_cuts(transport: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await cut_anywhere(transport, 1_000, monkeypatch)


async def cut_anywhere(transport: Any, cuts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At random bytes, the openings among them: no event is missed or comes twice."""
    monkeypatch.setattr(reconnecting, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(reconnecting, "LONGEST_PAUSE", 0.02)
    # A client that is cut after a few events again and again falls far behind.
    settings = HostSettings(replay_events=100_000, replay_size=100_000_000)
    async with (
        world(App, settings) as (road, beside),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
        client.counter.get_or_create("k").connect(params="watched") as connection,
    ):
        watch = Watch(connection)
        await connection.actor.rename("ann")
        road.after = random.Random(cuts)
        road.cut()
        while road.cuts < cuts:
            await beside.counter.get("k").increment()
            await asyncio.sleep(0.002)
        road.after = None
        road.cut()
        assert await connection.actor.whoami() == "ann"
        last = await beside.counter.get("k").increment()
        await eventually(lambda: watch.counts and watch.counts[-1] == last)
        assert watch.counts == list(range(1, last + 1))
        assert "resync" not in watch.life
        assert await beside.counter.get("k").hooks() == ["connect"]
        print(f"{road.cuts} cuts, {watch.life.count('reconnected')} reconnections, {last} events")
