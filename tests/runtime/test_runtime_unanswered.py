"""Calls and connections that wait for a host that is elsewhere are bounded in bytes."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from test_runtime_following import App, Listener, World, world_of

from rivet_ray.errors import Outcome, Overloaded, RivetError
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller, RequestInfo
from rivet_ray.protocol.port import Ask
from rivet_ray.protocol.raw import RawRequest
from rivet_ray.runtime import FollowingClient
from rivet_ray.runtime.unanswered import Unanswered
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle

LIMIT, SHARE = 1_000_000, 300_000
SHARE_NAME = "unanswered calls of a caller"
ANN, BEN = Caller(identity="caller:ann"), Caller(identity="caller:ben")


async def bounded(test: Any) -> World:
    world = await world_of(test)
    unanswered = Unanswered(LIMIT, SHARE)
    world.client = FollowingClient(world.road.connect, clock=test.clock, unanswered=unanswered)
    world.road.open = False
    return world


def calls(world: World, caller: Caller | None, count: int = 20) -> list[asyncio.Task[Any]]:
    """Calls of 50,000 bytes each, which wait."""
    arguments = values.encode(["x" * 50_000])
    call = world.client.call
    return [
        asyncio.ensure_future(call(world.actor, "increment", arguments, caller=caller))
        for _ in range(count)
    ]


async def refused(tasks: list[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Those that wait on; the others were refused as Overloaded, and had not started."""
    await settle()
    waiting = [task for task in tasks if not task.done()]
    for task in tasks:
        if task.done():
            error = task.exception()
            assert isinstance(error, Overloaded)
            assert error.outcome is Outcome.NOT_STARTED
    return waiting


def held(world: World) -> int:
    return world.client.unanswered.budget.held


async def over(world: World, tasks: list[asyncio.Task[Any]]) -> None:
    """The host is back: whatever waited is answered, and nothing is held."""
    world.road.open = True
    await world.advance(2)
    for task in tasks:
        assert not isinstance(await asyncio.wait_for(task, 5), BaseException)
    assert held(world) == 0
    world.client.close()


async def test_calls_of_one_caller_leave_room_for_another() -> None:
    async with setup_test(App) as test:
        world = await bounded(test)
        waiting = await refused(calls(world, ANN))
        assert len(waiting) == 5
        assert 250_000 < held(world) <= SHARE
        assert world.client.unanswered.budget.refusals == {SHARE_NAME: 15}
        other = await refused(calls(world, BEN, 1))
        assert len(other) == 1
        for task in [*waiting, *other]:
            task.cancel()
        await asyncio.gather(*waiting, *other, return_exceptions=True)
        assert held(world) == 0
        await over(world, [world.call()])


async def test_all_callers_together_are_bounded() -> None:
    async with setup_test(App) as test:
        world = await bounded(test)
        found: list[asyncio.Task[Any]] = []
        for number in range(8):
            found += await refused(calls(world, Caller(identity=f"caller:{number}")))
        assert len(found) == 19
        assert LIMIT - 51_000 < held(world) <= LIMIT
        assert world.client.unanswered.budget.refusals["unanswered"] > 0
        for task in found:
            task.cancel()
        await asyncio.gather(*found, return_exceptions=True)
        assert held(world) == 0
        gc.collect()
        assert not world.client.unanswered._shares, "who waits for nothing is forgotten"
        world.client.close()


async def test_calls_that_wait_for_their_answer_count_too() -> None:
    async with setup_test(App) as test:
        world = await bounded(test)
        world.road.open = True
        assert await world.call() == 1
        assert held(world) == 0
        world.road.deaf = True
        keyed = world.call(key="once")
        waiting = await refused(calls(world, ANN))
        assert len(waiting) == 5
        await world.road.crash()
        await settle()
        assert all(task.done() for task in waiting)
        assert not keyed.done()
        assert 0 < held(world) < 1_000, "the one with a key is sent again"
        await world.road.restart()
        await over(world, [keyed])


async def test_connections_that_wait_count_until_they_are_open() -> None:
    async with setup_test(App) as test:
        world = await bounded(test)
        who = Caller(values.encode("x" * 50_000), identity="caller:ann")
        attaching = [
            asyncio.ensure_future(world.client.attach(world.actor, f"c{n}", "t", who, Listener()))
            for n in range(20)
        ]
        waiting = await refused(attaching)
        assert len(waiting) == 5
        assert not any(world.client.holds(f"c{n}") for n in range(5, 20))
        await over(world, waiting)


async def test_a_connection_that_is_given_up_is_counted_no_longer() -> None:
    async with setup_test(App) as test:
        world = await bounded(test)
        attach = world.client.attach
        late = asyncio.ensure_future(attach(world.actor, "c1", "t", ANN, Listener()))
        gone = asyncio.ensure_future(attach(world.actor, "c2", "t", ANN, Listener()))
        await settle()
        before = held(world)
        gone.cancel()
        await settle()
        assert held(world) == before // 2
        await world.advance(61)
        assert held(world) == 0
        with pytest.raises(RivetError):
            await late
        world.client.close()


async def test_calls_of_a_connection_count_for_its_caller() -> None:
    async with setup_test(App) as test:
        world = await bounded(test)
        world.road.open = True
        await world.client.attach(world.actor, "c1", "t", ANN, Listener())
        world.road.open = False
        world.road.cut()
        answers: list[Any] = []
        arguments = values.encode(["x" * 50_000])
        for _ in range(20):
            world.client.start(world.actor, "increment", arguments, answers.append, connection="c1")
        assert [answer.failure.code for answer in answers] == ["overloaded"] * 15
        assert not await refused(calls(world, ANN, 1)), "the same caller beside it"
        other = await refused(calls(world, BEN, 1))
        assert len(other) == 1
        other[0].cancel()
        world.client.close()
        assert held(world) == 0


async def test_raw_requests_and_messages_said_elsewhere_count_too() -> None:
    async with setup_test(App) as test:
        world = await bounded(test)
        request = RawRequest("POST", b"/", b"", [(b"x", b"x" * 20_000)], "http")
        tunnels = [
            world.client.tunnel(world.actor, request, ANN, body=b"x" * 30_000) for _ in range(20)
        ]
        full = [tunnel for tunnel in tunnels if tunnel.failure is not None]
        assert len(full) == 15
        with pytest.raises(Overloaded):
            await full[0].started()
        said = Ask(1, "increment", b"x" * 50_000)
        forwarding = [
            asyncio.ensure_future(world.client.forward(world.actor, "c9", "t", said))
            for _ in range(20)
        ]
        waiting = await refused(forwarding)
        assert len(waiting) == 5
        for task in waiting:
            task.cancel()
        for tunnel in tunnels:
            tunnel.leave()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert held(world) == 0
        world.client.close()


async def test_the_head_of_a_request_counts() -> None:
    """Headers of any length came with each call."""
    request = RequestInfo("POST", "/", [("x", "x" * 100_000)], "127.0.0.1")
    assert Caller(request=request).cost > 100_000
    async with setup_test(App) as test:
        world = await bounded(test)
        tasks = [world.call(caller=Caller(request=request)) for _ in range(5)]
        waiting = await refused(tasks)
        assert len(waiting) == 2
        await over(world, waiting)
