"""Calls over every way: arguments, results, errors, idempotency keys."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ways import World
from ways_actors import Counter, Echo, Point

from rivet_ray import UserError
from rivet_ray.errors import (
    ActionNotFound,
    IdempotencyKeyReused,
    InternalError,
    Outcome,
)

pytestmark = pytest.mark.timeout(150)  # the first on Ray starts it

VALUES: list[Any] = [
    None,
    True,
    False,
    *(0, 1, -1, 23, 24, 255, 256, 65_536, 2**31 - 1, -(2**31), 2**32 - 1),
    *(2**32, -(2**31) - 1, 2**53 - 1, -(2**53) + 1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1),
    *(0.5, -1.25, 1e300, 5e-324, 3.141592653589793),
    *("", "text", "é\u4e16\U0001f600", '\x00\x1f"\\/\u2028', "x" * 50_000),
    *([], [[]], [None, [True, [0.5, "x"]]], list(range(1_000))),
    *({}, {"": None}, {"a b": {"é": [1, {"deep": {}}]}, "0": 0}, {"$Undefined": ["$Undefined", 0]}),
    {f"name{number}": number for number in range(300)},
]


async def test_every_json_like_value(world: World, key: str) -> None:
    """It comes back equal and of the same type, alone and inside others."""
    async with world.reach(world.app.echo.get_or_create(key)) as echo:
        for value in VALUES:
            for sent in (value, [value], {"value": value}):
                found = await echo.echo(sent)
                assert found == sent, repr(sent)[:80]
                # Beyond what JavaScript counts to, CBOR has a float where that is exact.
                if type(value) is not int or abs(value) <= 2**53:
                    assert type(found) is type(sent), repr(sent)[:80]
        assert await echo.several(*VALUES[:20]) == VALUES[:20]


async def test_arguments(world: World, key: str) -> None:
    async with world.reach(world.app.echo.get_or_create(key)) as echo:
        assert await echo.add(2) == 3
        assert await echo.add(2, second=3) == 5
        assert await echo.several() == []
        assert await echo.nothing() is None
        point = await echo.moved(Point(1, 2.0, "é"), by=0.25)
        assert point == Point(1, 2.25, "é")
    async with world.reach(world.client.actor("echo", key)) as echo:
        assert await echo.call("add", 2, 3) == 5
        assert await echo.call(Echo.moved, Point(1)) == Point(1, 1.5)
        assert await echo.call("movedTo", {"x": 1, "y": 2}) == {"x": 1, "y": 3.0, "label": None}


async def test_arguments_that_do_not_fit(world: World, key: str) -> None:
    wrong: list[tuple[Any, ...]] = [(), ("two",), (1.5,), (None,), (1, 2, 3), ([1],)]
    async with world.reach(world.client.actor("echo", key)) as echo:
        for arguments in wrong:
            with pytest.raises(UserError) as caught:
                await echo.call("add", *arguments)
            assert caught.value.code == "user_error", arguments
            assert caught.value.outcome is Outcome.NOT_STARTED
        assert await echo.call("add", 1, 2) == 3


async def test_a_users_error(world: World, key: str) -> None:
    async with world.reach(world.app.echo.get_or_create(key)) as echo:
        for metadata in (None, 0, "text", [1, None], {"é": {"deep": [0.5]}}):
            with pytest.raises(UserError, match=r"As you wish\.") as caught:
                await echo.fail(metadata)
            assert (caught.value.code, caught.value.metadata) == ("wished", metadata)
            assert caught.value.outcome is Outcome.TOOK_EFFECT
        assert await echo.add(1) == 2


async def test_an_error_keeps_what_was_changed(world: World, key: str) -> None:
    async with world.reach(world.app.counter.get_or_create(key)) as counter:
        with pytest.raises(UserError, match="Too much"):
            await counter.add_then_fail(5)
        assert await counter.read() == 5


async def test_an_internal_error_does_not_tell(world: World, key: str) -> None:
    async with world.reach(world.app.echo.get_or_create(key)) as echo:
        with pytest.raises(InternalError) as caught:
            await echo.boom()
        assert "hunter2" not in str(caught.value)
        assert caught.value.outcome is Outcome.TOOK_EFFECT
        assert await echo.add(1) == 2


async def test_an_unknown_action(world: World, key: str) -> None:
    """C10: hooks, helpers and private actions are as unknown as what does not exist."""
    names = [
        *("nope", "Add", "moved", "helper", "for_itself", "on_start", "create_state", "state"),
        *("__init__", "__class__", "save", "destroy", "echo ", "écho"),
    ]
    async with world.reach(world.client.actor("echo", key)) as echo:
        for name in names:
            with pytest.raises(ActionNotFound) as caught:
                await echo.call(name)
            assert caught.value.outcome is Outcome.NOT_STARTED, name
        assert await echo.call("add", 1) == 2


async def test_calls_at_once(world: World, key: str) -> None:
    async with world.reach(world.app.counter.get_or_create(key)) as counter:
        found = await asyncio.gather(*(counter.increment() for _ in range(50)))
        assert sorted(found) == list(range(1, 51))
        assert await counter.read() == 50


async def test_an_actor_calls_another(world: World, key: str) -> None:
    async with world.reach(world.app.counter.get_or_create(key)) as counter:
        assert await counter.increment_other(f"{key}-other") == 1
        assert await counter.increment_other(f"{key}-other") == 2
        assert await counter.read() == 0


# --- Idempotency keys -----------------------------------------------------------------


async def test_an_idempotency_key(world: World, key: str) -> None:
    """C4: one effect and one answer, however often it is asked and over whichever way."""
    handle = world.client.actor("counter", key)
    async with world.reach(handle) as counter:
        once = counter.with_options(idempotency_key="once")
        assert await once.call(Counter.increment, 2) == 2
        assert await counter.call(Counter.increment, 5) == 7
        assert await once.call(Counter.increment, 2) == 2
        together = await asyncio.gather(*(once.call(Counter.increment, 2) for _ in range(10)))
        assert together == [2] * 10
        other = counter.with_options(idempotency_key="other")
        assert await other.call(Counter.increment, 2) == 9
        assert await counter.call(Counter.read) == 9


async def test_an_idempotency_key_keeps_an_error(world: World, key: str) -> None:
    async with world.reach(world.client.actor("counter", key)) as counter:
        once = counter.with_options(idempotency_key="once")
        for _ in range(2):
            with pytest.raises(UserError) as caught:
                await once.call(Counter.add_then_fail, 5)
            assert caught.value.code == "too_much"
        assert await counter.call(Counter.read) == 5


async def test_an_idempotency_key_for_something_else(world: World, key: str) -> None:
    async with world.reach(world.client.actor("counter", key)) as counter:
        once = counter.with_options(idempotency_key="once")
        assert await once.call(Counter.increment, 2) == 2
        for action, by in ((Counter.increment, 3), (Counter.add_then_fail, 2)):
            with pytest.raises(IdempotencyKeyReused):
                await once.call(action, by)
        assert await counter.call(Counter.read) == 2
