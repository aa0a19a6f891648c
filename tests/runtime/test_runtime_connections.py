"""Connections over crashes: detached for 30 s, then `on_disconnect` once (architecture 1.6)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime_worlds import Probe, Tap, part, parts, started

from rivet_ray import Actor, Registry, action, use
from rivet_ray.protocol.port import Close, Subscribe
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle


@dataclass
class State:
    left: list[str] = field(default_factory=list[str])


@dataclass
class Member:
    name: str = "new"


class Room(Actor[State, Member, str | None]):
    def on_disconnect(self, conn: Any) -> None:
        if conn.params is not None:
            self.state.left.append(conn.state.name)

    @action
    def rename(self, name: str) -> None:
        self.conn.state.name = name

    @action
    def members(self) -> list[str]:
        return [conn.state.name for conn in self.conns if conn.params is not None]

    @action
    def greet(self) -> None:
        for conn in self.conns:
            conn.send("hello", conn.state.name)
        self.broadcast("all", "everybody")

    @action
    async def kick(self, name: str) -> None:
        for conn in self.conns:
            if conn.params is not None and conn.state.name == name:
                await conn.disconnect("kicked")


class SlowRoom(Room):
    async def on_disconnect(self, conn: Any) -> None:
        if conn.params is not None:
            await asyncio.sleep(0)
            self.state.left.append(conn.state.name)


class App(Registry):
    room = use(Room)
    slow_room = use(SlowRoom)


async def test_state_and_subscriptions_of_connections() -> None:
    async with setup_test(App) as test:
        actor, tap = await started(test, test.client.room.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1", "all", params="a")
        await tap.attach(actor, "c2", params="b")
        tap.call(actor, "rename", "ann", connection="c1")
        tap.call(actor, "greet")
        await settle()
        events = [item for item in tap.seen() if isinstance(item, tuple)]
        assert events == [("hello", "ann"), ("hello", "new"), ("all", "everybody")]
        tap.detach("c1")
        await settle()
        assert part(test, actor, "state/left") == ["ann"]
        assert parts(test, actor, "conn/") == ["conn/c2"]
        tap.detach("c2")


@pytest.mark.parametrize("name", ["room", "slow_room"])
async def test_restored_ones_are_detached_for_30_s_and_then_end_once(name: str) -> None:
    async with setup_test(App) as test:
        actor, tap = await started(test, getattr(test.client, name).get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1", params="a")
        tap.call(actor, "rename", "ann", connection="c1")
        await settle()
        await test.crash()
        room = getattr(test.client, name).get_or_create("k")
        assert await room.members() == ["ann"]
        await room.greet()
        await test.clock.advance(29)
        assert await room.members() == ["ann"]
        await test.clock.advance(1.5)
        assert part(test, actor, "state/left") == ["ann"]
        assert await room.members() == parts(test, actor, "conn/") == []
        await test.crash()
        await test.clock.advance(60)
        assert part(test, actor, "state/left") == ["ann"]


async def test_end_comes_to_a_sleeping_actor_too() -> None:
    async with setup_test(App, settings=HostSettings(sleep_after=5)) as test:
        actor, tap = await started(test, test.client.room.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1", params="a")
        await test.crash()
        await test.client.room.get_or_create("k").members()
        await test.clock.advance(10)
        assert test.backend.host.resident == 0
        await test.clock.advance(25)
        assert part(test, actor, "state/left") == ["new"]


@pytest.mark.parametrize("move", ["crash", "restart"])
async def test_connections_of_a_lost_host_leave_no_ghost(move: str) -> None:
    """Reliability 7: they end once. After a crash the window begins when the actor is used."""
    async with setup_test(App) as test:
        room = test.client.room.get_or_create("k")
        actor, tap = await started(test, room), Tap(test)
        await tap.attach(actor, "c1", params="a")
        await getattr(test, move)()
        if move == "crash":
            await test.client.room.get("k").members()
        await test.clock.advance(120)
        assert part(test, actor, "state/left") == ["new"]
        assert parts(test, actor, "conn/") == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", [1, 2])
async def test_effect_of_on_disconnect_commits_with_the_removal(point: int, when: str) -> None:
    """A crash at any commit of the end leaves both or neither, and it ends once."""
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.room.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1", params="a")
        first = len(store.batches)

        def crash(number: int) -> None:
            if number == first + point:
                test.backend.abandon()
                raise asyncio.CancelledError

        setattr(store, when, crash)
        tap.detach("c1")
        await settle()
        both = (part(test, actor, "state/left"), parts(test, actor, "conn/"))
        assert both in [([], ["conn/c1"]), (["new"], [])]
        store.before = store.after = None
        await test.crash()
        await test.client.room.get_or_create("k").members()
        await test.clock.advance(60)
        assert part(test, actor, "state/left") == ["new"]
        assert parts(test, actor, "conn/") == []


async def test_kicking_a_detached_one_ends_it() -> None:
    async with setup_test(App) as test:
        actor, tap = await started(test, test.client.room.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1", params="a")
        await test.crash()
        await test.client.room.get_or_create("k").kick("new")
        assert part(test, actor, "state/left") == ["new"]
        assert parts(test, actor, "conn/") == []


async def test_restored_one_that_no_longer_fits_does_not_stop_its_actor() -> None:
    """A new version of a class with other parameters still starts on the old snapshot."""
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.room.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1", params="a")
        test.backend.abandon()

    class NewRoom(Actor[State, None, int | None]):
        @action
        def left(self) -> list[str]:
            return self.state.left

    class NewApp(Registry):
        room = use(NewRoom)

    async with setup_test(NewApp, store=store) as test_of_new:
        assert await test_of_new.client.room.get_or_create("k").left() == []


async def test_a_connection_that_subscribes_to_too_much_is_closed() -> None:
    """E3: names of events are saved with the connection."""
    settings = HostSettings(max_subscriptions_size=3_000)
    async with setup_test(App, settings=settings) as test:
        actor, tap = await started(test, test.client.room.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1", "all", params="a")
        await tap.attach(actor, "c2", "all", params="b")
        for name in ("one", "x" * 4_000, "two"):
            tap._session.send(Subscribe("c1", name, True))
        await settle()
        assert Close("c1", 1008, "too_many_subscriptions") in tap.messages
        tap.call(actor, "greet")
        await settle()
        assert parts(test, actor, "conn/") == ["conn/c2"]
        assert test.backend.host.budget.refusals == {"subscriptions": 1}
