"""Memory is what it was: after a sleep, a crash and a restart, on every driver."""

from __future__ import annotations

import collections
import datetime
import zoneinfo
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer
from value_kinds import Circle, Level, Shape

from rivet_ray import Actor, InternalError, Registry, action, use
from rivet_ray.errors import UserError
from rivet_ray.testing import Setup, setup_test


@dataclass
class State:
    count: int = 0
    shapes: list[Shape] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    when: datetime.datetime | None = None
    loose: Any = None


VALUES: dict[str, tuple[str, Any, str | None]] = {
    "shape": ("shapes", [Shape("a")], None),
    "circle": ("shapes", [Shape(), Circle()], "state.shapes[1]"),
    "dict": ("totals", {"a": 1}, None),
    "defaultdict": ("totals", collections.defaultdict(int, a=1), "state.totals"),
    "counter": ("totals", collections.Counter("aab"), "state.totals"),
    "enum": ("totals", {"a": Level.LOW}, "state.totals['a']"),
    "utc": ("when", datetime.datetime(2026, 7, 1, tzinfo=datetime.UTC), None),
    "zone": (
        "when",
        datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        "state.when",
    ),
    "loose": ("loose", {"a": [1, 2.5, b"x"]}, None),
    "loose tuple": ("loose", {"a": (1,)}, "state.loose['a']"),
}


class Keeper(Actor[State]):
    def create_state(self, input: Any) -> State:
        return State(count=7, totals={"made": 1})

    @action
    def keep(self, name: str) -> None:
        attribute, value, _ = VALUES[name]
        setattr(self.state, attribute, value)

    @action
    async def keep_later(self, name: str) -> None:
        attribute, value, _ = VALUES[name]
        setattr(self.state, attribute, value)

    @action
    def holds(self, name: str) -> bool:
        attribute, value, _ = VALUES[name]
        kept = getattr(self.state, attribute)
        return bool(kept == value and type(kept) is type(value))

    @action
    def look(self) -> list[Any]:
        return [self.state.count, self.state.totals]

    @action
    def plan(self, typed: bool) -> str:
        if typed:
            return self.schedule.after(1000, Keeper.count_all, collections.Counter("aab"))
        return self.schedule.after(1000, Keeper.keep_any, (1, 2))

    @action
    def count_all(self, totals: dict[str, int]) -> None:
        self.state.totals = totals

    @action
    def keep_any(self, value: Any) -> None:
        self.state.loose = value

    @action
    def stray(self) -> None:
        self.state.count += 1
        self.state.stray = 1  # type: ignore[attr-defined]

    @action
    def nap(self) -> None:
        self.sleep()


class App(Registry):
    keeper = use(Keeper)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", "file", "redis"])
async def test(
    request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer
) -> AsyncIterator[Setup[App]]:
    stores = {"memory": "memory://", "file": tmp_path.as_uri(), "redis": redis.url(tmp_path.name)}
    async with setup_test(App, store=stores[request.param]) as setup:
        yield setup


@pytest.mark.parametrize("method", ["keep", "keep_later"])
@pytest.mark.parametrize("name", VALUES)
async def test_a_value_is_the_same_after_sleep_and_crash_or_refused(
    test: Setup[App], name: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows B3, B4 and B5 of the faults that were seen."""
    keeper = test.client.keeper.get_or_create("k")
    refused = VALUES[name][2]
    if refused is not None:
        with pytest.raises(InternalError):
            await keeper.call(method, name)
        assert f"{refused} cannot be saved: " in caplog.text
        assert await keeper.look() == [7, {"made": 1}]
    else:
        await keeper.call(method, name)
    await keeper.nap()
    await test.clock.advance(1)
    assert await keeper.holds(name) is (refused is None)
    await test.crash()
    assert await test.client.keeper.get_or_create("k").holds(name) is (refused is None)


@pytest.mark.parametrize("method", ["keep", "keep_later"])
async def test_the_first_action_of_an_actor_goes_back_to_what_was_created(
    test: Setup[App], method: str
) -> None:
    """Row B8: it fell back to the defaults of the class, and they were saved."""
    keeper = test.client.keeper.get_or_create("k")
    with pytest.raises(InternalError):
        await keeper.call(method, "counter")
    assert await keeper.look() == [7, {"made": 1}]
    await test.crash()
    assert await test.client.keeper.get_or_create("k").look() == [7, {"made": 1}]


async def test_an_attribute_beside_the_state_is_gone_after_the_action_that_failed(
    test: Setup[App],
) -> None:
    """Before, it stayed, and every later action that changed something failed too."""
    keeper = test.client.keeper.get_or_create("k")
    assert await keeper.look() == [7, {"made": 1}]
    with pytest.raises(InternalError):
        await keeper.stray()
    await keeper.keep("dict")
    assert await keeper.look() == [8, {"a": 1}]


@pytest.mark.parametrize(
    ("typed", "fault"),
    [(True, "totals: it cannot be kept: a Counter"), (False, "value: it cannot be kept: a tuple")],
    ids=["typed", "untyped"],
)
async def test_arguments_of_a_schedule_come_back_as_they_were_given(
    test: Setup[App], typed: bool, fault: str
) -> None:
    """Row B9."""
    with pytest.raises(UserError, match=fault):
        await test.client.keeper.get_or_create("k").plan(typed)
