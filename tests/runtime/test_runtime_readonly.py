"""Readonly actions: their answers leave at once where they may, and they change nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from runtime_worlds import part, started
from test_runtime_concurrency import App as Workers
from test_runtime_concurrency import World as Worker
from test_runtime_gate import World, inside

from rivet_ray import InternalError
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle

# --- When their answers leave --------------------------------------------------


async def test_readonly_reply_leaves_at_once_when_nothing_is_unwritten() -> None:
    async def check(world: World) -> None:
        world.store.hold()
        call = world.call("peek")
        assert world.tap.output(call) == 0  # within the same stretch of code

    await inside(check)


async def test_readonly_reply_waits_while_something_is_unwritten() -> None:
    async def check(world: World) -> None:
        world.store.hold()
        world.call("add")
        in_the_same_tick = world.call("peek")
        await settle()
        during_the_write = world.call("peek")
        await settle()
        assert world.tap.seen() == []
        world.store.release()
        await settle()
        assert world.tap.output(in_the_same_tick) == world.tap.output(during_the_write) == 1

    await inside(check)


async def test_readonly_reply_waits_for_an_open_action() -> None:
    async def check(world: World) -> None:
        world.call("add_then_wait")
        await settle()
        world.store.hold()
        call = world.call("peek")
        await settle()
        assert world.tap.answer(call) is None
        world.store.release()
        await settle()
        assert world.tap.output(call) == 1
        world.call("open")

    await inside(check)


async def test_readonly_reply_waits_for_what_a_task_of_the_actor_changed() -> None:
    async def check(world: World) -> None:
        world.call("spawn")
        world.call("open")
        await settle()
        await settle()
        world.store.hold()
        call = world.call("peek")
        assert world.tap.answer(call) is None, "it left before the change it shows was written"
        world.store.release()
        await settle()
        assert world.tap.output(call) == 100

    await inside(check)


# --- What they change ----------------------------------------------------------


@pytest.fixture
async def world() -> AsyncIterator[Worker]:
    async with setup_test(Workers, settings=HostSettings(stop_grace=0.01)) as test:
        yield Worker(test, await started(test, test.client.worker.get_or_create("k")))


@pytest.mark.parametrize(("name", "count"), [("careless", 2), ("careless_look", 3)])
async def test_readonly_that_changes_something_fails(world: Worker, name: str, count: int) -> None:
    """What a plain method did is undone; at an `await` it might be somebody else's."""
    await world.handle.add()
    with pytest.raises(InternalError):
        await getattr(world.handle, name)()
    assert await world.handle.add() == count
    assert part(world.test, world.actor, "state/count") == count


@pytest.mark.parametrize("name", ["add", "read_then_write"])
async def test_readonly_never_undoes_what_others_did_meanwhile(world: Worker, name: str) -> None:
    looking = world.call("look", "gate")
    await settle()
    assert await getattr(world.handle, name)() == 1
    await world.open("gate")
    assert world.tap.answer(looking) is not None
    assert await world.handle.add() == 2, "an acknowledged change is gone"
    assert world.tap.output(looking) == 1


async def test_readonly_never_undoes_what_a_scheduled_action_did(world: Worker) -> None:
    await world.handle.alone_later("x")
    await world.open("x")
    world.call("look", "gate", timeout=50.0)
    await settle()
    await world.test.clock.advance(1)
    await world.open("gate")
    await world.test.clock.advance(0)
    assert await world.handle.logged() == ["x begins", "x ends"]


async def test_readonly_never_undoes_an_action_that_began_before_it(world: Worker) -> None:
    adding = world.call("wait_add", "a")
    await settle()
    looking = world.call("look", "b")
    await settle()
    await world.open("a")
    assert world.tap.output(adding) == 1
    await world.open("b")
    assert world.tap.answer(looking) is not None
    assert await world.handle.add() == 2, "an acknowledged change is gone"
    assert world.tap.output(looking) == 1


async def test_readonly_never_undoes_what_background_work_did(world: Worker) -> None:
    await world.handle.add_in_background("a")
    looking = world.call("look", "b")
    await settle()
    await world.open("a", "b")
    assert world.tap.answer(looking) is not None
    assert await world.handle.add() == 2, "a change is gone"


async def test_readonly_never_undoes_what_a_hook_did(world: Worker) -> None:
    looking = world.call("look", "b")
    await settle()
    attached = await world.tap.attach(world.actor, "c1", params="counted")
    assert world.tap.answer(attached) is not None
    await world.open("b")
    assert world.tap.answer(looking) is not None
    assert await world.handle.add() == 2, "a change that its client may have seen is gone"
    world.tap.detach("c1")
