"""What the output gate holds while a store hangs is bounded in bytes (issue 14, item 5)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from runtime_worlds import Tap, started

from rivet_ray import Actor, Registry, action, use
from rivet_ray.protocol.port import Attached, Close, Credit, Deliver, Failed, Reply
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore

MIB = 1 << 20
LIMIT = 4 * MIB


class Room(Actor[dict[str, int]]):
    def create_state(self, input: None) -> dict[str, int]:
        return {"count": 0}

    @action
    def add(self, size: int) -> str:
        self.state["count"] += 1
        return "x" * size

    @action
    def shout(self, size: int) -> int:
        self.state["count"] += 1
        self.broadcast("said", "x" * size)
        return self.state["count"]

    @action
    def count(self) -> int:
        return self.state["count"]


class App(Registry):
    room = use(Room)


class Held(MemoryStore):
    """Commits wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self.free.set()

    async def commit(self, commits: Any) -> Any:
        await self.free.wait()
        return await super().commit(commits)


@pytest.fixture
async def world() -> AsyncIterator[tuple[Setup[App], Held, str, Tap]]:
    store = Held()
    settings = HostSettings(max_held_size_per_actor=LIMIT)
    async with setup_test(App, store=store, settings=settings) as test:
        actor = await started(test, test.client.room.get_or_create("k"))
        yield test, store, actor, Tap(test)
        store.free.set()


async def test_answers(world: tuple[Setup[App], Held, str, Tap]) -> None:
    """Beyond the bound calls are refused as not started; all others get their answers."""
    test, store, actor, tap = world
    other = await started(test, test.client.room.get_or_create("other"))
    store.free.clear()
    calls = [tap.call(actor, "add", MIB // 2) for _ in range(40)]
    await settle()
    refused = [m for m in tap.messages if isinstance(m, Failed)]
    assert 28 <= len(refused) <= 34
    assert {(m.failure.code, m.failure.outcome) for m in refused} == {("overloaded", "not_started")}
    assert test.backend.host.budget.held < LIMIT + 2 * MIB
    assert test.backend.host.budget.refusals["actor"] == len(refused)
    beside = tap.call(other, "add", 10)
    store.free.set()
    await settle()
    assert tap.output(beside) == "x" * 10
    answered = [m for m in tap.messages if isinstance(m, Reply)]
    assert len(answered) + len(refused) == len(calls) + 1
    counted = tap.call(actor, "count")
    await settle()
    assert tap.output(counted) == len(calls) - len(refused), "what was refused did not run"
    assert test.backend.host.budget.held == 0


async def test_events(world: tuple[Setup[App], Held, str, Tap]) -> None:
    """Beyond the bound they are dropped, and those who wanted them are told (C5)."""
    test, store, actor, tap = world
    await tap.attach(actor, "wants", "said")
    await tap.attach(actor, "wants not")
    store.free.clear()
    for _ in range(3):
        tap.call(actor, "shout", 1_300_000)
    await settle()
    assert not [m for m in tap.messages if isinstance(m, Close)]
    tap.call(actor, "shout", 1_300_000)
    await settle()
    assert [(m.connection, m.reason) for m in tap.messages if isinstance(m, Close)] == [
        ("wants", "slow_consumer")
    ]
    store.free.set()
    await settle()
    assert not [m for m in tap.messages if isinstance(m, Deliver)], "nobody is left who wants them"
    assert len([m for m in tap.messages if isinstance(m, Reply)]) == 4
    assert test.backend.host.budget.held == 0


async def test_who_is_away_is_told_of_a_dropped_event(
    world: tuple[Setup[App], Held, str, Tap],
) -> None:
    test, store, actor, tap = world
    await tap.attach(actor, "c1", "said")
    tap.detach("c1", keep=True)
    await settle()
    store.free.clear()
    for _ in range(4):
        tap.call(actor, "shout", 1_300_000)
    await settle()
    store.free.set()
    await settle()
    again = Tap(test)
    await again.resume(actor, "c1", "said", seen=1)
    await settle()
    assert [m.reason for m in again.messages if isinstance(m, Close)] == ["resync"]


async def test_a_gate_that_opens_soon_counts_nothing(
    world: tuple[Setup[App], Held, str, Tap],
) -> None:
    test, _, actor, tap = world
    for _ in range(100):
        tap.call(actor, "add", 100)
        await settle()
    assert test.backend.host.budget.peak == 0


# --- Before a connection is open --------------------------------------------------


class Hall(Actor[None]):
    may_connect: ClassVar[asyncio.Event]

    async def on_connect(self, conn: Any) -> None:
        if conn.params == "slow":
            await Hall.may_connect.wait()

    @action
    def tell(self, size: int, times: int) -> int:
        for _ in range(times):
            for conn in self.conns:
                conn.send("said", "x" * size)
        return len(self.conns)


class Halls(Registry):
    hall = use(Hall)


@pytest.mark.parametrize(("size", "times"), [(300_000, 3), (300_000, 4), (10, 3_000), (10, 5_000)])
async def test_events_for_a_connection_that_is_not_open(size: int, times: int) -> None:
    """Who sends them is not hurt, nor is another connection; the client is told (C5)."""
    Hall.may_connect = asyncio.Event()
    async with setup_test(Halls, settings=HostSettings(max_backlog_size=MIB)) as test:
        actor, tap = await started(test, test.client.hall.get_or_create("k")), Tap(test)
        tap._session.send(Credit(10_000))
        await tap.attach(actor, "open")
        opening = await tap.attach(actor, "slow", params="slow")
        told = tap.call(actor, "tell", size, times)
        await settle()
        assert isinstance(tap.answer(told), Reply)
        assert tap.answer(opening) is None
        fits = times in (3, 3_000)
        assert (test.backend.host.budget.held > 0) is fits
        assert test.backend.host.budget.refusals.get("backlog", 0) == (not fits)
        Hall.may_connect.set()
        await settle()
        assert isinstance(tap.answer(opening), Attached)
        of = [(m.connection, type(m)) for m in tap.messages if isinstance(m, (Deliver, Close))]
        assert of.count(("open", Deliver)) == times
        assert of.count(("slow", Deliver)) == (times if fits else 0)
        assert of.count(("slow", Close)) == (not fits)
        assert test.backend.host.budget.held == 0


async def test_a_connection_that_never_opens_gives_its_backlog_back() -> None:
    Hall.may_connect = asyncio.Event()
    async with setup_test(Halls) as test:
        actor, tap = await started(test, test.client.hall.get_or_create("k")), Tap(test)
        await tap.attach(actor, "slow", params="slow")
        tap.call(actor, "tell", 1_000, 10)
        await settle()
        assert test.backend.host.budget.held > 10_000
        tap.detach("slow")
        Hall.may_connect.set()
        await settle()
        gc.collect()
        assert test.backend.host.budget.held == 0
