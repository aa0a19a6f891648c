"""One actor calls others: typed calls, errors, connections, and what becomes of those."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime_worlds import part, started

from rivet_ray import (
    Actor,
    ActorAlreadyExists,
    ActorNotFound,
    Event,
    Outcome,
    Registry,
    UserError,
    action,
    use,
)
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle


@dataclass
class Item:
    name: str
    amount: int


@dataclass
class StockState:
    amount: int = 10


class Stock(Actor[StockState, None, str | None]):
    left = Event[Item]()

    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: Any) -> None:
        raise AssertionError("on_auth ran for a call from inside")

    @action
    def take(self, item: Item) -> Item:
        if item.amount > self.state.amount:
            raise UserError("Not enough.", "empty", {"left": self.state.amount})
        self.state.amount -= item.amount
        left = Item(item.name, self.state.amount)
        self.broadcast(Stock.left, left)
        return left

    @action
    def crash(self) -> None:
        raise ValueError("the password is hunter2")

    @action
    def connected(self) -> int:
        return len([conn for conn in self.conns if conn.id != self.conn.id])

    @action
    def params_of_caller(self) -> str | None:
        return self.conn.params


@dataclass
class ShopState:
    seen: list[int] = field(default_factory=list[int])
    refused: list[str] = field(default_factory=list[str])
    orders: int = 0


class Shop(Actor[ShopState]):
    def on_start(self) -> None:
        self.open = asyncio.Event()
        self.conn_: Any = None

    @action
    async def order(self, amount: int) -> int:
        self.state.orders += 1
        left = await self.client(App).stock.get_or_create("s").take(Item("nail", amount))
        assert isinstance(left, Item)
        return left.amount

    @action
    async def order_or_code(self, amount: int) -> tuple[str, str, Any, str | None]:
        try:
            await self.order.local(amount)
        except UserError as error:
            outcome = None if error.outcome is None else error.outcome.value
            return (error.code, error.message, error.metadata, outcome)
        return ("", "", None, None)

    @action
    async def provoke(self) -> None:
        await self.client(App).stock.get_or_create("s").crash()

    @action
    async def create_twice(self) -> str:
        stock = await self.client(App).stock.create("new")
        try:
            await self.client(App).stock.create("new")
        except ActorAlreadyExists:
            return await stock.resolve()
        return "created twice"

    @action
    async def with_params(self) -> str | None:
        return await self.client(App).stock.get_or_create("s", params="p").params_of_caller()

    @action
    async def once(self, key: str, amount: int) -> int:
        stock = self.client(App).stock.get_or_create("s").with_options(idempotency_key=key)
        return (await stock.take(Item("nail", amount))).amount

    @action
    async def listen_briefly(self) -> list[int]:
        seen: list[int] = []
        async with self.client(App).stock.get_or_create("s").connect() as conn:
            conn.on(Stock.left, lambda item: seen.append(item.amount))
            await conn.actor.take(Item("nail", 1))
            await conn.actor.take(Item("nail", 1))
        return seen

    @action
    async def listen(self) -> None:
        self.conn_ = await self.client(App).stock.get_or_create("s").connect()
        self.conn_.on(Stock.left, self.noticed)

    def noticed(self, item: Item) -> None:
        self.state.seen.append(item.amount)

    @action
    async def listen_and_fail(self, how: str) -> None:
        """A handler that fails with its first event, and one that goes on listening."""

        def plain(item: Item) -> None:
            if how == "exit":
                sys.exit(3)
            raise asyncio.CancelledError

        async def later(item: Item) -> None:
            plain(item)

        self.conn_ = await self.client(App).stock.get_or_create("s").connect()
        self.conn_.on("error", self.refused)
        self.conn_.once(Stock.left, plain)
        self.conn_.once(Stock.left, later)
        self.conn_.on(Stock.left, self.noticed)

    def refused(self, error: Exception) -> None:
        self.state.refused.append(type(error).__name__)

    @action
    async def take_there(self) -> int:
        return (await self.conn_.actor.take(Item("nail", 1))).amount

    @action(readonly=True)
    def refusals(self) -> list[str]:
        return self.state.refused

    @action(readonly=True)
    def seen(self) -> list[int]:
        return self.state.seen


class App(Registry):
    stock = use(Stock)
    shop = use(Shop)


@pytest.fixture
async def test() -> AsyncIterator[Setup[App]]:
    async with setup_test(App, settings=HostSettings(stop_grace=0.01)) as test:
        yield test


async def test_typed_calls(test: Setup[App]) -> None:
    shop = test.client.shop.get_or_create("k")
    assert [await shop.order(3), await shop.order(3)] == [7, 4]
    assert await shop.with_params() == "p"


async def test_errors_arrive_as_what_they_are(test: Setup[App]) -> None:
    shop = test.client.shop.get_or_create("k")
    assert await shop.order_or_code(11) == ("empty", "Not enough.", {"left": 10}, "took_effect")
    with pytest.raises(UserError) as caught:
        await shop.order(11)
    assert (caught.value.code, caught.value.outcome) == ("empty", Outcome.TOOK_EFFECT)


async def test_hidden_error_of_another_actor_stays_hidden(test: Setup[App]) -> None:
    with pytest.raises(Exception, match="Internal error") as caught:
        await test.client.shop.get_or_create("k").provoke()
    assert "hunter2" not in str(caught.value)


async def test_create_and_conflict(test: Setup[App]) -> None:
    made = await test.client.shop.get_or_create("k").create_twice()
    assert made == await test.client.stock.get("new").resolve()


async def test_idempotency_key_over_actors(test: Setup[App]) -> None:
    shop = test.client.shop.get_or_create("k")
    assert [await shop.once("a", 2), await shop.once("a", 2), await shop.once("b", 2)] == [8, 8, 6]


async def test_idempotency_keys_belong_to_the_calling_actor(test: Setup[App]) -> None:
    """Two actors, and the server's own code, may choose the same key."""
    shops = [test.client.shop.get_or_create(name) for name in ("k", "l")]
    assert [await shop.once("a", 2) for shop in shops] == [8, 6]
    stock = test.client.stock.get_or_create("s").with_options(idempotency_key="a")
    assert (await stock.take(Item("nail", 2))).amount == 4
    assert [await shop.once("a", 2) for shop in shops] == [8, 6]
    await test.crash()
    assert await test.client.shop.get_or_create("l").once("a", 2) == 6
    stock = test.client.stock.get_or_create("s").with_options(idempotency_key="a")
    assert (await stock.take(Item("nail", 2))).amount == 4


