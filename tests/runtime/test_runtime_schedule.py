"""The schedule (C6): never early, at least once, over restarts and crashes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from runtime_alarm import START, Alarm, App
from runtime_worlds import Tap, open_file, part, parts, quiet, started

from rivet_ray import ActionNotFound, Outcome, UserError
from rivet_ray.errors import InternalError
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore


class World:
    def __init__(self, test: Setup[App]) -> None:
        self.test = test

    @property
    def alarm(self) -> Alarm:
        return self.test.client.alarm.get_or_create("k")

    async def advance(self, seconds: float) -> None:
        """With a file store the work behind a timer takes real time."""
        await self.test.clock.advance(seconds)
        for _ in range(8):
            await quiet(self.test)
            if not isinstance(self.test.store, MemoryStore):
                await asyncio.sleep(0.005)
                await self.test.clock.advance(0)


@pytest.fixture(params=["memory", "file"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    store = MemoryStore() if request.param == "memory" else await open_file(tmp_path)
    async with setup_test(App, store=store, settings=HostSettings(stop_grace=0.01)) as test:
        yield World(test)
    await store.close()


@pytest.fixture
async def memory() -> AsyncIterator[World]:
    async with setup_test(App, settings=HostSettings(stop_grace=0.01)) as test:
        yield World(test)


# --- What can be scheduled ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args"), [("after", [5_000]), ("after_delta", [5]), ("at_time", [START + 5])]
)
async def test_fires_at_its_time_and_not_before(world: World, name: str, args: list[Any]) -> None:
    await getattr(world.alarm, name)(*args, "x")
    await world.advance(4.999)
    assert await world.alarm.fired() == []
    await world.advance(0.001)
    assert await world.alarm.fired() == ["x"]
    assert await world.alarm.entries() == []
    await world.advance(100)
    assert await world.alarm.fired() == ["x"]


async def test_time_that_has_passed_fires_at_once(world: World) -> None:
    await world.alarm.at_time(START - 100, "late")
    await world.advance(0)
    assert await world.alarm.fired() == ["late"]


async def test_private_actions_are_for_the_schedule_only(memory: World) -> None:
    tap, actor = Tap(memory.test), await started(memory.test, memory.alarm)
    call = tap.call(actor, "fire", "x")
    await settle()
    error = tap.error(call)
    assert (error.code, error.outcome) == ("action_not_found", Outcome.NOT_STARTED)
    with pytest.raises(AttributeError):
        memory.alarm.fire("x")


async def test_faults_are_found_when_it_is_scheduled(memory: World) -> None:
    with pytest.raises(ActionNotFound):
        await memory.alarm.any(1, "missing")
    for args in ([], [1], ["a", "b"]):
        assert await memory.alarm.fault_of("fire", *args) == "InvalidArgument", args
    with pytest.raises(InternalError):
        await memory.alarm.after(-1, "x")
    with pytest.raises(InternalError):
        await memory.alarm.at_naive()
    assert await memory.alarm.entries() == []


async def test_delay_beyond_the_calendar_does_not_spoil_the_list(memory: World) -> None:
    with suppress(InternalError, UserError):  # Refused: just as well.
        await memory.alarm.after(1e18, "in 31 million years")
    await memory.alarm.entries()


async def test_arguments_are_encoded_when_they_are_given(memory: World) -> None:
    await memory.alarm.after_and_mutate(1_000)
    await memory.advance(1)
    assert await memory.alarm.fired() == ["given"]


async def test_list_is_in_order_and_cancel_says_whether_it_did(world: World) -> None:
    late = await world.alarm.after(9_000, "late")
    await world.alarm.after(1_000, "early")
    assert [(item[1], item[2] - START) for item in await world.alarm.entries()] == [
        (["early"], 1),
        (["late"], 9),
    ]
    assert await world.alarm.cancel(late)
    assert not await world.alarm.cancel(late)
    assert not await world.alarm.cancel("never there")
    await world.advance(10)
    assert await world.alarm.fired() == ["early"]


async def test_order_of_times_then_of_entries(memory: World) -> None:
    for delay, text in ((300, "c"), (100, "a"), (200, "b")):
        await memory.alarm.after(delay, text)
    await memory.test.crash()
    await memory.advance(1)
    assert await memory.alarm.fired() == ["a", "b", "c"]
    await memory.alarm.at_time(START, "y")
    await memory.alarm.at_time(START - 1, "x")
    await memory.advance(0)
    assert (await memory.alarm.fired())[3:] in (["x", "y"], ["y", "x"])


async def test_schedule_made_by_an_action_that_raises_is_kept(world: World) -> None:
    with pytest.raises(UserError):
        await world.alarm.after_and_fail(1_000)
    await world.test.crash()
    await world.advance(1)
    assert await world.alarm.fired() == ["kept"]


async def test_current_is_none_outside(memory: World) -> None:
    assert await memory.alarm.current_is_none()


# --- It survives -----------------------------------------------------------------------------


@pytest.mark.parametrize("move", ["restart", "crash"])
async def test_survives_and_fires_without_any_request(world: World, move: str) -> None:
    actor = await world.alarm.resolve()
    await world.alarm.after(5_000, "x")
    await getattr(world.test, move)()
    await world.advance(4.9)
    assert (await world.test.store.claim(actor, "looking")).alarm == START + 5  # type: ignore[union-attr]
    await world.test.crash()
    await world.advance(0.2)
    assert await world.test.store.next_alarm() is None
    assert await world.alarm.fired() == ["x"]


@pytest.mark.parametrize("move", ["restart", "crash"])
async def test_overdue_fires_when_the_host_starts(world: World, move: str) -> None:
    await world.alarm.after(5_000, "x")
    world.test.clock.set_wall(START + 60)
    await getattr(world.test, move)()
    await world.advance(0)
    assert await world.test.store.next_alarm() is None
    assert await world.alarm.fired() == ["x"]


async def test_sleeping_actor_is_woken(world: World) -> None:
    await world.alarm.after(100_000, "x")
    await world.advance(60)
    assert world.test.backend.host.resident == 0
    await world.advance(40)
    await world.advance(0)
    assert world.test.backend.host.resident == 1
    assert await world.alarm.fired() == ["x"]


async def test_40_days(memory: World) -> None:
    await memory.alarm.after_delta(40 * 86_400, "x")
    await memory.advance(40 * 86_400 - 1)
    assert memory.test.backend.host.resident == 0
    assert await memory.alarm.fired() == []
    await memory.advance(1)
    assert await memory.alarm.fired() == ["x"]


# --- The clock on the wall ---------------------------------------------------------------------


async def test_never_early_when_the_clock_is_set_back(memory: World) -> None:
    await memory.alarm.after(10_000, "x")
    await memory.advance(5)
    memory.test.clock.set_wall(START - 3_600)
    await memory.advance(3_609)
    assert await memory.alarm.fired() == []
    await memory.advance(1)
    assert await memory.alarm.fired() == ["x"]


async def test_not_lost_when_the_clock_is_set_forward(memory: World) -> None:
    await memory.alarm.after(86_400_000, "x")
    memory.test.clock.set_wall(START + 86_400)
    await memory.advance(3_600)
    assert await memory.alarm.fired() == ["x"]


async def test_not_lost_when_the_clock_is_set_back_while_its_actor_wakes() -> None:
    class Slow(MemoryStore):
        async def claim(self, actor_id: str, token: str) -> Any:
            claim = await super().claim(actor_id, token)
            test.clock.set_wall(test.clock.now() - 100)
            return claim

    async with setup_test(App) as test:
        alarm = test.client.alarm.get_or_create("k")
        await alarm.after(60_000, "x")
        test.backend.host.store.__class__ = Slow  # as after an NTP step, once awake
        await test.clock.advance(70)  # asleep after 30 s, woken at 60 s
        test.backend.host.store.__class__ = MemoryStore
        await test.clock.advance(400)
        assert await test.client.alarm.get_or_create("k").fired() == ["x"]


# --- What fires beside it -----------------------------------------------------------------------


async def test_slow_entry_does_not_hold_up_another_one(memory: World) -> None:
    await memory.alarm.any(1_000, "wait", "slow")
    await memory.alarm.after(2_000, "quick")
    actor = await memory.alarm.resolve()
    await memory.advance(5)
    assert part(memory.test, actor, "state/fired") == ["quick"]


async def test_scheduled_exclusive_action_is_alone(memory: World) -> None:
    await memory.alarm.any(1_000, "alone")
    await memory.alarm.after(1_500, "x")
    await memory.advance(2)
    asking = asyncio.create_task(memory.alarm.fired())
    await settle()
    assert not asking.done()
    instance = memory.test.backend.host.running(await memory.alarm.resolve())
    assert instance is not None
    instance.actor.go.set()
    fired = await asking
    assert fired[:2] == ["alone begins", "alone ends"]


async def test_rescheduling_itself_goes_on(memory: World) -> None:
    await memory.alarm.any(1_000, "again")
    await memory.advance(10)
    assert part(memory.test, await memory.alarm.resolve(), "state/count") == 10
    assert len(await memory.alarm.entries()) == 1


async def test_cancelling_itself_ends_it(memory: World) -> None:
    await memory.alarm.any(1_000, "cancel_itself")
    await memory.advance(100)
    assert part(memory.test, await memory.alarm.resolve(), "state/count") == 1
    assert await memory.alarm.entries() == []


async def test_10_000_due_at_once_fire_once_each(memory: World) -> None:
    await memory.alarm.many(1_000, 10_000)
    actor = await memory.alarm.resolve()
    await memory.test.crash()
    began = time.process_time()
    await memory.advance(2)
    await memory.advance(0)
    took = time.process_time() - began
    assert took < 4, f"they kept the loop busy for {took:.1f} s"
    assert part(memory.test, actor, "state/count") == 10_000
    assert parts(memory.test, actor, "schedule/") == []


async def test_2_000_actors_due_at_once_fire_once_each() -> None:
    """Reliability 9: they became due while no host ran."""
    async with setup_test(App) as test:
        handles = [test.client.alarm.get_or_create(str(index)) for index in range(2_000)]
        await asyncio.gather(*(handle.after(1_000, "x") for handle in handles))
        test.clock.set_wall(START + 10)
        await test.crash()
        for _ in range(20):
            await settle()
        store: Any = test.store
        assert test.backend.host.resident == 2_000
        assert {part(store, actor, "state/attempts") == [1] for actor in store._living} == {True}
