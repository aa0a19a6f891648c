"""C3: what runs beside what. Actions interleave at awaits, exclusive ones are alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime_worlds import Tap, part, started

from rivet_ray import Actor, CallCycle, InternalError, Outcome, Registry, action, use
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle


@dataclass
class State:
    count: int = 0
    log: list[str] = field(default_factory=list[str])


class Worker(Actor[State, None, str | None]):
    creations = 0
    starts = 0
    failing = False

    async def on_create(self, input: None) -> None:
        Worker.creations += 1
        await asyncio.sleep(0)

    async def on_start(self) -> None:
        Worker.starts += 1
        self.gates: dict[str, asyncio.Event] = {}
        await asyncio.sleep(0)
        if Worker.failing:
            raise ValueError("cannot start")

    def on_connect(self, conn: Any) -> None:
        if conn.params == "counted":
            self.state.count += 1

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    @action
    def open(self, name: str) -> None:
        self.gate(name).set()

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    def log_(self, text: str) -> None:
        self.state.log.append(text)

    @action
    def logged(self) -> list[str]:
        return self.state.log

    @action
    async def step(self, name: str) -> None:
        self.state.log.append(f"{name} begins")
        await self.gate(name).wait()
        self.state.log.append(f"{name} ends")

    @action
    async def wait_add(self, name: str) -> int:
        await self.gate(name).wait()
        return self.add.local()

    @action
    def add_in_background(self, name: str) -> None:
        self.wait_until(self.wait_add(name))

    @action
    async def read_then_write(self) -> int:
        seen = self.state.count
        await asyncio.sleep(0)
        self.state.count = seen + 1
        return self.state.count

    @action(exclusive=True)
    async def exclusive_read_then_write(self) -> int:
        seen = self.state.count
        for _ in range(3):
            await asyncio.sleep(0)
        self.state.count = seen + 1
        return self.state.count

    @action(exclusive=True)
    async def alone(self, name: str) -> None:
        self.state.log.append(f"{name} begins")
        await self.gate(name).wait()
        self.state.log.append(f"{name} ends")

    @action(exclusive=True, timeout=2)
    async def alone_2(self) -> None:
        await asyncio.Event().wait()

    @action
    def alone_later(self, name: str) -> None:
        self.schedule.after(1_000, Worker.alone, name)

    @action(readonly=True)
    def careless(self) -> int:
        self.state.count += 1
        return self.state.count

    @action(readonly=True)
    async def look(self, name: str) -> int:
        await self.gate(name).wait()
        return self.state.count

    @action(readonly=True)
    async def careless_look(self) -> int:
        await asyncio.sleep(0)
        self.state.count += 1
        return self.state.count

    # Calls of others.

    @action(exclusive=True)
    async def alone_via(self, *path: str) -> str:
        return await self.hop(*path)

    @action
    async def via(self, *path: str) -> str:
        return await self.hop(*path)

    async def hop(self, *path: str) -> str:
        if not path:
            return "end"
        key, *rest = path
        other = self.client(App).worker.get_or_create(key)
        return await (other.alone_via(*rest) if key.isupper() else other.via(*rest))

    @action(exclusive=True, timeout=20)
    async def alone_then(self, gate: str, other: str) -> str:
        await self.gate(gate).wait()
        return await self.client(App).worker.get_or_create(other).alone_via()


class App(Registry):
    worker = use(Worker)


class World:
    def __init__(self, test: Setup[App], actor: str) -> None:
        self.test, self.actor, self.tap = test, actor, Tap(test)
        self.handle = test.client.worker.get_or_create("k")

    def call(self, name: str, *args: Any, **options: Any) -> int:
        return self.tap.call(self.actor, name, *args, **options)

    async def open(self, *names: str) -> None:
        instance = self.test.backend.host.running(self.actor)
        assert instance is not None
        for name in names:
            instance.actor.gate(name).set()
            await settle()

    @property
    def log(self) -> list[str]:
        instance = self.test.backend.host.running(self.actor)
        assert instance is not None
        log: list[str] = instance.actor.state.log
        return log


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with setup_test(App, settings=HostSettings(stop_grace=0.01)) as test:
        yield World(test, await started(test, test.client.worker.get_or_create("k")))


# --- Interleaving -------------------------------------------------------------------------


async def test_actions_interleave_at_awaits(world: World) -> None:
    world.call("step", "a")
    await settle()
    world.call("step", "b")
    await settle()
    await world.open("b", "a")
    assert world.log == ["a begins", "b begins", "b ends", "a ends"]


async def test_lost_update_without_exclusive_and_none_with_it(world: World) -> None:
    calls = [world.call("exclusive_read_then_write") for _ in range(20)]
    await settle()
    await settle()
    assert [world.tap.output(call) for call in calls] == list(range(1, 21))
    for _ in range(5):
        world.call("read_then_write")
    await settle()
    assert part(world.test, world.actor, "state/count") < 25


async def test_exclusive_is_alone_against_plain_ones(world: World) -> None:
    world.call("step", "before")
    await settle()
    world.call("alone", "x")
    await settle()
    assert world.log == ["before begins"]
    world.call("log_", "sync")
    world.call("step", "after")
    await settle()
    await world.open("before")
    assert world.log == ["before begins", "before ends", "x begins"]
    await world.open("x", "after")
    assert world.log[3:] == ["x ends", "sync", "after begins", "after ends"]


async def test_scheduled_exclusive_waits_and_is_alone(world: World) -> None:
    await world.handle.alone_later("scheduled")
    world.call("step", "plain")
    await world.test.clock.advance(1)
    world.call("log_", "sync")
    await settle()
    assert world.log == ["plain begins"]
    await world.open("plain", "scheduled")
    assert world.log[1:] == ["plain ends", "scheduled begins", "scheduled ends", "sync"]


async def test_turns_enter_in_the_order_in_which_they_came(world: World) -> None:
    world.call("alone", "first")
    await settle()
    for name in "abc":
        world.call("log_", f"sync {name}")
        world.call("alone", name)
    await settle()
    await world.open("first", "a", "b", "c")
    assert [item for item in world.log if not item.endswith("ends")] == [
        "first begins",
        "sync a",
        "a begins",
        "sync b",
        "b begins",
        "sync c",
        "c begins",
    ]


async def test_calls_of_one_tick_begin_in_their_order(world: World) -> None:
    world.call("alone", "first")
    world.call("log_", "second")
    await settle()
    await world.open("first")
    assert world.log == ["first begins", "first ends", "second"]


# --- Cancellation and deadlines while waiting -------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_one_that_gives_up_waiting_frees_its_place(world: World, how: str) -> None:
    world.call("step", "open")
    await settle()
    waiting = world.call("alone", "never", timeout=2.0)
    await settle()
    behind = world.call("log_", "behind")
    await settle()
    assert world.log == ["open begins"]
    if how == "cancel":
        world.tap.cancel(waiting)
        await settle()
    else:
        await world.test.clock.advance(2)
    error = world.tap.error(waiting)
    assert error.outcome is Outcome.NOT_STARTED
    assert error.code == ("action_cancelled" if how == "cancel" else "action_timed_out")
    assert world.log == ["open begins", "behind"]
    assert world.tap.answer(behind) is not None


async def test_exclusive_that_times_out_frees_its_place(world: World) -> None:
    late = world.call("alone_2")
    await settle()
    behind = world.call("add")
    await world.test.clock.advance(2)
    assert world.tap.error(late).code == "action_timed_out"
    assert world.tap.output(behind) == 1


async def test_cancelled_in_the_very_tick_in_which_its_turn_comes(world: World) -> None:
    world.call("alone", "x")
    await settle()
    cancelled, behind = world.call("add"), world.call("add")
    await settle()
    instance = world.test.backend.host.running(world.actor)
    assert instance is not None
    instance.actor.gate("x").set()
    world.tap.cancel(cancelled)
    await settle()
    error = world.tap.error(cancelled)
    assert (error.code, error.outcome) == ("action_cancelled", Outcome.NOT_STARTED)
    assert world.tap.output(behind) == 1


# --- Cycles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("alone_via", ["k"]),
        ("alone_via", ["K2", "k"]),
        ("alone_via", ["b", "k"]),
        ("alone_via", ["B", "c", "k"]),
        ("alone_via", ["B", "C", "B"]),
    ],
)
async def test_cycle_fails_quickly(world: World, name: str, path: list[str]) -> None:
    """Keys in capitals are called exclusively; `k` is the first actor itself."""
    with pytest.raises(CallCycle):
        async with asyncio.timeout(2):
            await getattr(world.handle, name)(*path)


async def test_plain_calls_in_a_circle_are_no_cycle(world: World) -> None:
    assert await world.handle.via("b", "c", "k", "b") == "end"
    assert await world.handle.via("B", "C", "k") == "end"


async def test_deadlock_of_two_chains_ends_fast_or_at_the_deadline(world: World) -> None:
    """A waits for B's exclusive action and B for A's: nothing hangs for ever."""
    other = await started(world.test, world.test.client.worker.get_or_create("B"))
    first = world.call("alone_then", "g", "B")
    second = world.tap.call(other, "alone_then", "g", "k")
    await settle()
    for actor in (world.actor, other):
        instance = world.test.backend.host.running(actor)
        assert instance is not None
        instance.actor.gate("g").set()
    await settle()
    await world.test.clock.advance(21)
    assert world.tap.answer(first) is not None
    assert world.tap.answer(second) is not None
    codes = {item for item in world.tap.seen() if item != "end"}
    assert codes <= {"call_cycle", "action_timed_out"}


# --- Activation ----------------------------------------------------------------------------------


async def test_1000_first_calls_are_one_creation() -> None:
    async with setup_test(App) as test:
        Worker.creations = Worker.starts = 0
        handle = test.client.worker.get_or_create("new")
        answers = await asyncio.gather(*(handle.add() for _ in range(1000)))
        assert sorted(answers) == list(range(1, 1001))
        assert (Worker.creations, Worker.starts) == (1, 1)


async def test_failed_activation_is_told_to_all_and_tried_again() -> None:
    async with setup_test(App) as test:
        Worker.starts, Worker.failing = 0, True
        handle = test.client.worker.get_or_create("new")
        try:
            answers = await asyncio.gather(
                *(handle.add() for _ in range(10)), return_exceptions=True
            )
        finally:
            Worker.failing = False
        for error in answers:
            assert isinstance(error, InternalError)
            assert error.outcome is Outcome.NOT_STARTED
        assert Worker.starts == 1
        assert test.backend.host.resident == 0
        assert await handle.add() == 1


async def test_two_creations_have_one_winner() -> None:
    async with setup_test(App) as test:
        results = await asyncio.gather(
            *(test.client.worker.create("k") for _ in range(20)), return_exceptions=True
        )
        assert sum(not isinstance(item, Exception) for item in results) == 1
        assert {item.code for item in results if isinstance(item, Exception)} == {  # type: ignore[attr-defined]
            "actor_already_exists"
        }
