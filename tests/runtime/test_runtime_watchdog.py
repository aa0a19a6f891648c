"""Blocking user code is seen: once for each time, with the actor and the action."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from rivet_ray import Actor, Registry, action, use
from rivet_ray.definition.user_code import call
from rivet_ray.runtime.watchdog import Watchdog
from rivet_ray.testing import Setup, setup_test

LIMIT = 0.2


def block(watchdog: Watchdog) -> None:
    """Until the watchdog has seen it, and for some of its looks more."""
    before, end = watchdog.blocked, time.monotonic() + 20
    while watchdog.blocked == before and time.monotonic() < end:
        time.sleep(LIMIT / 8)
    time.sleep(2 * LIMIT)


class Blocker(Actor[None]):
    watchdog: Watchdog

    @action
    def plain(self) -> None:
        block(self.watchdog)

    @action
    async def later(self) -> None:
        await asyncio.sleep(0)
        block(self.watchdog)

    @action
    async def in_a_task(self) -> None:
        async def work() -> None:
            await asyncio.sleep(0)
            block(self.watchdog)

        await asyncio.create_task(work())

    def on_start(self) -> None:
        if self.key[0] == "start":
            block(self.watchdog)

    @action
    async def waits(self) -> None:
        await asyncio.sleep(3 * LIMIT)


class App(Registry):
    blocker = use(Blocker)


@pytest.fixture
async def test() -> Any:
    async with setup_test(App) as made:
        with Watchdog(LIMIT) as Blocker.watchdog:
            yield made


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "event loop" in record.msg]


@pytest.mark.parametrize("name", ["plain", "later", "in_a_task"])
async def test_an_action_that_blocks(
    test: Setup[App], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await getattr(test.client.blocker.get_or_create("k"), name)()
    [line] = _told(caplog)
    assert "<blocker 'k' " in line
    assert name in line.partition(" of <")[0]
    assert "in block" in line
    assert "blocked=1" in line
    assert Blocker.watchdog.blocked == 1


async def test_each_time_is_told_once(test: Setup[App], caplog: pytest.LogCaptureFixture) -> None:
    blocker = test.client.blocker.get_or_create("k")
    for _ in range(2):
        await blocker.plain()
        await asyncio.sleep(LIMIT / 2)  # the watchdog hears of the loop again
    assert len(_told(caplog)) == 2


async def test_a_hook_that_blocks(test: Setup[App], caplog: pytest.LogCaptureFixture) -> None:
    await test.client.blocker.get_or_create("start").waits()
    [line] = _told(caplog)
    assert "Blocker.on_start of <blocker 'start' " in line


async def test_code_that_waits_is_not_told(
    test: Setup[App], caplog: pytest.LogCaptureFixture
) -> None:
    await test.client.blocker.get_or_create("k").waits()
    assert not [line for line in _told(caplog) if "blocker" in line]


async def test_code_of_a_gateway_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Guarded(Actor[None]):
        @classmethod
        def on_auth(cls, request: Any, params: Any, intents: Any) -> None:
            block(watchdog)

    with Watchdog(LIMIT) as watchdog:
        call(Guarded, Guarded.on_auth, None, None, None)
    [line] = _told(caplog)
    assert "Guarded.on_auth of <class" in line


async def test_none_watches_nothing_and_it_can_start_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Watchdog(None) as none:
        assert none._thread is None
    again = Watchdog(LIMIT)
    for expected in (1, 2):
        with again:
            block(again)
        assert again.blocked == expected
