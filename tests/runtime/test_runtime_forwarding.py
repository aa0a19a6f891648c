"""What a client says to a gateway that does not hold its connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from rivet_ray import Actor, Registry, action, use
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import (
    Ask,
    Attach,
    Attached,
    Detach,
    Failed,
    Forward,
    Handed,
    Reply,
    Taken,
    ToGateway,
    Want,
)
from rivet_ray.runtime import connection as runtime_connection
from rivet_ray.testing import Setup, encoded, setup_test
from rivet_ray.testing.clock import settle


@dataclass
class State:
    count: int = 0


class Counter(Actor[State, None, str | None]):
    sleep_after = 3600.0

    @action
    def increment(self) -> int:
        self.state.count += 1
        return self.state.count


class App(Registry):
    counter = use(Counter)


ASK = Ask(7, "increment", values.EMPTY_ARRAY, "key")
WANT = Want("counted", True)


class Gateway:
    """The port, with nothing behind it that answers by itself."""

    def __init__(self, test: Setup[App]) -> None:
        self.messages: list[ToGateway] = []
        self.session = encoded(test.backend.host).open(self.messages.append)

    async def attach(self, actor: str, *, resume: bool = False) -> None:
        message = Attach(1, actor, "c1", "token", Caller(), resume)
        self.session.send(message)
        await settle()
        assert Attached(1, 0) in self.messages
        self.messages.clear()

    def forward(self, actor: str, said: Any = ASK, token: str = "token", call: int = 5) -> None:
        self.session.send(Forward(call, actor, "c1", token, said))

    def handed(self) -> Handed:
        (message,) = self.messages
        assert isinstance(message, Handed)
        return message

    def failure(self) -> tuple[int, str, str | None]:
        (message,) = self.messages
        assert isinstance(message, Failed)
        return message.call, message.failure.code, message.failure.outcome


@dataclass
class World:
    test: Setup[App]
    actor: str
    holder: Gateway
    other: Gateway


async def world_of(test: Setup[App]) -> World:
    actor = await test.client.counter.get_or_create("k").resolve()
    world = World(test, actor, Gateway(test), Gateway(test))
    await world.holder.attach(actor)
    return world


@pytest.mark.parametrize("said", [ASK, WANT])
async def test_it_is_handed_over_and_answered_when_it_was_taken(said: Any) -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        world.other.forward(world.actor, said)
        handed = world.holder.handed()
        assert (handed.connection, handed.said) == ("c1", said)
        assert world.other.messages == [], "not before it has been taken"
        world.holder.session.send(Taken(handed.number, True))
        assert world.other.messages == [Reply(5, None)]
        world.holder.session.send(Taken(handed.number, True))
        assert len(world.other.messages) == 1
        assert await test.client.counter.get("k").increment() == 1, "the host ran nothing itself"


async def test_the_order_of_one_gateway_is_kept() -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        for number in range(100):
            said = Ask(number, "increment", values.EMPTY_ARRAY)
            world.other.forward(world.actor, said, call=number)
        handed: list[Any] = world.holder.messages
        assert [message.said.id for message in handed] == list(range(100))
        for message in reversed(handed):
            world.holder.session.send(Taken(message.number, True))
        answered: list[Any] = world.other.messages
        assert [message.call for message in answered] == list(reversed(range(100)))


async def test_the_holder_may_forward_too() -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        world.holder.forward(world.actor)
        world.holder.session.send(Taken(world.holder.handed().number, True))
        assert world.holder.messages[1:] == [Reply(5, None)]


@pytest.mark.parametrize("token", ["", "tokem", "token ", "t\u00f6ken"])
async def test_a_wrong_token_reaches_nobody(token: str) -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        world.other.forward(world.actor, token=token)
        assert world.other.failure() == (5, "incorrect_conn_token", "not_started")
        assert world.holder.messages == []


async def test_a_connection_that_is_not_there() -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        world.holder.session.send(Detach("c1"))
        world.other.forward(world.actor)
        assert world.other.failure() == (5, "conn_not_found", "not_started")


async def test_an_actor_that_is_not_there() -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        world.other.forward("0123456789abcdef")
        await settle()
        assert world.other.failure() == (5, "actor_not_found", "not_started")


async def test_a_connection_that_left_while_it_was_handed_over() -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        world.other.forward(world.actor)
        world.holder.session.send(Taken(world.holder.handed().number, False))
        assert world.other.failure() == (5, "conn_not_found", "not_started")


async def test_a_holder_that_is_lost_before_it_says_what_it_did() -> None:
    """Whether it has begun the action nobody knows, and that is what is said (C8)."""
    async with setup_test(App) as test:
        world = await world_of(test)
        world.other.forward(world.actor)
        world.holder.session.close()
        assert world.other.failure() == (5, "connection_closed", "unknown")


async def test_it_waits_for_a_connection_that_comes_back() -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        world.holder.session.close()
        world.other.forward(world.actor)
        await test.clock.advance(runtime_connection.RESUME_PATIENCE - 0.1)
        assert world.other.messages == []
        back = Gateway(test)
        back.session.send(Attach(1, world.actor, "c1", "token", Caller(), True))
        await settle()
        handed = [message for message in back.messages if isinstance(message, Handed)]
        assert [message.said for message in handed] == [ASK]
        back.session.send(Taken(handed[0].number, True))
        assert world.other.messages == [Reply(5, None)]
        await test.clock.advance(10)
        assert len(world.other.messages) == 1


async def test_it_does_not_wait_for_ever() -> None:
    async with setup_test(App) as test:
        world = await world_of(test)
        world.holder.session.close()
        world.other.forward(world.actor)
        await test.clock.advance(runtime_connection.RESUME_PATIENCE + 0.1)
        assert world.other.failure() == (5, "conn_not_found", "not_started")


async def test_it_waits_while_the_host_comes_back() -> None:
    """The connection is in the store, and detached, until its gateway is here again."""
    async with setup_test(App) as test:
        world = await world_of(test)
        await test.crash()
        await test.backend.start()
        other, back = Gateway(test), Gateway(test)
        other.forward(world.actor)
        await settle()
        assert other.messages == []
        back.session.send(Attach(1, world.actor, "c1", "token", Caller(), True))
        await settle()
        (handed,) = [message for message in back.messages if isinstance(message, Handed)]
        back.session.send(Taken(handed.number, True))
        assert other.messages == [Reply(5, None)]


async def test_how_many_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_connection, "MAX_WAITING", 3)
    async with setup_test(App) as test:
        world = await world_of(test)
        world.holder.session.close()
        for number in range(4):
            world.other.forward(world.actor, call=number)
        assert world.other.failure() == (3, "overloaded", "not_started")
        await test.clock.advance(6)
        assert len(world.other.messages) == 4


async def test_a_connection_that_ends_meanwhile() -> None:
    """Nobody waits for the end of their patience where it is over already."""
    async with setup_test(App) as test:
        world = await world_of(test)
        world.holder.session.close()
        await test.clock.advance(runtime_connection.RESUME_WINDOW - 1.0)
        world.other.forward(world.actor)
        await test.clock.advance(1.5)
        assert world.other.failure() == (5, "conn_not_found", "not_started")
