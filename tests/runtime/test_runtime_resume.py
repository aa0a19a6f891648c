"""A gateway takes its connections up again after a session or a host was lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime_worlds import Tap, part, parts, started

from rivet_ray import Actor, Registry, action, use
from rivet_ray.protocol.port import Deliver
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle


@dataclass
class State:
    hooks: list[str] = field(default_factory=list[str])


@dataclass
class Member:
    name: str = "new"


class Room(Actor[State, Member]):
    def on_connect(self, conn: Any) -> None:
        self.state.hooks.append("connect")

    def on_disconnect(self, conn: Any) -> None:
        self.state.hooks.append("disconnect")

    @action
    def rename(self, name: str) -> None:
        self.conn.state.name = name

    @action
    def whoami(self) -> str:
        return self.conn.state.name

    @action
    def shout(self, text: str) -> None:
        self.broadcast("said", text)


class App(Registry):
    room = use(Room)


async def lose(test: Setup[App], tap: Tap, how: str) -> Tap:
    """The session ends, or the host is killed; the gateway opens another one."""
    if how == "crash":
        await test.crash()
        await test.backend.start()
    else:
        tap.close()
    return Tap(test)


def seen_by(tap: Tap) -> int:
    return max((item.sequence for item in tap.messages if isinstance(item, Deliver)), default=0)


@pytest.mark.parametrize("how", ["session", "crash"])
async def test_it_goes_on_with_its_state_and_subscriptions_without_hooks(how: str) -> None:
    async with setup_test(App) as test:
        actor, tap = await started(test, test.client.room.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1", "said")
        tap.call(actor, "rename", "ann", connection="c1")
        tap.call(actor, "shout", "one", connection="c1")
        await settle()
        assert ("said", "one") in tap.seen()
        again = await lose(test, tap, how)
        assert again.answer(await again.resume(actor, "c1", "said", seen=seen_by(tap)))
        called = again.call(actor, "whoami", connection="c1")
        again.call(actor, "shout", "two", connection="c1")
        await settle()
        assert again.output(called) == "ann"
        assert again.seen() == ["attached", "ann", ("said", "two"), None]
        await test.clock.advance(60)
        assert part(test, actor, "state/hooks") == ["connect"]
        again.detach("c1")
        await settle()
        assert part(test, actor, "state/hooks") == ["connect", "disconnect"]
        assert parts(test, actor, "conn/") == []


async def test_events_that_went_with_their_host_are_told_by_a_close() -> None:
    """Promise C5: a gap is filled or said."""
    async with setup_test(App) as test:
        actor, tap = await started(test, test.client.room.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1", "said")
        tap.call(actor, "shout", "one", connection="c1")
        tap.call(actor, "rename", "ann", connection="c1")
        await settle()
        again = await lose(test, tap, "crash")
        await again.resume(actor, "c1", "said", seen=0)
        assert again.seen() == ["attached", ("close", 1012, "resync")]


async def test_whoever_listens_to_nothing_misses_nothing() -> None:
    async with setup_test(App) as test:
        actor, tap = await started(test, test.client.room.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1")
        tap.call(actor, "shout", "one", connection="c1")
        await settle()
        again = await lose(test, tap, "session")
        await again.resume(actor, "c1")
        assert again.seen() == ["attached"]


async def test_another_token_and_an_ended_connection_are_refused() -> None:
    async with setup_test(App) as test:
        actor, tap = await started(test, test.client.room.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1")
        thief = Tap(test)
        await thief.resume(actor, "c1", token="other")
        assert thief.seen() == ["conn_not_found"]
        called = tap.call(actor, "whoami", connection="c1")
        await settle()
        assert tap.output(called) == "new", "a stolen attempt must not cost the owner"
        again = await lose(test, tap, "session")
        await test.clock.advance(31)
        await again.resume(actor, "c1")
        assert again.seen() == ["conn_not_found"]
        assert part(test, actor, "state/hooks") == ["connect", "disconnect"]


async def test_a_new_session_takes_it_from_one_that_is_not_known_to_be_lost() -> None:
    async with setup_test(App) as test:
        actor, old = await started(test, test.client.room.get_or_create("k")), Tap(test)
        await old.attach(actor, "c1", "said")
        new = Tap(test)
        await new.resume(actor, "c1", "said")
        new.call(actor, "shout", "hello", connection="c1")
        await settle()
        assert ("said", "hello") in new.seen()
        assert ("said", "hello") not in old.seen()
        old.close()
        await test.clock.advance(60)
        assert part(test, actor, "state/hooks") == ["connect"]
        new.detach("c1")
        await settle()
