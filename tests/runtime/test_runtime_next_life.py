"""What had not started when its actor was destroyed goes on with the next life (A10)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from runtime_worlds import Tap, started

from rivet_ray import Actor, ActorStopped, Outcome, Registry, action, use
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import Attached, Failed
from rivet_ray.protocol.raw import RawOpen, RawRequest, RawStart
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle


@dataclass
class Count:
    count: int = 0


class Mortal(Actor[Count]):
    lives: ClassVar[int] = 0
    """How many more times its start ends it."""

    def on_start(self) -> None:
        if Mortal.lives > 0:
            Mortal.lives -= 1
            self.destroy()

    async def on_fetch(self, request: Any) -> str:
        return "here"

    @action
    def end(self) -> None:
        self.destroy()

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count


class App(Registry):
    mortal = use(Mortal)


@pytest.fixture
async def test() -> Any:
    Mortal.lives = 0
    async with setup_test(App) as made:
        yield made


@pytest.mark.parametrize("ends", [1, 5])
async def test_calls_behind_one_that_destroys_a_cold_actor(test: Setup[App], ends: int) -> None:
    mortal = test.client.mortal.get_or_create("k")
    first = await test.client.mortal.get_or_create("k").resolve()
    ending = [asyncio.ensure_future(mortal.end()) for _ in range(ends)]
    calls = [asyncio.ensure_future(mortal.add()) for _ in range(3)]
    assert await asyncio.gather(*ending) == [None] * ends
    assert await asyncio.gather(*calls) == [1, 2, 3]
    assert await test.client.mortal.get("k").resolve() != first


@pytest.mark.parametrize("lives", [1, 3])
async def test_calls_of_an_actor_whose_start_destroys_it(test: Setup[App], lives: int) -> None:
    Mortal.lives = lives
    mortal = test.client.mortal.get_or_create("k")
    calls = [asyncio.ensure_future(mortal.add()) for _ in range(4)]
    assert await asyncio.gather(*calls) == [1, 2, 3, 4]


async def test_an_actor_that_never_lives(test: Setup[App]) -> None:
    """No endless loop, and no word of an actor that is not there."""
    Mortal.lives = 10_000
    with pytest.raises(ActorStopped, match="16 times") as caught:
        await test.client.mortal.get_or_create("k").add()
    assert caught.value.outcome is Outcome.NOT_STARTED


@pytest.mark.parametrize("hops", range(4))
@pytest.mark.parametrize("first", ["attach", "end"])
async def test_a_connection_is_answered_whatever_comes_first(
    test: Setup[App], first: str, hops: int
) -> None:
    """Its task may be cancelled before it has run at all."""
    actor, tap = await started(test, test.client.mortal.get_or_create("k")), Tap(test)
    if first == "end":
        tap.call(actor, "end")
    attaching = asyncio.ensure_future(tap.attach(actor, "c1"))
    for _ in range(hops + 1):
        await asyncio.sleep(0)
    if first == "attach":
        tap.call(actor, "end")
    await attaching
    for _ in range(3):
        await settle()
    answers = [m for m in tap.messages if isinstance(m, (Attached, Failed))]
    assert len(answers) == 1
    if isinstance(answers[0], Failed):
        assert answers[0].failure.code == "actor_not_found", "who asks may look for the next life"
        assert answers[0].failure.outcome == "not_started"


@pytest.mark.parametrize("hops", range(3))
async def test_a_raw_request_is_answered_whatever_comes_first(test: Setup[App], hops: int) -> None:
    actor, tap = await started(test, test.client.mortal.get_or_create("k")), Tap(test)
    get = RawRequest("GET", b"/", b"", [], "http")
    tap._session.send(RawOpen(7, actor, get, Caller(), b"", False, None, []))
    for _ in range(hops):
        await asyncio.sleep(0)
    tap.call(actor, "end")
    for _ in range(3):
        await settle()
    answers = [m for m in tap.messages if isinstance(m, (RawStart, Failed))]
    assert len(answers) == 1
    if isinstance(answers[0], Failed):
        assert (answers[0].failure.code, answers[0].failure.outcome) == (
            "actor_stopped",
            "not_started",
        )