async def test_events_of_another_actor(test: Setup[App]) -> None:
    assert await test.client.shop.get_or_create("k").listen_briefly() == [9, 8]
    await settle()
    assert await test.client.stock.get_or_create("s").connected() == 0


async def test_what_a_handler_changes_is_saved_and_kept(test: Setup[App]) -> None:
    """State changed by a handler of an event is as good as any other change."""
    shop = test.client.shop.get_or_create("k")
    await shop.listen()
    actor = await shop.resolve()
    await test.client.stock.get_or_create("s").take(Item("nail", 1))
    await test.clock.advance(5)
    assert part(test, actor, "state/seen") == [9], "it is not saved until somebody calls"
    assert await shop.seen() == [9]


@pytest.mark.parametrize("how", ["exit", "cancelled"])
async def test_a_handler_of_an_event_fails_alone(test: Setup[App], how: str) -> None:
    """It used to end the actor's connection, and what waited on it waited for its timeout."""
    shop = test.client.shop.get_or_create("k")
    await shop.listen_and_fail(how)
    async with asyncio.timeout(5):
        await test.client.stock.get_or_create("s").take(Item("nail", 1))
        await settle()
        assert await shop.take_there() == 8
    assert await shop.seen() == [9, 8]
    assert await shop.refusals() == ["UserCodeFailed"] * 2, "told once for each handler"


async def test_readonly_does_not_undo_what_a_handler_changed(test: Setup[App]) -> None:
    shop = test.client.shop.get_or_create("k")
    await shop.listen()
    await test.client.stock.get_or_create("s").take(Item("nail", 1))
    await settle()
    assert await shop.seen() == [9]


@pytest.mark.parametrize("how", ["sleep", "fence"])
async def test_connections_of_an_actor_end_with_its_instance(test: Setup[App], how: str) -> None:
    shop = test.client.shop.get_or_create("k")
    await shop.listen()
    stock = test.client.stock.get_or_create("s")
    assert await stock.connected() == 1
    if how == "sleep":
        await test.clock.advance(31)
    else:
        await test.store.claim(await shop.resolve(), "somebody else")
        with pytest.raises(Exception, match="owner"):
            await shop.order(1)
    await settle()
    assert await stock.connected() == 0, "a ghost stays connected"


async def test_missing_actor_is_an_error_of_the_call(test: Setup[App]) -> None:
    class Asker(Actor[None]):
        @action
        async def ask(self) -> str:
            try:
                await self.client(Other).shop.get("nobody").seen()
            except ActorNotFound as error:
                return str(error.outcome and error.outcome.value)
            return "found"

    class Other(Registry):
        shop = use(Shop)
        asker = use(Asker)

    async with setup_test(Other) as other:
        assert await other.client.asker.get_or_create("k").ask() == "not_started"


async def test_cancelling_the_outer_call_cancels_the_inner_one() -> None:
    class Inner(Actor[StockState]):
        @action
        async def hang(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                self.state.amount = 99

    class Outer(Actor[None]):
        @action(timeout=5)
        async def wait(self) -> None:
            await self.client(Both).inner.get_or_create("k").hang()

    class Both(Registry):
        inner = use(Inner)
        outer = use(Outer)

    async with setup_test(Both, settings=HostSettings(stop_grace=0.01)) as test:
        inner = await started(test, test.client.inner.get_or_create("k"))
        calling = asyncio.create_task(test.client.outer.get_or_create("k").wait())
        await settle()
        await test.clock.advance(5)
        assert isinstance(calling.exception(), Exception)
        assert part(test, inner, "state/amount") == 99
