"""A gateway that begins much and takes nothing: what a host holds for it is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from rivet_ray import Actor, Registry, action, use
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import (
    INITIAL_CREDIT,
    Ask,
    Attach,
    Call,
    Cancel,
    Credit,
    Deliver,
    Failed,
    Forward,
    Handed,
    HostSession,
    Subscribe,
    Taken,
    ToGateway,
)
from rivet_ray.protocol.raw import RAW_WINDOW, RawData, RawEnd, RawOpen, RawRequest, RawTaken
from rivet_ray.runtime import HostSettings
from rivet_ray.runtime.outbox import SMALL
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle

LIMIT = 200_000


@dataclass
class State:
    count: int = 0


class Loud(Actor[State]):
    @action
    def shout(self, times: int) -> None:
        for number in range(times):
            self.broadcast("said", number)

    @action
    async def wait(self) -> None:
        await asyncio.Event().wait()

    @action
    def increment(self) -> int:
        self.state.count += 1
        return self.state.count

    async def on_fetch(self, request: Request) -> Response:
        return Response(b"", headers={"x-long": "x" * 50_000})

    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        while (await websocket.receive())["type"] == "websocket.receive":
            pass


class App(Registry):
    loud = use(Loud)


@dataclass
class Gateway:
    """Speaks the port by hand; grants no credit unless a test says so."""

    received: list[ToGateway] = field(default_factory=list[ToGateway])
    session: Any = None
    ended: int = 0

    def open(self, test: Setup[App]) -> HostSession:
        self.session = test.backend.host.open(self.received.append)
        self.session.on_lost = self.lost
        return self.session

    def lost(self) -> None:
        self.ended += 1
        self.session.close()

    @property
    def held(self) -> int:
        return self.session._outbox._budget.held


@asynccontextmanager
async def stalled() -> AsyncIterator[tuple[Setup[App], Gateway, str]]:
    """A gateway with one connection `c1`, for which an event waits."""
    async with setup_test(App, settings=HostSettings(max_queued_size=LIMIT)) as test:
        actor = await test.client.loud.get_or_create("k").resolve()
        gateway = Gateway()
        session = gateway.open(test)
        session.send(Attach(1, actor, "c1", "token", Caller()))
        await settle()
        session.send(Subscribe("c1", "said", True))
        session.send(Call(2, actor, "shout", values.encode([INITIAL_CREDIT + 1])))
        await settle()
        assert sum(isinstance(item, Deliver) for item in gateway.received) == INITIAL_CREDIT
        assert 0 < gateway.held < 2_000
        yield test, gateway, actor
        if not gateway.ended:
            session.close()


async def test_calls_that_are_begun_and_cancelled() -> None:
    """Each left an error behind, for as long as the gateway took nothing."""
    async with stalled() as (test, gateway, actor):
        for number in range(10, 10_000):
            gateway.session.send(Call(number, actor, "wait", b"\x90"))
            await settle()
            gateway.session.send(Cancel(number))
            await settle()
            assert gateway.held <= SMALL * LIMIT + 1_000
            if gateway.ended:
                break
        assert gateway.ended == 1
        assert gateway.held == 0
        assert test.backend.host.budget.refusals["gateway that takes nothing"] == 1
        assert await test.client.loud.get("k").increment() == 1
        again = Gateway()
        session = again.open(test)
        session.send(Attach(1, actor, "c1", "token", Caller(), resume=True, events=["said"]))
        await settle()
        assert not any(isinstance(item, Failed) for item in again.received), "it may go on"
        session.close()


async def test_connections_that_are_opened_and_left() -> None:
    async with stalled() as (test, gateway, actor):
        long = [f"{number}" * 100 for number in range(100)]
        for number in range(10, 2_000):
            attach = Attach(number, actor, f"c{number}", "token", Caller())
            gateway.session.send(attach)
            for event in long:
                gateway.session.send(Subscribe(f"c{number}", event, True))
            await settle()
            assert gateway.held <= SMALL * LIMIT + 1_000
            if gateway.ended:
                break
        assert gateway.ended == 1
        assert await test.client.loud.get("k").increment() == 1


async def test_messages_for_its_connections_said_elsewhere_are_refused() -> None:
    """Each counted 256 bytes, whatever it carried, and waited in any case."""
    async with stalled() as (test, gateway, actor):
        other = Gateway()
        session = other.open(test)
        said = Ask(1, "increment", b"x" * 20_000)
        for number in range(1, 51):
            session.send(Forward(number, actor, "c1", "token", said))
        await settle()
        refused = [item for item in other.received if isinstance(item, Failed)]
        assert 40 <= len(refused) < 50
        assert {(item.failure.code, item.failure.outcome) for item in refused} == {
            ("overloaded", "not_started")
        }
        assert gateway.held <= LIMIT
        gateway.session.send(Credit(10))
        await settle()
        handed = [item for item in gateway.received if isinstance(item, Handed)]
        assert len(handed) == 50 - len(refused)
        for item in handed:
            gateway.session.send(Taken(item.number, True))
        await settle()
        assert len(other.received) == 50
        assert test.backend.host.budget.held == gateway.held == 0
        session.close()


async def test_messages_that_nobody_acknowledges_are_bounded() -> None:
    limits = HostSettings(max_held_size_per_actor=LIMIT)
    async with setup_test(App, settings=limits) as test:
        actor = await test.client.loud.get_or_create("k").resolve()
        holder, other = Gateway(), Gateway()
        holder.open(test).send(Attach(1, actor, "c1", "token", Caller()))
        await settle()
        session = other.open(test)
        for number in range(1, 51):
            session.send(Forward(number, actor, "c1", "token", Ask(1, "a", b"x" * 20_000)))
        await settle()
        assert sum(isinstance(item, Handed) for item in holder.received) < 10
        assert sum(isinstance(item, Failed) for item in other.received) > 40
        holder.session.close()
        await settle()
        assert len(other.received) == 50
        assert test.backend.host.budget.held == 0
        session.close()


async def test_heads_of_raw_answers_become_errors() -> None:
    async with stalled() as (test, gateway, actor):
        request = RawRequest("GET", b"/", b"", [], "http")
        for number in range(10, 30):
            gateway.session.send(RawOpen(number, actor, request, Caller()))
        await settle()
        assert not gateway.session._exchanges
        assert gateway.held <= LIMIT + 20_000
        gateway.session.send(Credit(10))
        failed = [item.failure for item in gateway.received if isinstance(item, Failed)]
        assert len(failed) >= 15
        assert {(item.code, item.outcome) for item in failed} == {("overloaded", "took_effect")}
        assert await test.client.loud.get("k").increment() == 1


async def test_a_raw_socket_is_bounded_by_its_window() -> None:
    """Whatever a client sends: its gateway may send no more until it has heard of it."""
    async with stalled() as (_, gateway, actor):
        before = gateway.held
        socket = RawRequest("GET", b"/", b"", [], "ws", None, [])
        gateway.session.send(RawOpen(10, actor, socket, Caller()))
        await settle()
        room = RAW_WINDOW
        while room > 0:
            piece = RawData(10, b"x" * 100)
            room -= piece.cost
            gateway.session.send(piece)
        await settle()
        assert gateway.held - before < 10 * 300
        gateway.session.send(Credit(10))
        assert sum(isinstance(item, RawTaken) for item in gateway.received) <= 5
        gateway.session.send(RawEnd(10))
        await settle()
