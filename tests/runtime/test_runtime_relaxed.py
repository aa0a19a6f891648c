"""`durability = "relaxed"`: answers first, saved within the interval; some things still wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from runtime_worlds import Probe, Tap, part, started

from rivet_ray import Actor, ActorNotFound, Event, Registry, action, use
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle


@dataclass
class State:
    count: int = 0


class Score(Actor[State]):
    durability = "relaxed"
    save_interval = 5.0
    sleep_after = 3.0

    scored = Event[int]()

    @action
    def add(self) -> int:
        self.state.count += 1
        self.broadcast(Score.scored, self.state.count)
        return self.state.count

    @action
    async def add_async(self) -> int:
        await asyncio.sleep(0)
        self.state.count += 1
        return self.state.count

    @action
    def get(self) -> int:
        return self.state.count

    @action
    def add_later(self) -> str:
        return self.schedule.after(1_000, Score.add)

    @action
    async def add_later_async(self) -> str:
        entry = self.schedule.after(1_000, Score.add)
        for _ in range(5):
            await asyncio.sleep(0)
        return entry

    @action
    def end(self) -> None:
        self.destroy()

    @action
    async def end_async(self) -> None:
        self.state.count += 1
        self.broadcast(Score.scored, self.state.count)
        self.destroy()
        await asyncio.sleep(0)

    @action
    async def saved(self) -> int:
        self.state.count += 1
        await self.save()
        return self.state.count


class App(Registry):
    score = use(Score)


class World:
    def __init__(self, test: Setup[App], store: Probe, actor: str) -> None:
        self.test, self.store, self.actor, self.tap = test, store, actor, Tap(test)
        self.score = test.client.score.get_or_create("k")

    @property
    def written(self) -> Any:
        return part(self.test, self.actor, "state/count")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    store = Probe()
    async with setup_test(App, store=store) as test:
        yield World(test, store, await started(test, test.client.score.get_or_create("k")))
        store.release()
        await settle()


@pytest.mark.parametrize("name", ["add", "add_async"])
async def test_reply_does_not_wait_for_the_write(world: World, name: str) -> None:
    world.store.hold()
    call = world.tap.call(world.actor, name)
    await settle()
    assert world.tap.output(call) == 1


async def test_events_do_not_wait_and_keep_their_order(world: World) -> None:
    await world.tap.attach(world.actor, "c1", "scored")
    await world.test.clock.advance(6)
    world.tap.messages.clear()
    world.store.hold()
    world.tap.call(world.actor, "add")
    world.tap.call(world.actor, "add")
    await settle()
    assert world.tap.seen() == [("scored", 1), 1, ("scored", 2), 2]
    world.tap.detach("c1")


async def test_saved_within_the_interval(world: World) -> None:
    await world.score.add()
    await world.test.clock.advance(4.9)
    await world.score.add()
    await world.test.clock.advance(0.2)
    assert world.written == 2


async def test_a_thousand_changes_are_few_writes(world: World) -> None:
    world.store.batches.clear()
    for _ in range(100):
        await world.score.add()
        await world.test.clock.advance(0.1)
    assert len(world.store.batches) <= 3


async def test_crash_loses_no_more_than_the_interval(world: World) -> None:
    await world.score.add()
    await world.test.clock.advance(5)
    await world.score.add()
    await world.test.crash()
    assert await world.test.client.score.get_or_create("k").get() == 1


@pytest.mark.parametrize("move", ["restart", "sleep"])
async def test_orderly_end_loses_nothing(world: World, move: str) -> None:
    await world.score.add()
    if move == "restart":
        await world.test.restart()
    else:
        await world.test.clock.advance(20)
        assert world.test.backend.host.resident == 0
    await world.test.crash()
    assert await world.test.client.score.get_or_create("k").get() == 1


async def test_save_waits(world: World) -> None:
    world.store.hold()
    call = world.tap.call(world.actor, "saved")
    await settle()
    assert world.tap.answer(call) is None
    world.store.release()
    await settle()
    assert world.tap.output(call) == world.written == 1


@pytest.mark.parametrize("name", ["add_later", "add_later_async"])
async def test_schedule_waits(world: World, name: str) -> None:
    world.store.hold()
    call = world.tap.call(world.actor, name)
    await settle()
    assert world.tap.answer(call) is None, "it left before the schedule was written"
    world.store.release()
    await settle()
    assert isinstance(world.tap.output(call), str)
    await world.test.crash()
    await world.test.clock.advance(7)
    assert world.written == 1


@pytest.mark.parametrize("name", ["end", "end_async"])
async def test_destroy_waits(world: World, name: str) -> None:
    world.store.hold()
    call = world.tap.call(world.actor, name)
    await settle()
    assert world.tap.answer(call) is None, "it left before the destroy was written"
    world.store.release()
    await settle()
    with pytest.raises(ActorNotFound):
        await world.test.client.score.get_with_id(world.actor).get()


async def test_scheduled_effect_and_removal_are_one_commit(world: World) -> None:
    entry = await world.score.add_later()
    world.store.batches.clear()
    await world.test.clock.advance(7)
    effect = [commit for commit in world.store.commits if "state/count" in commit.put]
    assert f"schedule/{entry}" in effect[0].delete
