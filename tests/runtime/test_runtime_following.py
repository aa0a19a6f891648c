"""A client of a host that goes away and comes back, in the same place or another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from rivet_ray import Actor, Registry, action, use
from rivet_ray.errors import ActionTimedOut, ActorStopped, Outcome, RivetError
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import Attached, Deliver, HostSession, ToGateway
from rivet_ray.runtime import FollowingClient, HostSettings
from rivet_ray.runtime.following import OnLost
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle


@dataclass
class State:
    count: int = 0
    hooks: list[str] = field(default_factory=list[str])


class Counter(Actor[State, None, str | None]):
    anonymous_keys = True

    def on_connect(self, conn: Any) -> None:
        if conn.params is not None:  # not of a plain call
            self.state.hooks.append("connect")

    def on_disconnect(self, conn: Any) -> None:
        if conn.params is not None:  # not of a plain call
            self.state.hooks.append("disconnect")

    @action
    def increment(self) -> int:
        self.state.count += 1
        self.broadcast("counted", self.state.count)
        return self.state.count

    @action
    def hooks(self) -> list[str]:
        return self.state.hooks


class App(Registry):
    counter = use(Counter)


WHO = Caller(values.encode("ann"))


class Road:
    """The way to a host, which can be closed; like a link, it loses what is under way."""

    def __init__(self, test: Setup[App]) -> None:
        self.test = test
        self.open = True
        self.deaf = False
        """Nothing comes back any more, though the host still gets what is sent."""
        self.tries = 0
        self._sessions: list[tuple[HostSession, OnLost]] = []

    async def connect(self, lost: OnLost) -> Hop:
        self.tries += 1
        if not self.open:
            raise ConnectionRefusedError("closed")
        return Hop(self, lost)

    def cut(self) -> None:
        sessions, self._sessions = self._sessions, []
        for session, lost in sessions:
            session.close()
            lost(None)

    async def crash(self) -> None:
        self.deaf = self.open = False
        sessions, self._sessions = self._sessions, []
        await self.test.crash()
        for _, lost in sessions:
            lost(None)

    async def restart(self) -> None:
        await self.test.backend.start()
        self.open = True


class Hop:
    """See `rivet_ray.protocol.port.Hosting`."""

    def __init__(self, road: Road, lost: OnLost) -> None:
        self._road = road
        self._lost = lost

    def open(self, receive: Callable[[ToGateway], None]) -> HostSession:
        session = self._road.test.backend.host.open(
            lambda message: None if self._road.deaf else receive(message)
        )
        self._road._sessions.append((session, self._lost))
        return session


class Listener:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def attached(self, message: Attached) -> None:
        self.seen.append("attached")

    def deliver(self, message: Deliver) -> None:
        self.seen.append(values.decode(message.arguments)[0])

    def closed(self, code: int, reason: str) -> None:
        self.seen.append((code, reason))


@dataclass
class World:
    test: Setup[App]
    road: Road
    client: FollowingClient
    actor: str

    def call(self, action: str = "increment", **options: Any) -> asyncio.Task[Any]:
        async def run() -> Any:
            output = await self.client.call(self.actor, action, values.encode([]), **options)
            return None if output is None else values.decode(output)

        return asyncio.ensure_future(run())

    async def advance(self, seconds: float) -> None:
        for _ in range(int(seconds * 20)):
            await self.test.clock.advance(0.05)


async def world_of(test: Setup[App]) -> World:
    actor = await test.client.counter.get_or_create("k").resolve()
    road = Road(test)
    return World(test, road, FollowingClient(road.connect, clock=test.clock), actor)


async def test_it_connects_with_the_first_call_and_once() -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        assert world.road.tries == 0
        calls = [world.call() for _ in range(10)]
        assert sorted(await asyncio.gather(*calls)) == list(range(1, 11))
        assert world.road.tries == 1
        world.client.close()


async def test_calls_wait_for_the_host_to_come_back() -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        assert await world.call() == 1
        await world.road.crash()
        calls = [world.call() for _ in range(50)]
        await world.advance(3)
        assert not any(call.done() for call in calls)
        await world.road.restart()
        await world.advance(2)
        assert sorted(await asyncio.gather(*calls)) == list(range(2, 52))
        world.client.close()


async def test_a_call_that_waits_too_long_did_not_start() -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        world.road.open = False
        call = world.call(timeout=2.0)
        await world.advance(1.9)
        assert not call.done()
        await world.advance(0.3)
        with pytest.raises(ActionTimedOut) as caught:
            await call
        assert caught.value.outcome is Outcome.NOT_STARTED
        await world.road.restart()
        await world.advance(2)
        assert await test.client.counter.get("k").increment() == 1
        tries = world.road.tries
        await world.advance(5)
        assert world.road.tries == tries, "nobody waits, so nothing is tried"
        world.client.close()


async def test_a_lost_answer_is_unknown_without_a_key_and_asked_again_with_one() -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        assert await world.call() == 1
        world.road.deaf = True
        plain, keyed = world.call(), world.call(key="once")
        await settle()
        await world.road.crash()
        with pytest.raises(ActorStopped) as caught:
            await plain
        assert caught.value.outcome is Outcome.UNKNOWN
        assert not keyed.done()
        await world.road.restart()
        await world.advance(2)
        assert await keyed == 3, "both took effect before the crash, and the key only once"
        assert await world.call() == 4
        world.client.close()


async def test_connections_stay_open_over_a_crash() -> None:
    async with setup_test(App) as test:
        world, listener = await world_of(test), Listener()
        await world.client.attach(world.actor, "c1", "token", WHO, listener)
        world.client.subscribe(world.actor, "c1", "counted", True)
        assert await world.call() == 1
        await world.road.crash()
        world.client.subscribe(world.actor, "c1", "other", True)
        answers: list[Any] = []
        world.client.start(
            world.actor, "increment", values.encode([]), answers.append, connection="c1"
        )
        await world.road.restart()
        await world.advance(2)
        assert len(answers) == 1
        assert await world.call("hooks") == ["connect"]
        assert listener.seen == ["attached", 1, 2]
        world.client.detach("c1", listener)
        await settle()
        assert await world.call("hooks") == ["connect", "disconnect"]
        world.client.close()


async def test_missed_events_come_once_to_each() -> None:
    """Of two connections over one session, one may be back before the other."""
    async with setup_test(App) as test:
        world, listeners = await world_of(test), [Listener(), Listener()]
        for number, listener in enumerate(listeners):
            await world.client.attach(world.actor, f"c{number}", "token", WHO, listener)
            world.client.subscribe(world.actor, f"c{number}", "counted", True)
        assert await world.call() == 1
        for count in (2, 4):
            world.road.open = False
            world.road.cut()
            assert await test.client.counter.get("k").increment() == count
            world.road.open = True
            await world.advance(1)
            assert await world.call() == count + 1
        for number, listener in enumerate(listeners):
            assert [item for item in listener.seen if item != "attached"] == [1, 2, 3, 4, 5]
            world.client.detach(f"c{number}", listener)
        world.client.close()


async def test_a_gap_is_told() -> None:
    async with setup_test(App, settings=HostSettings(replay_events=1)) as test:
        world, listener = await world_of(test), Listener()
        await world.client.attach(world.actor, "c1", "token", WHO, listener)
        world.client.subscribe(world.actor, "c1", "counted", True)
        assert await world.call() == 1
        world.road.open = False
        world.road.cut()
        assert await test.client.counter.get("k").increment() == 2
        assert await test.client.counter.get("k").increment() == 3
        world.road.open = True
        await world.advance(1)
        assert listener.seen[-1] == (1012, "resync")
        world.client.detach("c1", listener)
        world.client.close()


async def test_who_is_gone_too_long_is_told() -> None:
    async with setup_test(App) as test:
        world, listener = await world_of(test), Listener()
        await world.client.attach(world.actor, "c1", "token", WHO, listener)
        world.road.open = False
        world.road.cut()
        await world.advance(35)
        world.road.open = True
        await world.advance(2)
        assert listener.seen[-1] == (1013, "conn_not_found")
        world.client.detach("c1", listener)
        world.client.close()


async def test_an_attachment_whose_answer_was_lost_is_made_once() -> None:
    async with setup_test(App) as test:
        world, listener = await world_of(test), Listener()
        assert await world.call() == 1
        world.road.deaf = True
        attaching = asyncio.ensure_future(
            world.client.attach(world.actor, "c1", "token", WHO, listener)
        )
        await settle()
        world.road.deaf = False
        world.road.cut()
        await world.advance(1)
        await attaching
        assert await world.call("hooks") == ["connect"]
        world.client.detach("c1", listener)
        world.client.close()


async def test_an_attachment_waits_for_the_host() -> None:
    async with setup_test(App) as test:
        world, listener = await world_of(test), Listener()
        world.road.open = False
        attaching = asyncio.ensure_future(
            world.client.attach(world.actor, "c1", "token", WHO, listener)
        )
        await world.advance(2)
        assert not attaching.done()
        world.road.open = True
        await world.advance(2)
        await attaching
        assert listener.seen == ["attached"]
        world.client.detach("c1", listener)
        world.client.close()


@pytest.mark.parametrize("cut", [False, True], ids=["unreachable", "lost meanwhile"])
async def test_an_attachment_does_not_wait_for_ever(cut: bool) -> None:
    """Item 3 of issue 14: an unreachable host is told, and a later try begins anew."""
    async with setup_test(App) as test:
        world = await world_of(test)
        if cut:
            assert await world.call() == 1
            world.road.deaf = True
        else:
            world.road.open = False
        attaching = asyncio.ensure_future(
            world.client.attach(world.actor, "c1", "token", WHO, Listener())
        )
        await world.advance(30)
        if cut:
            world.road.open = False
            world.road.cut()
        await world.advance(29.5)
        assert not attaching.done()
        await world.advance(1)
        with pytest.raises(ActionTimedOut) as caught:
            await attaching
        assert caught.value.outcome is Outcome.NOT_STARTED
        assert not world.client.holds("c1")
        tries = world.road.tries
        await world.advance(5)
        assert world.road.tries == tries, "nobody waits, so nothing is tried"
        world.road.open, world.road.deaf = True, False
        listener = Listener()
        await world.client.attach(world.actor, "c2", "token", WHO, listener)
        assert listener.seen == ["attached"]
        world.client.close()


async def test_closing_answers_everybody() -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        world.road.open = False
        call = world.call()
        attaching = asyncio.ensure_future(
            world.client.attach(world.actor, "c1", "token", WHO, Listener())
        )
        await settle()
        world.client.close()
        for waiting in (call, attaching):
            with pytest.raises(RivetError) as caught:
                await waiting
            assert caught.value.outcome is Outcome.UNKNOWN
