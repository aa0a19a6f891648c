"""Destroy is final and takes everything with it (C7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from runtime_worlds import Probe, Tap, open_file, parts, quiet, started

from rivet_ray import Actor, ActorNotFound, Event, Outcome, Registry, action, use
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore


@dataclass
class State:
    count: int = 0


class Mortal(Actor[State]):
    anonymous_keys = True

    last_words = Event[str]()

    def on_start(self) -> None:
        self.go = asyncio.Event()

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    def identity(self) -> str:
        return self.id

    @action
    def open(self) -> None:
        self.go.set()

    @action
    def end(self) -> str:
        self.state.count += 1
        self.broadcast(Mortal.last_words, "farewell")
        self.destroy()
        return "gone"

    @action
    async def run(self) -> None:
        self.state.count += 1
        await asyncio.Event().wait()

    @action
    async def wait_and_end(self) -> str:
        await self.go.wait()
        self.destroy()
        return "gone"

    @action
    def end_later(self, delay: float) -> None:
        self.schedule.after(delay, Mortal.end)

    @action
    def ring(self) -> None:
        self.schedule.after(5_000, Mortal.add)


class Stillborn(Actor[State]):
    def on_start(self) -> None:
        self.destroy()

    @action
    def get(self) -> int:
        return self.state.count


class EndsInOnStop(Actor[State]):
    def on_stop(self) -> None:
        self.destroy()

    @action
    def get(self) -> int:
        return self.state.count


class App(Registry):
    ends_in_on_stop = use(EndsInOnStop)
    mortal = use(Mortal)
    stillborn = use(Stillborn)


@pytest.fixture(params=["memory", "file"])
async def test(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setup[App]]:
    store = MemoryStore() if request.param == "memory" else await open_file(tmp_path)
    async with setup_test(App, store=store, settings=HostSettings(stop_grace=0.05)) as test:
        yield test
    await store.close()


async def test_actor_is_gone_and_its_key_makes_a_new_one(test: Setup[App]) -> None:
    handle = test.client.mortal.get_or_create("k")
    first = await handle.resolve()
    await handle.add()
    assert await test.client.mortal.get_or_create("k").end() == "gone"
    with pytest.raises(ActorNotFound) as caught:
        await test.client.mortal.get("k").add()
    assert caught.value.outcome is Outcome.NOT_STARTED
    fresh = test.client.mortal.get_or_create("k")
    assert await fresh.add() == 1
    assert await fresh.identity() == f"{first}-2"
    await fresh.end()
    assert await (await test.client.mortal.create("k")).identity() == f"{first}-3"


async def test_key_of_a_destroyed_actor_resolves_to_a_new_one(test: Setup[App]) -> None:
    first = await test.client.mortal.get_or_create("k").resolve()
    await test.client.mortal.get_or_create("k").end()
    with pytest.raises(ActorNotFound):
        await test.client.mortal.get("k").resolve()
    assert await test.client.mortal.get_or_create("k").resolve() == f"{first}-2"


async def test_connection_to_the_key_of_a_destroyed_actor_makes_a_new_one(
    test: Setup[App],
) -> None:
    await test.client.mortal.get_or_create("k").add()
    await test.client.mortal.get_or_create("k").end()
    async with test.client.mortal.get_or_create("k").connect() as conn:
        assert await conn.actor.add() == 1


async def test_handle_by_id_means_the_destroyed_actor_for_ever(test: Setup[App]) -> None:
    handle = test.client.mortal.get_or_create("k")
    await handle.resolve()
    await handle.end()
    await test.client.mortal.get_or_create("k").add()
    for stale in (handle, test.client.mortal.get_with_id(await handle.resolve())):
        with pytest.raises(ActorNotFound):
            await stale.add()
    with pytest.raises(ActorNotFound):
        async with handle.connect():
            pass


@pytest.mark.parametrize("move", ["restart", "crash"])
async def test_it_stays_gone(test: Setup[App], move: str) -> None:
    actor = await test.client.mortal.get_or_create("k").resolve()
    await test.client.mortal.get_or_create("k").end()
    await getattr(test, move)()
    with pytest.raises(ActorNotFound):
        await test.client.mortal.get("k").add()
    with pytest.raises(ActorNotFound):
        await test.client.mortal.get_with_id(actor).add()


async def test_schedules_go_along(test: Setup[App]) -> None:
    await test.client.mortal.get_or_create("k").ring()
    await test.client.mortal.get_or_create("k").end()
    assert await test.store.next_alarm() is None
    await test.clock.advance(10)
    await quiet(test)
    assert test.backend.host.resident == 0


async def test_scheduled_action_may_destroy(test: Setup[App]) -> None:
    await test.client.mortal.get_or_create("k").end_later(1_000)
    for _ in range(4):
        await test.clock.advance(1)
        await quiet(test)
    with pytest.raises(ActorNotFound):
        await test.client.mortal.get("k").add()
    assert await test.store.next_alarm() is None


async def test_reply_events_and_close_leave_when_the_store_has_confirmed() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.mortal.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1", "last_words")
        await started(test, test.client.mortal.get_or_create("k"))
        tap.messages.clear()
        store.hold()
        call = tap.call(actor, "end")
        await settle()
        assert tap.messages == []
        left_before: list[bool] = []
        store.after = lambda _: left_before.append(bool(tap.messages))
        store.release()
        await settle()
        assert tap.output(call) == "gone"
        assert not any(left_before), "it left before the store confirmed the destroy"
        assert [item for item in tap.seen() if item[0] == "close"] == [("close", 1000, "destroyed")]
        assert ("last_words", "farewell") in tap.seen()
        assert parts(test, actor) == []
        assert store.commits[-1].destroy


async def test_who_runs_and_who_waits_is_told() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.mortal.get_or_create("k")), Tap(test)
        running = tap.call(actor, "run")
        await settle()
        store.hold()
        ending = tap.call(actor, "end")
        await settle()
        late = tap.call(actor, "add")
        await settle()
        store.release()
        await settle()
        assert tap.output(ending) == "gone"
        told = tap.error(running)
        assert (told.code, told.outcome) in [
            ("actor_stopped", Outcome.UNKNOWN),
            ("actor_stopped", Outcome.TOOK_EFFECT),
        ]
        refused = tap.error(late)
        assert (refused.code, refused.outcome) == ("actor_not_found", Outcome.NOT_STARTED)


async def test_call_that_meets_a_destroy_reaches_the_new_actor(test: Setup[App]) -> None:
    handle = test.client.mortal.get_or_create("k")
    await handle.add()
    ended, added = await asyncio.gather(handle.end(), handle.add())
    assert (ended, added) in [("gone", 1), ("gone", 2)]
    if added == 2:
        with pytest.raises(ActorNotFound):
            await test.client.mortal.get("k").add()


async def test_destroy_that_the_store_loses_is_unknown_and_changes_nothing() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.mortal.get_or_create("k")), Tap(test)
        store.down = True
        call = tap.call(actor, "end")
        await test.clock.advance(30)
        assert tap.error(call).outcome is Outcome.UNKNOWN
        store.down = False
        assert await test.client.mortal.get("k").add() == 1


async def test_destroy_whose_answer_is_lost_happens_once() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.mortal.get_or_create("k")), Tap(test)
        store.failures = ["lost"]
        call = tap.call(actor, "end")
        await test.clock.advance(1)
        assert tap.output(call) == "gone"


async def test_destroy_while_the_host_stops_is_kept() -> None:
    """The action said that it destroyed the actor, and its caller may have heard so."""
    async with setup_test(App, settings=HostSettings(stop_grace=5)) as test:
        actor, tap = await started(test, test.client.mortal.get_or_create("k")), Tap(test)
        call = tap.call(actor, "wait_and_end")
        await settle()
        instance = test.backend.host.running(actor)
        assert instance is not None
        asyncio.get_running_loop().call_later(0.01, instance.actor.go.set)
        await test.restart()
        if "gone" in tap.seen():
            assert tap.output(call) == "gone"
            with pytest.raises(ActorNotFound):
                await test.client.mortal.get("k").add()


async def test_destroy_in_on_start_is_not_forgotten() -> None:
    async with setup_test(App) as test:
        with pytest.raises(Exception):  # noqa: B017, PT011
            await asyncio.wait_for(test.client.stillborn.get_or_create("k").get(), 2)
        with pytest.raises(ActorNotFound):
            await test.client.stillborn.get("k").get()


@pytest.mark.parametrize("move", ["restart", "sleep"])
async def test_destroy_in_on_stop_is_not_forgotten(move: str) -> None:
    async with setup_test(App) as test:
        await test.client.ends_in_on_stop.get_or_create("k").get()
        await (test.restart() if move == "restart" else test.clock.advance(31))
        with pytest.raises(ActorNotFound):
            await test.client.ends_in_on_stop.get("k").get()


async def test_keys_and_connections_go_along() -> None:
    async with setup_test(App) as test:
        actor, tap = await started(test, test.client.mortal.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1")
        keyed = tap.call(actor, "add", key="once")
        await settle()
        assert tap.output(keyed) == 1
        await test.client.mortal.get_or_create("k").end()
        store: Any = test.store
        assert actor not in store._living
        fresh = await started(test, test.client.mortal.get_or_create("k"))
        assert parts(test, fresh, "conn/") == parts(test, fresh, "key/") == []


async def test_owner_that_slept_through_destroy_and_new_creation_is_refused() -> None:
    """Reliability 11: the write of a paused owner reaches neither actor."""
    store = MemoryStore()
    async with setup_test(App, store=store) as paused, setup_test(App, store=store) as other:
        actor, tap = await started(paused, paused.client.mortal.get_or_create("k")), Tap(paused)
        assert await other.client.mortal.get_or_create("k").end() == "gone"
        await settle()
        assert await other.client.mortal.get_or_create("k").add() == 1
        call = tap.call(actor, "add")
        await settle()
        assert tap.error(call).outcome is Outcome.UNKNOWN
        assert paused.backend.host.running(actor) is None
        assert await other.client.mortal.get_or_create("k").add() == 2
