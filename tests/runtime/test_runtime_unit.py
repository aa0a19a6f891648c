"""`unit_actor` and `stub_client`: one actor object, no host, as their docstrings show."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from examples.chat import ChatRoom, Member, Message
from examples.counter import Counter, CounterState
from examples.reminder import Reminder
from rivet_ray import Actor, NoConnection, Registry, UserError, action, use
from rivet_ray.testing import UnitConn, stub_client, unit_actor


@dataclass
class OrderState:
    orders: list[str] = field(default_factory=list[str])


class Stock(Actor[None]):
    @action
    def reserve(self, amount: int) -> bool:
        return False


class Order(Actor[OrderState]):
    def on_start(self) -> None:
        self.prefix = "order"

    @action
    async def place(self, amount: int) -> bool:
        done = await self.client(Shop).stock.get_or_create("s").reserve(amount)
        if done:
            self.state.orders.append(f"{self.prefix} of {amount}")
            self.log.info("placed", amount=amount)
        return done

    @action
    async def leave(self) -> None:
        await self.save()
        self.sleep()
        self.destroy()
        with self.keep_awake():
            self.wait_until(asyncio.sleep(0))


class Shop(Registry):
    order = use(Order)
    stock = use(Stock)


def test_the_docstrings_example() -> None:
    counter, did = unit_actor(Counter, state=CounterState(3))
    assert counter.increment.local(2) == 5
    assert did.broadcasts == [("new_count", (5,))]


async def test_actions_as_coroutines_too() -> None:
    counter, _ = unit_actor(Counter)
    assert await counter.increment(2) == 2
    assert counter.state == CounterState(2)


def test_two_actors_share_nothing() -> None:
    first, _ = unit_actor(Counter)
    second, _ = unit_actor(Counter)
    first.increment.local(1)
    assert second.state.count == 0


async def test_stub_client() -> None:
    asked: list[int] = []

    def reserve(amount: int) -> bool:
        asked.append(amount)
        return amount < 10

    order, did = unit_actor(Order, client=stub_client(stock={"reserve": reserve}))
    order.on_start()
    assert [await order.place(5), await order.place(50)] == [True, False]
    assert asked == [5, 50]
    assert order.state.orders == ["order of 5"]
    assert did.log.lines == [("info", "placed", {"amount": 5})]


async def test_stub_client_answers_with_coroutines_and_errors_and_tells_what_is_missing() -> None:
    async def reserve(amount: int) -> bool:
        raise UserError("none left")

    order, _ = unit_actor(Order, client=stub_client(stock={"reserve": reserve}))
    with pytest.raises(UserError, match="none left"):
        await order.place(1)
    order, _ = unit_actor(Order, client=stub_client(stock={}))
    with pytest.raises(AttributeError):
        await order.place(1)
    order, _ = unit_actor(Order)
    with pytest.raises(LookupError):
        await order.place(1)


def test_connections() -> None:
    conn = UnitConn(state=Member("ann"))
    room, did = unit_actor(ChatRoom, conn=conn)
    assert room.send.local("hello") == Message("ann", "hello")
    assert room.conns == [conn]
    assert did.broadcasts == [("new_message", (Message("ann", "hello"),))]
    alone, _ = unit_actor(ChatRoom)
    with pytest.raises(NoConnection):
        alone.send.local("hello")
    with pytest.raises(UserError):
        room.send.local(" ")


async def test_what_a_connection_was_sent_and_that_it_was_closed() -> None:
    conn: Any = UnitConn()
    conn.send(Counter.new_count, 5)
    conn.send("plain", 1, 2)
    await conn.disconnect("bye")
    assert conn.sent == [("new_count", (5,)), ("plain", (1, 2))]
    assert conn.closed == "bye"


def test_schedule() -> None:
    reminder, _ = unit_actor(Reminder, key=("me",))
    before = datetime.now(UTC)
    entry = reminder.remind_me.local("tea", 60)
    assert reminder.pending.local() == ["tea"]
    [scheduled] = reminder.schedule.list()
    assert (scheduled.id, scheduled.action, scheduled.args) == (entry, "arrive", ("tea",))
    assert timedelta(seconds=59) < scheduled.due - before < timedelta(seconds=61)
    assert reminder.cancel.local(entry)
    assert not reminder.cancel.local(entry)
    assert reminder.key == reminder.tags == ("me",)


def test_schedule_gives_each_entry_an_id_of_its_own() -> None:
    reminder, _ = unit_actor(Reminder)
    first = reminder.remind_me.local("a", 1)
    second = reminder.remind_me.local("b", 2)
    assert reminder.cancel.local(first)
    third = reminder.remind_me.local("c", 3)
    assert len({first, second, third}) == 3
    assert reminder.pending.local() == ["b", "c"]


async def test_everything_else_is_written_down() -> None:
    order, did = unit_actor(Order, state=OrderState(["old"]), input={"x": 1})
    await order.leave()
    assert (did.saves, did.asleep, did.destroyed, len(did.background)) == (1, True, True, 1)
    assert order.input == {"x": 1}
    await did.background[0]
