"""C9 and the start of an actor: deadlines of calls that wait for it, hooks that use others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from runtime_worlds import Probe, Tap, part

from rivet_ray import Actor, Outcome, Overloaded, Registry, action, use
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle


@dataclass
class State:
    count: int = 0


class Slow(Actor[State]):
    go: asyncio.Event

    async def on_start(self) -> None:
        await Slow.go.wait()

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    async def hang(self) -> None:
        await asyncio.Event().wait()


class Asks(Actor[State]):
    """Asks another actor while it is created."""

    async def on_create(self, input: None) -> None:
        self.state.count = await self.client(App).helper.get_or_create("h").number()

    @action
    def get(self) -> int:
        return self.state.count


class AsksInState(Actor[State]):
    async def create_state(self, input: None) -> State:
        return State(await self.client(App).helper.get_or_create("h").number())

    @action
    def get(self) -> int:
        return self.state.count


class Saves(Actor[State]):
    async def on_start(self) -> None:
        self.state.count += 1
        await self.save()

    @action
    def get(self) -> int:
        return self.state.count


class Planner(Actor[State]):
    """Saves in the midst of its creation."""

    hold: asyncio.Event | None = None

    async def on_create(self, input: None) -> None:
        self.schedule.after(60_000, Planner.ring)
        self.state.count += 1
        await self.save()
        if Planner.hold is not None:
            await Planner.hold.wait()

    @action
    def ring(self) -> None:
        self.state.count += 100

    @action
    def entries(self) -> int:
        return len(self.schedule.list())

    @action
    def get(self) -> int:
        return self.state.count


class Helper(Actor[State]):
    @action
    def number(self) -> int:
        return 42


class App(Registry):
    slow = use(Slow)
    asks = use(Asks)
    asks_in_state = use(AsksInState)
    saves = use(Saves)
    helper = use(Helper)
    planner = use(Planner)


@pytest.mark.parametrize(("name", "expected"), [("asks", 42), ("asks_in_state", 42), ("saves", 1)])
async def test_hooks_of_the_start_may_save_and_call_others(name: str, expected: int) -> None:
    """`self.save()` and `self.client(…)` promise to work; nothing forbids them here."""
    async with setup_test(App) as test:
        asking = asyncio.create_task(getattr(test.client, name).get_or_create("k").get())
        await settle()
        done = asking.done()
        asking.cancel()
        assert done, "the actor does not start: it waits for itself"
        assert asking.result() == expected


async def test_call_outlives_no_deadline_while_its_actor_starts() -> None:
    async with setup_test(App) as test:
        Slow.go = asyncio.Event()
        actor, tap = await test.client.slow.get_or_create("k").resolve(), Tap(test)
        call = tap.call(actor, "add", timeout=5.0)
        await test.clock.advance(5)
        error = tap.error(call)
        assert (error.code, error.outcome) == ("action_timed_out", Outcome.NOT_STARTED)
        Slow.go.set()
        await settle()
        assert await test.client.slow.get_or_create("k").add() == 1


async def test_time_spent_waiting_for_the_start_counts() -> None:
    """C9: the deadline is the call's, not anew its action's."""
    async with setup_test(App, settings=HostSettings(stop_grace=0.01)) as test:
        Slow.go = asyncio.Event()
        actor, tap = await test.client.slow.get_or_create("k").resolve(), Tap(test)
        call = tap.call(actor, "hang", timeout=5.0)
        await test.clock.advance(4)
        Slow.go.set()
        await settle()
        await test.clock.advance(1.5)
        assert tap.answer(call) is not None, "it runs on beyond its deadline"


async def test_call_cancelled_while_its_actor_starts_never_runs() -> None:
    async with setup_test(App) as test:
        Slow.go = asyncio.Event()
        actor, tap = await test.client.slow.get_or_create("k").resolve(), Tap(test)
        call = tap.call(actor, "add")
        await settle()
        tap.cancel(call)
        Slow.go.set()
        await settle()
        assert part(test, actor, "state/count") in (None, 0)


async def test_start_has_a_deadline() -> None:
    async with setup_test(App) as test:
        Slow.go = asyncio.Event()
        actor, tap = await test.client.slow.get_or_create("k").resolve(), Tap(test)
        call = tap.call(actor, "add")
        await test.clock.advance(61)
        assert tap.error(call).outcome is Outcome.NOT_STARTED
        Slow.go.set()
        assert await test.client.slow.get_or_create("k").add() == 1


async def test_waiting_calls_are_bounded() -> None:
    async with setup_test(App, settings=HostSettings(parked_limit=3)) as test:
        Slow.go = asyncio.Event()
        actor, tap = await test.client.slow.get_or_create("k").resolve(), Tap(test)
        calls = [tap.call(actor, "add") for _ in range(4)]
        error = tap.error(calls[3])
        assert isinstance(error, Overloaded)
        assert error.outcome is Outcome.NOT_STARTED
        Slow.go.set()
        await settle()
        assert [tap.output(call) for call in calls[:3]] == [1, 2, 3]


async def test_what_start_changes_is_saved_before_the_first_answer() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        Slow.go = asyncio.Event()
        Slow.go.set()
        store.hold()
        adding = asyncio.create_task(test.client.slow.get_or_create("k").add())
        await settle()
        assert not adding.done()
        store.release()
        assert await adding == 1


async def test_calls_under_way_fail_when_their_session_ends() -> None:
    """HostClient.close: calls under way fail with the outcome unknown."""
    async with setup_test(App, settings=HostSettings(stop_grace=0.01)) as test:
        Slow.go = asyncio.Event()
        Slow.go.set()
        handle = test.client.slow.get_or_create("k")
        calling = asyncio.create_task(handle.hang())
        await settle()
        test.backend.calls.close()
        await settle()
        done = calling.done()
        calling.cancel()
        assert done
        error = calling.exception()
        assert getattr(error, "outcome", None) is Outcome.UNKNOWN


async def test_creation_that_begins_again_leaves_nothing_of_the_first() -> None:
    async with setup_test(App, settings=HostSettings(stop_grace=0.01)) as test:
        Planner.hold = asyncio.Event()
        asking = asyncio.create_task(test.client.planner.get_or_create("k").get())
        await settle()
        await test.crash()
        asking.cancel()
        Planner.hold = None
        planner = test.client.planner.get_or_create("k")
        assert await planner.get() == 1
        await test.crash()
        planner = test.client.planner.get_or_create("k")
        assert await planner.entries() == 1, "the schedule of the first creation is there too"
        await test.clock.advance(70)
        assert await test.client.planner.get_or_create("k").get() == 101
