"""Faults that the tests beside this one found, each by itself and at its smallest."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rivet_ray import Actor, Registry, action, use
from rivet_ray.errors import Outcome, RivetError
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import setup_test


@dataclass
class State:
    count: int = 0
    items: list[str] = field(default_factory=list[str])


class Thing(Actor[State]):
    public = True
    anonymous_keys = True

    @action
    def increment(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    def items(self) -> list[str]:
        return self.state.items

    @action
    def end(self) -> None:
        self.destroy()

    @action
    def fire(self, token: str) -> None:
        self.state.items.append(token)

    @action
    async def fire_and_wait(self) -> None:
        self.state.items.append("waits")
        await asyncio.Event().wait()

    @action(exclusive=True)
    async def alone(self) -> None:
        self.state.items.append("alone")
        # Not at once, so that others wait for this action when its change is saved.
        for _ in range(20):
            await asyncio.sleep(0)
        await self.save()
        await asyncio.Event().wait()

    @action
    async def leave_what_cannot_be_saved(self) -> str:
        await asyncio.sleep(0)
        self.state.items.append(object())  # type: ignore[arg-type]
        return "done"

    @action
    async def schedule_and_leave_what_cannot_be_saved(self) -> None:
        await asyncio.sleep(0)
        self.schedule.after(1000, Thing.fire, "undone")
        self.state.items.append(object())  # type: ignore[arg-type]

    @action
    def plan(self, action: str, seconds: float, *arguments: str) -> None:
        self.schedule.after(timedelta(seconds=seconds), action, *arguments)

    @action
    def planned(self) -> list[str]:
        return [entry.action for entry in self.schedule.list()]


class App(Registry):
    thing = use(Thing)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "rivet_ray")


async def told(call: Any) -> Any:
    """What a call was told: its answer, or code and outcome."""
    try:
        return await call
    except RivetError as error:
        return error.code, error.outcome


async def test_resolve_after_destroy_gives_the_new_actor() -> None:
    """C7: the id of a destroyed actor is not given any more."""
    async with setup_test(App) as test:
        thing = test.client.thing
        first = await thing.get_or_create("k").resolve()
        await thing.get_or_create("k").end()
        assert await told(thing.get("k").resolve()) == ("actor_not_found", Outcome.NOT_STARTED)
        assert await thing.get_or_create("k").resolve() != first


async def test_many_calls_at_once_after_destroy(tmp_path: Path) -> None:
    """C7: get_or_create makes the new actor for all who call, not for the first of them."""
    async with setup_test(App, store=f"file://{tmp_path}") as test:
        thing = test.client.thing
        await thing.get_or_create("k").increment()
        await thing.get_or_create("k").end()
        calls = [told(thing.get_or_create("k").increment()) for _ in range(8)]
        answers = await asyncio.gather(*calls)
        assert sorted(map(str, answers)) == [str(number) for number in range(1, 9)]


async def test_a_long_scheduled_action_does_not_hold_up_the_next() -> None:
    """C6: an entry runs when it is due, though one before it still runs."""
    async with setup_test(App, settings=HostSettings(stop_grace=0.1)) as test:
        thing = test.client.thing.get_or_create("k")
        await thing.plan("fire_and_wait", 1)
        await thing.plan("fire", 2, "in time")
        await test.clock.advance(10)
        in_time = await thing.items()
        await test.crash()
        assert in_time == ["waits", "in time"]


async def test_a_key_whose_effect_was_undone_tells_the_same_again() -> None:
    """C4: the first caller was told of an error; who repeats the key is not told of success."""
    async with setup_test(App) as test:
        thing = test.client.thing.get_or_create("k")
        once = thing.with_options(idempotency_key="once")
        first = await told(once.leave_what_cannot_be_saved())
        assert await told(once.leave_what_cannot_be_saved()) == first
        assert first[0] == "internal_error"


async def test_a_key_whose_call_has_not_begun_runs_after_a_crash() -> None:
    """C4: it waited behind an exclusive action whose change was saved: nothing of it was."""
    async with setup_test(App) as test:
        thing = test.client.thing.get_or_create("k")
        before = asyncio.create_task(told(thing.alone()))
        waiting = asyncio.create_task(told(thing.with_options(idempotency_key="once").fire("once")))
        await test.clock.advance(0)
        await test.crash()
        for call in (before, waiting):
            call.cancel()
        await asyncio.gather(before, waiting, return_exceptions=True)
        thing = test.client.thing.get_or_create("k")
        assert await thing.items() == ["alone"]
        assert await told(thing.with_options(idempotency_key="once").fire("once")) is None
        assert await thing.items() == ["alone", "once"]


async def test_what_a_failed_action_scheduled_is_kept() -> None:
    """An action that fails keeps what it did, its schedule too; only the bad field is undone."""
    async with setup_test(App) as test:
        thing = test.client.thing.get_or_create("k")
        await told(thing.schedule_and_leave_what_cannot_be_saved())
        assert await thing.planned() == ["fire"]
        await test.clock.advance(2)
        assert await thing.items() == ["undone"]


async def test_a_scheduled_action_whose_effect_was_undone_is_tried_again() -> None:
    """C6: an entry is removed together with its effect, not without it."""
    async with setup_test(App) as test:
        thing = test.client.thing.get_or_create("k")
        await thing.plan("leave_what_cannot_be_saved", 1)
        await test.clock.advance(1.5)
        assert await thing.planned() == ["leave_what_cannot_be_saved"]


async def test_a_time_beyond_all_calendars_is_refused_at_once() -> None:
    """A delay that `list` cannot show is refused, or shown: it does not break `list`."""
    async with setup_test(App) as test:
        thing = test.client.thing.get_or_create("k")
        await told(thing.plan("fire", 1e12, "far"))
        await thing.planned()


async def test_a_crash_ends_the_calls_under_way() -> None:
    """C8: who waits for a host that is lost is told, and that the outcome is unknown."""
    async with setup_test(App) as test:
        call = asyncio.create_task(told(test.client.thing.get_or_create("k").fire_and_wait()))
        await test.clock.advance(0)
        await test.crash()
        async with asyncio.timeout(3):
            answer = await call
        assert answer[1] is Outcome.UNKNOWN
