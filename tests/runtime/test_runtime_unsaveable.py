"""State that cannot be saved: it fails the action that wrote it, and nobody else (C8)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from runtime_worlds import Probe, part, started
from test_runtime_errors_and_outcomes import BAD, App, World

from rivet_ray import InternalError, Outcome
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle


@pytest.fixture
async def world() -> AsyncIterator[World]:
    settings = HostSettings(stop_grace=0.01)
    async with setup_test(App, store=Probe(), settings=settings) as test:
        actor = await started(test, test.client.counter.get_or_create("k"))
        yield World(test, actor)


@pytest.mark.parametrize("size", [0, 10_000], ids=["small", "large"])
@pytest.mark.parametrize("name", ["spoil", "spoil_later"])
@pytest.mark.parametrize("how", BAD)
async def test_what_cannot_be_saved_fails_its_action_and_leaves_the_state(
    world: World, how: str, name: str, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    await world.handle.add(7)
    await world.handle.grow(size)
    with pytest.raises(InternalError), caplog.at_level(logging.ERROR):
        await world.handle.call(name, how)
    assert BAD[how][2] in caplog.text
    assert await world.handle.get() == 7
    assert await world.handle.add(1) == 8
    await world.test.crash()
    assert await world.test.client.counter.get_or_create("k").get() == 8


async def test_a_thousand_of_them_write_few_lines(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A caller chooses how often: each call used to write lines of its own."""
    with caplog.at_level(logging.WARNING):
        for _ in range(1_000):
            await world.handle.spoil_in_the_background("object")
            await settle()
            with pytest.raises(InternalError):
                await world.handle.spoil("object")
    assert await world.handle.add(1) == 1
    assert BAD["object"][2] in caplog.text
    assert len(caplog.records) <= 3


async def test_neighbour_of_the_same_tick_keeps_its_change(world: World) -> None:
    calls = [
        world.tap.call(world.actor, "add", 1),
        world.tap.call(world.actor, "spoil", "object"),
        world.tap.call(world.actor, "add", 1),
    ]
    await settle()
    assert [world.tap.output(calls[0]), world.tap.output(calls[2])] == [1, 2]
    assert world.tap.error(calls[1]).code == "internal_error"
    assert world.saved == 2


async def test_neighbour_in_a_large_state_is_told_the_truth(world: World) -> None:
    """Where everybody of the tick is undone, nobody may be told *took effect*."""
    await world.handle.grow(10_000)
    call = world.tap.call(world.actor, "add", 1)
    world.tap.call(world.actor, "spoil", "object")
    await settle()
    answer = world.tap.answer(call)
    if world.saved == 0:
        assert world.tap.error(call).outcome is not Outcome.TOOK_EFFECT
    else:
        assert answer is not None
        assert world.tap.output(call) == 1


async def test_acknowledged_async_neighbour_of_the_same_tick_keeps_its_change(
    world: World,
) -> None:
    instance = world.test.backend.host.running(world.actor)
    assert instance is not None
    waiting = world.tap.call(world.actor, "wait_add")
    await settle()
    instance.actor.go.set()
    # In the tick in which wait_add ends, behind it.
    asyncio.get_running_loop().call_soon(world.tap.call, world.actor, "spoil", "object")
    await settle()
    assert world.tap.output(waiting) == 1
    assert await world.handle.get() == world.saved == 1, "an acknowledged change is gone"


async def test_open_action_keeps_its_change_when_another_one_fails(world: World) -> None:
    waiting = world.tap.call(world.actor, "add_wait")
    await settle()
    spoilt = world.tap.call(world.actor, "spoil", "object")
    await settle()
    assert world.tap.error(spoilt).code == "internal_error"
    await world.handle.open()
    await settle()
    assert world.tap.output(waiting) == 1, "an acknowledged change is gone"
    assert world.saved == 1


async def test_open_action_keeps_its_change_in_the_field_that_another_one_spoils(
    world: World,
) -> None:
    waiting = world.tap.call(world.actor, "append_wait", 1)
    await settle()
    spoilt = world.tap.call(world.actor, "append", "two")
    await settle()
    assert world.tap.error(spoilt).code == "internal_error"
    await world.handle.open()
    await settle()
    if part(world.test, world.actor, "state/listed") != [1]:
        error = world.tap.error(waiting)
        assert error.outcome is not Outcome.TOOK_EFFECT, "its change is gone"


async def test_neighbour_in_the_same_large_field_is_told_the_truth(world: World) -> None:
    instance = world.test.backend.host.running(world.actor)
    assert instance is not None
    instance.actor.state.listed = [10**9] * 2_000
    await world.handle.append(1)
    good = world.tap.call(world.actor, "append", 2)
    bad = world.tap.call(world.actor, "append", "three")
    await settle()
    assert world.tap.error(bad).code == "internal_error"
    if part(world.test, world.actor, "state/listed")[-1] != 2:
        assert world.tap.error(good).outcome is not Outcome.TOOK_EFFECT, "its change is gone"


async def test_readonly_neighbour_is_answered_and_the_port_never_raises(world: World) -> None:
    world.tap.call(world.actor, "add_wait")
    await settle()
    spoilt = world.tap.call(world.actor, "spoil", "object")
    looking = world.tap.call(world.actor, "peek")  # HostSession.send never raises
    await settle()
    assert world.tap.answer(looking) is not None
    assert world.tap.error(spoilt).code == "internal_error"
    await world.handle.open()


async def test_failed_action_keeps_its_schedule(world: World) -> None:
    """The field that cannot be saved is undone; all else is kept, as after any error."""
    with pytest.raises(InternalError):
        await world.handle.spoil_and_schedule()
    await world.test.clock.advance(120)
    assert await world.handle.get() == 1
