"""C8: every error says not started, took effect or unknown, and what it says is true."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime_worlds import Probe, Tap, part, started

from rivet_ray import (
    Actor,
    ActorNotFound,
    InternalError,
    Outcome,
    Registry,
    UserError,
    action,
    use,
)
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle

DEEP: list[Any] = []
DEEP.append(DEEP)
BAD: dict[str, tuple[str, Any, str]] = {
    "object": ("free", object(), "state.free"),
    "nested object": ("free", {"a": [1, object()]}, "state.free['a'][1]"),
    "set": ("free", {1, 2}, "state.free"),
    "tuple": ("free", (1, 2), "state.free"),
    "tuple in a list": ("free", [(1, 2)], "state.free"),
    "nan": ("free", float("nan"), "state.free"),
    "float in an int": ("count", 1.5, "state.count"),
    "text in an int": ("count", "one", "state.count"),
    "none in an int": ("count", None, "state.count"),
    "too large an int": ("count", 2**70, "state.count"),
    "lone surrogate": ("free", "\ud800", "state.free"),
    "itself": ("free", DEEP, "state.free"),
    "text in a list of int": ("listed", [1, "two"], "state.listed"),
}


@dataclass
class State:
    count: int = 0
    free: Any = None
    listed: list[int] = field(default_factory=list[int])
    big: str = ""


class Counter(Actor[State]):
    def on_start(self) -> None:
        self.go = asyncio.Event()

    @action
    def add(self, amount: int) -> int:
        self.state.count += amount
        return self.state.count

    @action
    def get(self) -> int:
        return self.state.count

    @action
    def open(self) -> None:
        self.go.set()

    @action
    def grow(self, size: int) -> None:
        self.state.big = "x" * size

    @action
    async def add_and_hang(self) -> None:
        self.state.count += 1
        await asyncio.Event().wait()

    @action(timeout=5)
    async def add_and_hang_5(self) -> None:
        self.state.count += 1
        await asyncio.Event().wait()

    @action(timeout=5)
    async def stubborn(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.state.count += 10
            await self.go.wait()
        self.state.count += 100

    @action
    async def add_wait(self) -> int:
        self.state.count += 1
        await self.go.wait()
        return self.state.count

    @action(readonly=True)
    def peek(self) -> int:
        return self.state.count

    @action
    async def wait_add(self) -> int:
        await self.go.wait()
        self.state.count += 1
        return self.state.count

    @action
    def add_and_fail(self) -> None:
        self.state.count += 1
        raise UserError("no", "refused", {"why": "because"})

    @action
    def spoil(self, how: str) -> None:
        name, value, _ = BAD[how]
        setattr(self.state, name, value)

    @action
    async def spoil_later(self, how: str) -> None:
        await asyncio.sleep(0)
        self.spoil.local(how)

    @action
    def spoil_in_the_background(self, how: str) -> None:
        async def work() -> None:
            await asyncio.sleep(0)
            self.spoil.local(how)

        self.wait_until(work())

    @action
    def spoil_and_schedule(self) -> None:
        self.schedule.after(60_000, Counter.add, 1)
        self.state.free = object()

    @action
    def append(self, value: Any) -> int:
        self.state.listed.append(value)
        return len(self.state.listed)

    @action
    async def append_wait(self, value: Any) -> int:
        self.state.listed.append(value)
        await self.go.wait()
        return len(self.state.listed)

    @action
    def odd_result(self) -> Any:
        self.state.count += 1
        return object()

    @action
    def odd_error(self) -> None:
        self.state.count += 1
        raise UserError("text \ud800", "code", {"x": object()})

    @action
    async def pass_on(self, other: str, name: str) -> None:
        self.state.count += 1
        await self.client(App).counter.get(other).call(name)

    @action
    def forge(self) -> None:
        self.state.count += 1
        raise UserError("I did nothing", outcome=Outcome.NOT_STARTED)


class App(Registry):
    counter = use(Counter)


class World:
    def __init__(self, test: Setup[App], actor: str) -> None:
        self.test, self.actor, self.tap = test, actor, Tap(test)
        self.handle = test.client.counter.get_or_create("k")

    @property
    def saved(self) -> Any:
        return part(self.test, self.actor, "state/count")


@pytest.fixture
async def world() -> Any:
    settings = HostSettings(stop_grace=0.01)
    async with setup_test(App, store=Probe(), settings=settings) as test:
        actor = await started(test, test.client.counter.get_or_create("k"))
        yield World(test, actor)


# --- Took effect ------------------------------------------------------------------------


async def test_raising_keeps_the_change_and_says_took_effect(world: World) -> None:
    with pytest.raises(UserError) as caught:
        await world.handle.add_and_fail()
    assert caught.value.outcome is Outcome.TOOK_EFFECT
    assert (caught.value.code, caught.value.metadata) == ("refused", {"why": "because"})
    assert world.saved == 1


async def test_timeout_keeps_the_change_and_says_took_effect(world: World) -> None:
    call = world.tap.call(world.actor, "add_and_hang_5")
    await world.test.clock.advance(4.9)
    assert world.tap.answer(call) is None
    await world.test.clock.advance(0.2)
    error = world.tap.error(call)
    assert (error.code, error.outcome) == ("action_timed_out", Outcome.TOOK_EFFECT)
    assert world.saved == 1


async def test_default_and_callers_deadlines(world: World) -> None:
    default = world.tap.call(world.actor, "add_and_hang")
    callers = world.tap.call(world.actor, "add_and_hang", timeout=3.0)
    await world.test.clock.advance(3)
    assert world.tap.error(callers).code == "action_timed_out"
    await world.test.clock.advance(56)
    assert world.tap.answer(default) is None
    await world.test.clock.advance(1)
    assert world.tap.error(default).code == "action_timed_out"


async def test_code_that_ignores_its_deadline_is_answered_and_saved(world: World) -> None:
    call = world.tap.call(world.actor, "stubborn")
    await world.test.clock.advance(5)
    assert world.tap.error(call).code == "action_timed_out"
    assert await world.handle.get() == world.saved == 10
    await world.handle.open()
    await settle()
    assert world.saved == 110
    assert len([item for item in world.tap.messages if getattr(item, "call", 0) == call]) == 1


async def test_cancelled_action_keeps_its_change_and_says_took_effect(world: World) -> None:
    call = world.tap.call(world.actor, "add_and_hang")
    await settle()
    world.tap.cancel(call)
    await settle()
    error = world.tap.error(call)
    assert (error.code, error.outcome) == ("action_cancelled", Outcome.TOOK_EFFECT)
    assert world.saved == 1


async def test_cancelling_the_caller_cancels_the_action(world: World) -> None:
    calling = asyncio.create_task(world.handle.add_and_hang())
    await settle()
    calling.cancel()
    await settle()
    assert world.saved == 1
    instance = world.test.backend.host.running(world.actor)
    assert instance is not None
    assert not instance.busy


@pytest.mark.parametrize("name", ["odd_result", "odd_error"])
async def test_what_cannot_be_sent_is_an_error_that_took_effect(world: World, name: str) -> None:
    with pytest.raises((InternalError, UserError)) as caught:
        await getattr(world.handle, name)()
    assert caught.value.outcome is Outcome.TOOK_EFFECT
    assert world.saved == 1


async def test_no_one_can_forge_the_outcome(world: World) -> None:
    with pytest.raises(UserError) as caught:
        await world.handle.forge()
    assert caught.value.outcome is Outcome.TOOK_EFFECT


@pytest.mark.parametrize("name", ["nothing", "spoil"])
async def test_error_of_another_actors_call_does_not_fake_the_outcome(
    world: World, name: str
) -> None:
    """The other call was not started; this action had its effect."""
    await world.test.client.counter.get_or_create("other").get()
    call = world.tap.call(world.actor, "pass_on", "other", name)
    await settle()
    assert world.tap.error(call).outcome is Outcome.TOOK_EFFECT
    assert world.saved == 1


async def test_missing_other_actor_is_not_taken_for_a_missing_actor(world: World) -> None:
    with pytest.raises(ActorNotFound) as caught:
        await world.handle.pass_on("nobody", "get")
    assert caught.value.outcome is Outcome.TOOK_EFFECT
    assert world.saved == 1, "it ran twice"


# --- Not started -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args", "code"),
    [
        ("add", ["one"], "user_error"),
        ("add", [], "user_error"),
        ("add", [1, 2], "user_error"),
        ("add", [2**63], "user_error"),
        ("nothing", [], "action_not_found"),
        ("on_start", [], "action_not_found"),
        ("destroy", [], "action_not_found"),
        ("__init__", [], "action_not_found"),
    ],
)
async def test_refused_before_it_starts(
    world: World, name: str, args: list[Any], code: str
) -> None:
    call = world.tap.call(world.actor, name, *args)
    await settle()
    if name == "add" and args == [2**63]:
        assert world.tap.answer(call) is not None
        return
    error = world.tap.error(call)
    assert (error.code, error.outcome) == (code, Outcome.NOT_STARTED)
    assert await world.handle.get() == 0
