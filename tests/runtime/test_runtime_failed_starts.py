"""A start that fails leaves nothing: no task, timer, client or connection (A7)."""

from __future__ import annotations

import asyncio
import gc
import logging
from dataclasses import dataclass
from typing import Any

import pytest
from runtime_worlds import Tap

from rivet_ray import Actor, Registry, action, use
from rivet_ray.errors import RivetError
from rivet_ray.runtime import HostSettings
from rivet_ray.runtime.instance import Instance
from rivet_ray.store import Commit
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle

MANY = 200


@dataclass
class State:
    count: int = 0


class Failing(Actor[State]):
    """Its database is away: it fails behind everything that a start may begin."""

    hang = False

    async def on_start(self) -> None:
        self.wait_until(self._poll())
        self.polling = asyncio.create_task(self._nested())
        self.schedule.after(1_000, "add")
        self.client(App)
        with self.keep_awake():
            if Failing.hang:
                await asyncio.Event().wait()
        raise ConnectionError("the database is away")

    async def _poll(self) -> None:
        await asyncio.Event().wait()

    async def _nested(self) -> None:
        await asyncio.create_task(self._poll())

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count


class App(Registry):
    failing = use(Failing)


def instances() -> int:
    gc.collect()
    return sum(isinstance(item, Instance) for item in gc.get_objects())


def left(test: Setup[App]) -> tuple[int, int, int]:
    return len(asyncio.all_tasks()), test.clock.pending, test.backend.host.resident


@pytest.mark.parametrize("how", ["call", "attach", "claim", "timeout", "cancelled"])
async def test_many_starts_that_fail_leave_nothing(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.disable()  # What is captured of it keeps tracebacks, and with them the actors.
    monkeypatch.setattr(Failing, "hang", how in ("timeout", "cancelled"))
    settings = HostSettings(start_timeout=1.0)
    async with setup_test(App, settings=settings) as test:
        actor = await test.client.failing.get_or_create("k").resolve()
        tap = Tap(test)
        session: Any = tap._session
        await settle()
        before, known = left(test), instances()
        for number in range(MANY if how != "timeout" else 20):
            if how == "attach":
                await tap.attach(actor, f"c{number}")
            elif how == "claim":
                await tap.claim(actor, f"c{number}", 0)
            elif how == "cancelled":
                call = tap.call(actor, "add")
                await settle()
                tap.cancel(call)
                for task in tuple(test.backend.host._starting):
                    task.cancel()
            else:
                tap.call(actor, "add")
            await settle()
            if how == "timeout":
                await test.clock.advance(1.1)
        tap.messages.clear()
        await settle()
        tasks, timers, resident = left(test)
        assert (tasks, resident) == (before[0], 0)
        # Those of the host itself: its next alarm, its next deadline, one try of the waking.
        assert timers <= before[1] + 3
        test.backend.host.alarms.abandon()
        await test.clock.advance(100)  # The clock holds timers that were cancelled until then.
        assert instances() <= known + 1
        logging.disable(logging.NOTSET)
        assert not session._attaching
        assert not session._parked


async def test_a_client_whose_connections_are_refused_holds_nothing() -> None:
    async with setup_test(App) as test:
        calls: Any = test.backend.calls
        for _ in range(20):
            with pytest.raises(RivetError):
                async with test.client.failing.get_or_create("k").connect():
                    pass
        assert not calls._attaching
        assert not calls._sinks
        assert not calls._proofs
        assert not calls._answers


async def test_an_alarm_whose_actor_cannot_start_is_tried_every_five_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not more often the longer it lasts: each failure began two tries."""
    starts: list[float] = []
    async with setup_test(App, settings=HostSettings(start_timeout=1.0)) as test:
        actor = await test.client.failing.get_or_create("k").resolve()
        claim = await test.store.claim(actor, "before")
        assert claim is not None
        due = test.clock.now() + 1
        await test.store.commit(
            [
                Commit(
                    actor,
                    claim.fence,
                    claim.sequence + 1,
                    alarm=due,
                    type=claim.record.type,
                )
            ]
        )
        activate = test.backend.host._activate

        async def counted(actor: str) -> Instance:
            starts.append(test.clock.monotonic())
            return await activate(actor)

        monkeypatch.setattr(test.backend.host, "_activate", counted)
        test.backend.host.alarms._look()  # type: ignore[union-attr]
        await test.clock.advance(301)
        assert 55 <= len(starts) <= 62
        assert test.clock.pending <= 4
