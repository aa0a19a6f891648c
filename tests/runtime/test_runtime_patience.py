"""What needs the store to begin waits for it a little, and says then that nothing began (C8)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from rivet_ray import Actor, ActorAlreadyExists, Outcome, Registry, StoreUnavailable, action, use
from rivet_ray.runtime.patience import PATIENCE
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore


@dataclass
class State:
    count: int = 0


class Counter(Actor[State]):
    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count


class App(Registry):
    counter = use(Counter)


class Away:
    """A store whose operations fail when told, some after they have happened."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.failing: dict[str, str] = {}
        """By operation: `before` or `after` it has happened."""
        self.tried = 0

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self.inner, name)

        async def operation(*args: Any, **options: Any) -> Any:
            how = self.failing.get(name)
            self.tried += how is not None
            if how == "before":
                raise StoreUnavailable("it is away")
            result = await inner(*args, **options)
            if how == "after":
                raise StoreUnavailable("it went away")
            return result

        return operation


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("operation", ["create", "claim"])
async def test_a_short_outage_is_not_noticed(operation: str, how: str) -> None:
    store = Away()
    async with setup_test(App, store=store) as test:
        store.failing = {operation: how}
        call = asyncio.ensure_future(test.client.counter.get_or_create("k").add())
        await test.clock.advance(PATIENCE / 2)
        assert not call.done()
        store.failing = {}
        await test.clock.advance(1)
        assert await call == 1


@pytest.mark.parametrize("operation", ["find", "create", "claim"])
async def test_a_longer_one_is_an_error_that_nothing_began(operation: str) -> None:
    store = Away()
    async with setup_test(App, store=store) as test:
        counter = test.client.counter
        handle = counter.get("k") if operation == "find" else counter.get_or_create("k")
        store.failing = {operation: "before"}
        call = asyncio.ensure_future(handle.add())
        await test.clock.advance(PATIENCE + 0.1)
        with pytest.raises(StoreUnavailable) as caught:
            await call
        assert caught.value.outcome in (None, Outcome.NOT_STARTED)
        assert 5 < store.tried < 15


async def test_a_create_is_never_tried_again() -> None:
    """The first try may have come through: then its actor would seem to be another's."""
    store = Away()
    async with setup_test(App, store=store) as test:
        store.failing = {"create": "after"}
        call = asyncio.ensure_future(test.client.counter.create("k"))
        await settle()
        with pytest.raises(StoreUnavailable):
            await call
        store.failing = {}
        with pytest.raises(ActorAlreadyExists):
            await test.client.counter.create("k")


async def test_an_outage_is_logged_at_once_and_then_with_a_count(caplog: Any) -> None:
    """Callers are not told what the driver says, so the log is; but not once for each try."""
    store = Away()
    async with setup_test(App, store=store) as test:
        store.failing = {"find": "before"}
        for _ in range(3):
            call = asyncio.ensure_future(test.client.counter.get("k").add())
            await test.clock.advance(PATIENCE + 0.1)
            with pytest.raises(StoreUnavailable):
                await call
    lines = [line for line in caplog.messages if line.endswith("it is away")]
    assert lines[0].startswith("the store did not answer (1 times)")
    assert len(lines) == 2
