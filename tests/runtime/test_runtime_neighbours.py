"""What is wrong with one actor of a host is no other actor's affair."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from runtime_worlds import Probe, Tap, part, started

from rivet_ray import Actor, Outcome, Registry, action, use
from rivet_ray.errors import InternalError
from rivet_ray.runtime.alarms import RETRY, Alarms
from rivet_ray.runtime.deadline import Deadlines
from rivet_ray.runtime.memory import Memory
from rivet_ray.runtime.own_alarm import OwnAlarm
from rivet_ray.testing import ManualClock, Setup, setup_test
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore


@dataclass
class State:
    count: int = 0


class Seat(msgspec.Struct):
    row: int = 0


@dataclass
class Bomb:
    """Goes off when it is looked at."""

    value: str = ""

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if value == "exit":
            raise SystemExit(3)
        if value == "raise":
            raise ZeroDivisionError
        return value


class Counter(Actor[State]):
    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count


class Room(Actor[State, Seat]):
    @action
    def spoil(self) -> None:
        del self.conn.state.row

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count


class Bomber(Actor[Bomb]):
    @action
    def light(self, how: str) -> None:
        async def later() -> None:
            self.state.value = how

        self.wait_until(later())

    @action
    def value(self) -> str:
        return self.state.value


class App(Registry):
    counter = use(Counter)
    room = use(Room)
    bomber = use(Bomber)


@pytest.fixture
async def test() -> AsyncIterator[Setup[App]]:
    async with setup_test(App, store=Probe()) as test:
        yield test


@pytest.mark.parametrize("writing", [False, True], ids=["idle", "while a write is under way"])
async def test_a_connection_whose_state_cannot_be_saved(
    test: Setup[App], writing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The action fails, and the log names it; its actor and all others go on (A8)."""
    store: Any = test.store
    room = await started(test, test.client.room.get_or_create("r"))
    first, second = [await started(test, test.client.counter.get_or_create(k)) for k in "ab"]
    tap = Tap(test)
    await tap.attach(room, "c")
    if writing:
        store.hold()
        tap.call(first, "add")
        await settle()
    with caplog.at_level(logging.ERROR):
        spoilt = tap.call(room, "spoil", connection="c")
        others = [tap.call(room, "add"), tap.call(second, "add")]
        await settle()
        store.release()
        await settle()
    assert isinstance(tap.error(spoilt), InternalError)
    assert [tap.output(call) for call in others] == [1, 1]
    assert "'row' is unset" in caplog.text
    assert part(test, room, "state/count") == 1


@pytest.mark.parametrize("how", ["exit", "raise"])
@pytest.mark.parametrize("writing", [False, True], ids=["idle", "while a write is under way"])
async def test_an_actor_whose_state_breaks_whoever_looks_at_it(
    test: Setup[App], how: str, writing: bool
) -> None:
    """Its state goes back to what was saved; the others of its tick are answered."""
    store: Any = test.store
    bomber = await started(test, test.client.bomber.get_or_create("b"))
    first, second = [await started(test, test.client.counter.get_or_create(k)) for k in "ab"]
    tap = Tap(test)
    if writing:
        store.hold()
        tap.call(first, "add")
        await settle()
    tap.call(bomber, "light", how)
    other = tap.call(second, "add")
    await settle()
    store.release()
    await settle()
    again = tap.call(second, "add")
    await settle()
    assert [tap.output(other), tap.output(again)] == [1, 2]
    assert await test.client.bomber.get("b").value() == ""


@pytest.mark.parametrize("error", [SystemExit, ZeroDivisionError])
async def test_an_actor_that_cannot_be_looked_at(
    test: Setup[App], error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves memory and comes back as it was saved; the others of its tick are answered."""
    spoilt = await started(test, test.client.counter.get_or_create("spoilt"))
    other = await started(test, test.client.counter.get_or_create("other"))
    tap, split = Tap(test), Memory.split

    def fail(memory: Memory) -> dict[str, bytes]:
        if memory._instance.record.id == spoilt:
            raise error
        return split(memory)

    with monkeypatch.context() as patched:
        patched.setattr(Memory, "split", fail)
        calls = [tap.call(spoilt, "add"), tap.call(other, "add")]
        await settle()
    assert tap.error(calls[0]).outcome is Outcome.UNKNOWN
    assert tap.output(calls[1]) == 1
    assert test.backend.host.running(spoilt) is None
    assert await test.client.counter.get("spoilt").add() == 1


async def test_an_actor_that_cannot_be_given_up(test: Setup[App]) -> None:
    """The others of a batch that the store refuses are told all the same."""
    store: Any = test.store
    first, second = [await started(test, test.client.counter.get_or_create(k)) for k in "ab"]
    instance: Any = test.backend.host.running(first)
    instance.context._clients = {App: None}  # None.aclose() raises
    tap = Tap(test)
    store.down = True
    tap.call(first, "add")
    call = tap.call(second, "add")
    await test.clock.advance(12)
    assert tap.error(call).code == "store_unavailable"
    store.down = False
    assert await test.client.counter.get("b").add() == 1


async def test_a_deadline_that_breaks_leaves_the_others() -> None:
    clock, passed = ManualClock(), list[str]()
    deadlines = Deadlines(clock)

    def broken() -> None:
        raise ZeroDivisionError

    deadlines.add("a", 1.0, broken)
    deadlines.add("b", 1.0, lambda: passed.append("b"))
    deadlines.add("c", 2.0, lambda: passed.append("c"))
    await clock.advance(3)
    assert passed == ["b", "c"]


async def test_alarms_go_on_behind_one_that_breaks_and_a_store_that_fails() -> None:
    """C6: neither an actor that breaks its waking nor a fault of the driver stops the others."""
    clock, store = ManualClock(), Failing()
    woken: list[str] = []

    class Host:
        def wake(self, actor: str, failed: Callable[[BaseException], None]) -> None:
            woken.append(actor)
            if actor == "bad" and woken.count("bad") < 2:
                raise ZeroDivisionError

    alarms = Alarms(Host(), store, clock, [])
    alarms.start()
    await clock.advance(RETRY)
    assert woken == ["bad", "good"]
    await clock.advance(RETRY)
    assert woken == ["bad", "good", "bad"], "it is tried again"
    await alarms.close()


class Failing(MemoryStore):
    """A driver that breaks its promise, once."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = True

    async def alarms_due(self, now: float, *_: Any, **__: Any) -> list[tuple[float, str]]:
        if self.broken:
            self.broken = False
            raise ZeroDivisionError
        return [(now - 2, "bad"), (now - 1, "good")]


async def test_a_host_of_one_actor_tries_again_after_a_waking_that_broke() -> None:
    clock, woken = ManualClock(), list[str]()

    class Host:
        def wake(self, actor: str, failed: Callable[[BaseException], None]) -> None:
            woken.append(actor)
            if len(woken) == 1:
                raise ZeroDivisionError

    alarm = OwnAlarm(Host(), clock, "a")
    alarm.start()
    await clock.advance(RETRY)
    assert woken == ["a", "a"]
    alarm.abandon()
