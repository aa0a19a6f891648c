"""Actors leave memory when nobody needs them, and come back as they were."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from runtime_worlds import Probe, Tap, open_file, part, quiet, started

from rivet_ray import Actor, Registry, action, use
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore


@dataclass
class State:
    count: int = 0
    starts: int = 0
    stops: int = 0


class Sleeper(Actor[State]):
    def on_start(self) -> None:
        self.state.starts += 1
        self.go = asyncio.Event()
        self.stopping = asyncio.Event()

    def on_stop(self) -> None:
        self.state.stops += 1

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    def seen(self) -> tuple[int, int, int]:
        return (self.state.count, self.state.starts, self.state.stops)

    @action
    def open(self) -> None:
        self.go.set()

    @action
    async def run(self) -> None:
        await self.go.wait()

    @action
    def background(self) -> None:
        self.wait_until(self._background())

    async def _background(self) -> None:
        await self.go.wait()
        self.state.count += 10

    @action
    def awake(self) -> None:
        self.awake_until_open = asyncio.create_task(self._awake())

    async def _awake(self) -> None:
        with self.keep_awake():
            await self.go.wait()

    @action
    def now(self) -> int:
        self.sleep()
        self.state.count += 1
        return self.state.count

    @action
    def wake_later(self, delay: float) -> None:
        self.schedule.after(delay, Sleeper.add)


class Quick(Sleeper):
    sleep_after = 2.0


class Awake(Sleeper):
    sleep_after = math.inf


class SlowStop(Sleeper):
    async def on_stop(self) -> None:
        self.state.stops += 1
        await self.go.wait()
        self.state.count += 100


class Broken(Sleeper):
    def on_stop(self) -> None:
        self.state.stops += 1
        raise ValueError("on_stop is broken")


class App(Registry):
    sleeper = use(Sleeper)
    quick = use(Quick)
    awake = use(Awake)
    slow_stop = use(SlowStop)
    broken = use(Broken)


@pytest.fixture(params=["memory", "file"])
async def test(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setup[App]]:
    store = MemoryStore() if request.param == "memory" else await open_file(tmp_path)
    async with setup_test(App, store=store, settings=HostSettings(stop_grace=0.05)) as test:
        yield test
    await store.close()


async def asleep(test: Setup[App], handle: Any) -> bool:
    await quiet(test)
    instance = test.backend.host.running(await handle.resolve())
    return instance is None


# --- When ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "after"), [("sleeper", 30), ("quick", 2)])
async def test_falls_asleep_when_idle(test: Setup[App], name: str, after: float) -> None:
    handle = getattr(test.client, name).get_or_create("k")
    await handle.add()
    await test.clock.advance(after - 0.1)
    assert not await asleep(test, handle)
    await handle.add()
    await test.clock.advance(after - 0.1)
    assert not await asleep(test, handle)
    await test.clock.advance(after)
    assert await asleep(test, handle)
    assert await handle.seen() == (2, 2, 1)


async def test_hosts_own_default() -> None:
    async with setup_test(App, settings=HostSettings(sleep_after=5.0)) as test:
        handle = test.client.sleeper.get_or_create("k")
        await handle.add()
        await test.clock.advance(5.1)
        assert await asleep(test, handle)


async def test_never_where_it_says_so(test: Setup[App]) -> None:
    handle = test.client.awake.get_or_create("k")
    await handle.add()
    await test.clock.advance(1_000_000)
    assert not await asleep(test, handle)


@pytest.mark.parametrize("name", ["run", "background", "awake"])
async def test_not_while_something_keeps_it(test: Setup[App], name: str) -> None:
    handle = test.client.quick.get_or_create("k")
    await started(test, handle)
    keeping = asyncio.create_task(getattr(handle, name)())
    await quiet(test)
    await test.clock.advance(50)
    assert not await asleep(test, handle)
    await handle.open()
    await keeping
    await test.clock.advance(1.5)
    assert not await asleep(test, handle)
    await test.clock.advance(2)
    assert await asleep(test, handle)
    assert (await handle.seen())[0] == (10 if name == "background" else 0)


async def test_not_while_connected(test: Setup[App]) -> None:
    handle = test.client.quick.get_or_create("k")
    async with handle.connect():
        await test.clock.advance(100)
        assert not await asleep(test, handle)
    await quiet(test)
    await test.clock.advance(4)
    assert await asleep(test, handle)


async def test_not_while_a_write_is_under_way() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        handle = test.client.quick.get_or_create("k")
        await handle.add()
        store.hold()
        adding = asyncio.create_task(handle.add())
        await settle()
        await test.clock.advance(9)
        assert test.backend.host.resident == 1
        store.release()
        assert await adding == 2


# --- And back --------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["request", "connection", "alarm"])
async def test_wakes_with_its_state(test: Setup[App], by: str) -> None:
    handle = test.client.quick.get_or_create("k")
    await handle.add()
    if by == "alarm":
        await handle.wake_later(60_000)
    await test.clock.advance(5)
    assert await asleep(test, handle)
    if by == "request":
        assert await handle.add() == 2
    elif by == "connection":
        async with handle.connect() as conn:
            assert await conn.actor.add() == 2
    else:
        await test.clock.advance(55)
        for _ in range(3):
            await quiet(test)
            await test.clock.advance(0)
        assert not await asleep(test, handle)
    assert await handle.seen() == (2, 2, 1)


async def test_sleep_on_request(test: Setup[App]) -> None:
    handle = test.client.awake.get_or_create("k")
    assert await handle.now() == 1
    await test.clock.advance(0.1)
    assert await asleep(test, handle)
    assert await handle.seen() == (1, 2, 1)


async def test_sleep_on_request_waits_for_who_runs_and_is_connected(test: Setup[App]) -> None:
    handle = test.client.awake.get_or_create("k")
    await started(test, handle)
    running = asyncio.create_task(handle.run())
    async with handle.connect():
        await handle.now()
        await test.clock.advance(20)
        assert not await asleep(test, handle)
    await handle.open()
    await running
    await test.clock.advance(20)
    assert await asleep(test, handle)


@pytest.mark.parametrize("move", ["restart", "sleep"])
async def test_on_stop_runs_and_what_it_changes_is_saved(test: Setup[App], move: str) -> None:
    handle = test.client.sleeper.get_or_create("k")
    await handle.add()
    await (test.restart() if move == "restart" else test.clock.advance(31))
    await quiet(test)
    await test.crash()
    assert await test.client.sleeper.get_or_create("k").seen() == (1, 2, 1)


async def test_broken_on_stop_keeps_nobody_from_leaving(test: Setup[App]) -> None:
    handle = test.client.broken.get_or_create("k")
    await handle.add()
    await test.clock.advance(31)
    assert await handle.seen() == (1, 2, 1)


async def test_call_while_it_stops_is_served_by_the_next_instance() -> None:
    async with setup_test(App) as test:
        handle = test.client.slow_stop.get_or_create("k")
        await handle.add()
        instance = test.backend.host.running(await handle.resolve())
        assert instance is not None
        await test.clock.advance(31)
        calls = [asyncio.create_task(handle.add()) for _ in range(3)]
        await settle()
        assert not any(call.done() for call in calls)
        instance.actor.go.set()
        await settle()
        assert [await call for call in calls] == [102, 103, 104]
        assert await handle.seen() == (104, 2, 1)
        test.backend.host.running(await handle.resolve()).actor.go.set()  # type: ignore[union-attr]


async def test_who_comes_in_the_very_tick_of_falling_asleep_is_served() -> None:
    """No call and no connection ends up on an instance that has left memory."""
    async with setup_test(App) as test:
        handle = test.client.quick.get_or_create("k")
        actor, tap = await started(test, handle), Tap(test)
        instance = test.backend.host.running(actor)
        assert instance is not None
        host, sleep = test.backend.host, test.backend.host.sleep

        def sleep_and_be_called(leaving: Any) -> None:
            sleep(leaving)
            tap.call(actor, "add")
            tap._session.send(attach)

        from rivet_ray.protocol.caller import Caller
        from rivet_ray.protocol.port import Attach

        attach = Attach(99, actor, "c1", "token", Caller())
        host.sleep = sleep_and_be_called  # type: ignore[method-assign]
        await test.clock.advance(5)
        host.sleep = sleep  # type: ignore[method-assign]
        assert "attached" in tap.seen()
        assert 1 in tap.seen()
        current = host.running(actor)
        connected = current is not None and current.connections.get("c1") is not None
        told = any(isinstance(item, tuple) and item[0] == "close" for item in tap.seen())
        assert connected or told, "the connection hangs on an instance that has left memory"
        tap.detach("c1")


async def test_restart_while_an_action_runs_saves_what_it_did() -> None:
    async with setup_test(App, settings=HostSettings(stop_grace=5)) as test:
        handle = test.client.sleeper.get_or_create("k")
        actor = await started(test, handle)
        running = asyncio.create_task(handle.run())
        await settle()
        instance = test.backend.host.running(actor)
        assert instance is not None
        asyncio.get_running_loop().call_later(0.01, instance.actor.go.set)
        await test.restart()
        assert part(test, actor, "state/stops") == 1
        running.cancel()
