"""What a host holds for callers is counted in bytes, and refused beyond a bound (E2)."""

from __future__ import annotations

import asyncio

import pytest
from runtime_worlds import Probe, Tap, quiet, started

from rivet_ray import Actor, Outcome, Registry, action, use
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle

LARGE = "x" * 10_000


class Worker(Actor[None]):
    def on_start(self) -> None:
        self.go = asyncio.Event()

    @action
    async def wait(self, text: str) -> int:
        await self.go.wait()
        return len(text)

    @action(exclusive=True)
    async def alone(self, text: str) -> int:
        await self.go.wait()
        return len(text)

    @action
    def open(self) -> None:
        self.go.set()


class Slow(Worker):
    async def on_start(self) -> None:
        super().on_start()
        await asyncio.Event().wait()


class App(Registry):
    worker = use(Worker)
    slow = use(Slow)


SETTINGS = HostSettings(max_held_size_per_actor=35_000)


def refused(tap: Tap, call: int) -> None:
    error = tap.error(call)
    assert (error.code, error.outcome) == ("overloaded", Outcome.NOT_STARTED)
    assert "this actor: at most 35000 bytes" in error.message


@pytest.mark.parametrize("name", ["wait", "alone"])
async def test_actions_that_run_or_wait_for_their_turn(name: str) -> None:
    async with setup_test(App, settings=SETTINGS) as test:
        actor, tap = await started(test, test.client.worker.get_or_create("k")), Tap(test)
        other = await started(test, test.client.worker.get_or_create("other"))
        host = test.backend.host
        calls = [tap.call(actor, name, LARGE) for _ in range(4)]
        await quiet(test)
        refused(tap, calls[3])
        there = tap.call(other, name, LARGE)
        assert host.budget.held > 40_000
        assert host.budget.refusals == {"actor": 1}
        instance = host.running(actor)
        assert instance is not None
        instance.actor.go.set()
        await quiet(test)
        assert [tap.output(call) for call in calls[:3]] == [10_000] * 3
        tap.cancel(there)
        await quiet(test)
        assert host.budget.held == 0


async def test_names_of_actions_count() -> None:
    async with setup_test(App, settings=SETTINGS) as test:
        record = await test.client.slow.get_or_create("k").resolve()
        tap = Tap(test)
        calls = [tap.call(record, "n" * 10_000) for _ in range(4)]
        await settle()
        refused(tap, calls[3])


async def test_calls_that_wait_for_their_actor_to_start() -> None:
    async with setup_test(App, settings=SETTINGS) as test:
        record = await test.client.slow.get_or_create("k").resolve()
        tap, host = Tap(test), test.backend.host
        calls = [tap.call(record, "wait", LARGE) for _ in range(4)]
        await settle()
        refused(tap, calls[3])
        assert host.budget.held > 30_000
        await test.clock.advance(61)
        assert {tap.error(call).outcome for call in calls} == {Outcome.NOT_STARTED}
        assert host.budget.held == 0


async def test_a_store_that_hangs() -> None:
    """The calls that waited for their actor are counted no longer once they run."""
    store = Probe()
    async with setup_test(App, store=store, settings=SETTINGS) as test:
        actor, tap = await started(test, test.client.worker.get_or_create("k")), Tap(test)
        tap.call(actor, "open")
        await quiet(test)
        for _ in range(20):
            call = tap.call(actor, "wait", LARGE)
            await quiet(test)
            assert tap.output(call) == 10_000
        assert test.backend.host.budget.held == 0
