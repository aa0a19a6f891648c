"""Two releases run over one store at once, in both directions, and one of them is taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer
from runtime_worlds import quiet

from rivet_ray import Actor, Registry, StateTooNew, action, use
from rivet_ray.store import open_store
from rivet_ray.testing import ManualClock, Setup, setup_test


@dataclass
class ItemOne:
    name: str = ""


@dataclass
class ItemTwo:
    name: str = ""
    price: int = 0


@dataclass
class StateOne:
    count: int = 0
    items: list[ItemOne] = field(default_factory=list)
    reminded: list[str] = field(default_factory=list)


@dataclass
class StateTwo:
    count: int = 0
    items: list[ItemTwo] = field(default_factory=list)
    reminded: list[str] = field(default_factory=list)
    colour: str = "none"


class Common(Actor[Any]):
    sleep_after = 1000.0

    @action
    def add(self) -> int:
        self.state.count += 1
        count: int = self.state.count
        return count

    @action
    def plan(self, seconds: float, mark: str) -> None:
        self.schedule.after(1000 * seconds, Common.remind, mark)

    @action
    def remind(self, mark: str) -> None:
        self.state.reminded.append(mark)

    @action
    def rename(self, name: str) -> None:
        for item in self.state.items:
            item.name = name

    @action
    def reminders(self) -> list[str]:
        found: list[str] = self.state.reminded
        return found

    @action
    def nap(self) -> None:
        self.sleep()


class One(Common, Actor[StateOne]):
    def create_state(self, input: Any) -> StateOne:
        return StateOne()


class Two(Common, Actor[StateTwo]):
    def create_state(self, input: Any) -> StateTwo:
        return StateTwo()

    @action
    def paint(self, colour: str, price: int) -> None:
        self.state.colour = colour
        self.state.items.append(ItemTwo("x", price))

    @action
    def look(self) -> list[Any]:
        state = self.state
        return [state.count, state.colour, *([item.name, item.price] for item in state.items)]


@dataclass
class StateThree:
    total: int = 0
    items: list[ItemTwo] = field(default_factory=list)
    reminded: list[str] = field(default_factory=list)


class Three(Common, Actor[StateThree]):
    """It would be misread by the others: `count` is `total` now."""

    state_version = 2

    def create_state(self, input: Any) -> StateThree:
        return StateThree()

    @classmethod
    def migrate(cls, raw: dict[str, Any], version: int) -> dict[str, Any]:
        raw["total"] = 100 * raw.pop("count")
        return raw

    @action
    def total(self) -> int:
        self.state.total += 1
        return self.state.total


class AppOne(Registry):
    thing = use(One)


class AppTwo(Registry):
    thing = use(Two)


class AppThree(Registry):
    thing = use(Three)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


Release = Callable[[Any], AbstractAsyncContextManager[Setup[Any]]]


@pytest.fixture(params=["file", "redis"])
async def release(
    request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer
) -> AsyncIterator[Release]:
    """Begin a host of a release: on Redis with a store of its own, on files with one for all."""
    clock = ManualClock()
    shared = await open_store(tmp_path.as_uri()) if request.param == "file" else None

    @asynccontextmanager
    async def begin(registry: Any) -> AsyncIterator[Setup[Any]]:
        store = shared or await open_store(redis.url(tmp_path.name))
        try:
            async with setup_test(registry, store=store, clock=clock) as setup:
                yield setup
        finally:
            if shared is None:
                await store.close()

    yield begin
    if shared is not None:
        await shared.close()


async def ask(test: Setup[Any], action: str, *args: Any) -> Any:
    """Call an action, and let the actor leave memory, so that the other host may have it."""
    thing: Any = test.client.thing.get_or_create("k")
    found = await thing.call(action, *args)
    await thing.nap()
    await until(test, 1, _async(lambda: test.backend.host.resident == 0))
    return found


def _async(test: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return test()

    return look


async def until(test: Setup[Any], step: float, reached: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(400):
        if await reached():
            return
        await test.clock.advance(step)
        await quiet(test)
    raise AssertionError("it was not reached")


async def test_unknown_fields_outlast_older_code_that_runs_beside(release: Release) -> None:
    async with release(AppOne) as one:
        assert await ask(one, "add") == 1
        async with release(AppTwo) as two:
            assert await ask(two, "add") == 2
            await ask(two, "paint", "red", 7)
            assert await ask(one, "add") == 3
            await ask(one, "rename", "y")
            assert await ask(two, "look") == [3, "red", ["y", 7]]
            await ask(two, "paint", "blue", 8)
            await ask(one, "rename", "z")
            assert await ask(two, "add") == 4
        assert await ask(one, "add") == 5  # The release is taken back,
        await ask(one, "rename", "w")
        async with release(AppTwo) as two:  # and made again.
            assert await ask(two, "look") == [5, "blue", ["w", 7], ["w", 8]]


@pytest.mark.parametrize("planned_by", ["older", "newer"])
async def test_a_schedule_fires_once_whoever_planned_it(release: Release, planned_by: str) -> None:
    async with release(AppOne) as one, release(AppTwo) as two:
        by = one if planned_by == "older" else two
        for mark in "abc":
            await ask(by, "plan", 30, mark)

        async def reminded() -> bool:
            for _ in range(60):  # Both have time for it before one of them is asked.
                await two.clock.advance(1)
                await quiet(one)
                await quiet(two)
            return len(await ask(two, "reminders")) == 3

        await until(two, 5, reminded)
        await reminded()
        assert sorted(await ask(one, "reminders")) == ["a", "b", "c"]


async def test_a_host_of_older_code_leaves_what_is_newer_alone(
    release: Release, caplog: pytest.LogCaptureFixture
) -> None:
    async with release(AppTwo) as two:
        assert await ask(two, "add") == 1
        async with release(AppThree) as three:
            assert await ask(three, "total") == 101
            await ask(three, "plan", 30, "newer")
            for _ in range(3):
                with pytest.raises(StateTooNew):
                    await two.client.thing.get_or_create("k").add()
        with pytest.raises(StateTooNew):  # The release is taken back: the actor waits.
            await two.client.thing.get_or_create("k").add()
        await two.clock.advance(100)
        await quiet(two)
        assert await two.client.thing.get_or_create("other").call("add") == 1
        async with release(AppThree) as three:

            async def reminded() -> bool:
                return await ask(three, "reminders") == ["newer"]

            await until(three, 5, reminded)
            assert await ask(three, "total") == 102
    told = [line for line in caplog.messages if "is left alone" in line]
    assert len(told) == 1
