"""What older or newer code has scheduled, and this code does not have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime_worlds import quiet

from rivet_ray import Actor, Registry, action, use
from rivet_ray.testing import ManualClock, Setup, setup_test
from rivet_ray_drivers.memory import MemoryStore


@dataclass
class Done:
    done: list[Any] = field(default_factory=list)


class Base(Actor[Done]):
    @action
    def plan(self, seconds: float, name: str, value: Any) -> str:
        return self.schedule.after(1000 * seconds, name, value)

    @action
    def look(self) -> list[Any]:
        return self.state.done

    @action
    def entries(self) -> list[tuple[str, bool, int, str | None]]:
        return [(one.action, one.failed, one.attempt, one.error) for one in self.schedule.list()]

    @action
    def other(self, value: int) -> None:
        self.state.done.append(["other", value])

    @action
    def cancel_all(self) -> list[bool]:
        return [self.schedule.cancel(one.id) for one in self.schedule.list()]


class WithAction(Base):
    @action
    def remind(self, value: int) -> None:
        self.state.done.append(value)


class WithText(Base):
    @action
    def remind(self, value: str) -> None:
        self.state.done.append(value)


class WithoutApp(Registry):
    thing = use(Base)


class WithApp(Registry):
    thing = use(WithAction)


class TextApp(Registry):
    thing = use(WithText)


async def _until(test: Setup[Any], seconds: float) -> None:
    for _ in range(int(seconds)):
        await test.clock.advance(1)
    await quiet(test)


CASES = [
    (WithoutApp, "this code has no action 'remind'"),
    (TextApp, "its arguments do not fit this code: value: Expected `str`, got `int`"),
]


@pytest.mark.parametrize(("without", "why"), CASES, ids=["no action", "other parameters"])
@pytest.mark.parametrize("called", [True, False], ids=["called", "by its alarm"])
async def test_what_is_scheduled_waits_for_the_code_that_has_it(
    without: Any, why: str, called: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It used up its ten attempts in a few minutes, and a rollback did not bring it back."""
    store, clock = MemoryStore(), ManualClock()
    async with setup_test(WithApp, store=store, clock=clock) as test:
        await test.client.thing.get_or_create("k").plan(5, "remind", 7)
    async with setup_test(without, store=store, clock=clock) as test:
        thing: Any = test.client.thing.get_or_create("k")
        await thing.plan(5, "other", 1)
        await _until(test, 1500)
        assert await thing.look() == [["other", 1]]
        assert await thing.entries() == [("remind", True, 0, why)]
    assert caplog.text.count(f"scheduled remind cannot run: {why}; it is kept") == 1
    assert "<thing 'k' " in caplog.text
    async with setup_test(WithApp, store=store, clock=clock) as test:
        thing = test.client.thing.get_or_create("k")
        if called:
            await thing.look()
        await _until(test, 1 if called else 301)
        assert await thing.look() == [["other", 1], 7]
        assert await thing.entries() == []
        await _until(test, 1000)
        assert await thing.look() == [["other", 1], 7]  # once


async def test_it_can_be_cancelled_and_is_not_forgotten_for_newer_ones() -> None:
    store, clock = MemoryStore(), ManualClock()
    async with setup_test(WithApp, store=store, clock=clock) as test:
        thing: Any = test.client.thing.get_or_create("k")
        for value in range(120):
            await thing.plan(5, "remind", value)
    async with setup_test(WithoutApp, store=store, clock=clock) as test:
        thing = test.client.thing.get_or_create("k")
        await _until(test, 10)
        assert len(await thing.entries()) == 120
    async with setup_test(WithApp, store=store, clock=clock) as test:
        thing = test.client.thing.get_or_create("k")
        await thing.look()
        await _until(test, 1)
        assert sorted(await thing.look()) == list(range(120))
        await thing.plan(5, "remind", 1)
    async with setup_test(WithoutApp, store=store, clock=clock) as test:
        thing = test.client.thing.get_or_create("k")
        await _until(test, 10)
        assert await thing.cancel_all() == [True]
        assert await thing.entries() == []
