"""Many callers at once, and the deadline of actions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from gateway_store import StoreOver
from gateway_wire import Serve, Site, eventually, get_or_create

from rivet_ray import Actor, UserError, action
from rivet_ray.runtime import HostSettings

A = get_or_create("actor", "a")
CREATED: list[str] = []
EVENTS: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def forget() -> None:
    CREATED.clear()
    EVENTS.clear()


def event(name: str) -> asyncio.Event:
    return EVENTS.setdefault(name, asyncio.Event())


@dataclass
class State:
    created: int = 0
    calls: int = 0
    log: list[str] = field(default_factory=list[str])


class Slow(Actor[State]):
    """Takes its time to be created."""

    public = True

    async def create_state(self, input: Any) -> State:
        await asyncio.sleep(0.01)
        return State()

    async def on_create(self, input: Any) -> None:
        CREATED.append(self.id)
        self.state.created += 1
        await asyncio.sleep(0.01)

    @action
    def call(self) -> tuple[int, int]:
        self.state.calls += 1
        return self.state.created, self.state.calls

    @action
    async def first(self) -> list[str]:
        self.state.log.append("first begins")
        event("first").set()
        await event("second").wait()
        self.state.log.append("first ends")
        return list(self.state.log)

    @action
    async def second(self) -> list[str]:
        await event("first").wait()
        self.state.log.append("second")
        event("second").set()
        return list(self.state.log)

    @action
    async def count_twice(self, number: int) -> int:
        before = self.state.calls
        self.state.calls += 1
        assert self.state.calls == before + 1, "atomic between awaits"
        await asyncio.sleep(0)
        self.state.calls += 1
        return self.state.calls


class Unborn(Actor[State]):
    public = True

    def on_create(self, input: Any) -> None:
        CREATED.append(self.id)
        if len(CREATED) == 1:
            raise UserError("Not yet.", code="not_yet")

    @action
    def call(self) -> int:
        return len(CREATED)


class Deadlines(Actor[State]):
    public = True

    @action(timeout=0.05)
    async def too_long(self) -> None:
        self.state.calls += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.state.log.append("cancelled")

    @action(timeout=0.05)
    async def stubborn(self) -> str:
        self.state.calls += 1
        while not event("enough").is_set():
            try:
                await event("enough").wait()
            except asyncio.CancelledError:
                self.state.log.append("went on")
        self.state.log.append("finished late")
        return "late"

    @action(timeout=5)
    async def in_time(self) -> str:
        await asyncio.sleep(0)
        return "in time"

    @action
    async def for_ever(self) -> None:
        await asyncio.Event().wait()

    @action
    def state_now(self) -> tuple[int, list[str]]:
        return self.state.calls, self.state.log


ACTORS = {"actor": Slow, "unborn": Unborn, "deadlines": Deadlines}


async def test_a_thousand_first_calls_create_once(serve: Serve) -> None:
    site = await serve(ACTORS)
    outputs: list[Any] = []

    async def knock(client: Site) -> None:
        outputs.extend([(await client.call(A, "call")).output for _ in range(20)])

    async with site.crowd(50) as clients:
        await asyncio.gather(*map(knock, clients))
    assert {created for created, _ in outputs} == {1}
    assert sorted(calls for _, calls in outputs) == list(range(1, 1_001))
    assert len(CREATED) == 1


async def test_first_calls_on_all_surfaces_at_once(serve: Serve) -> None:
    site = await serve(ACTORS)

    async def connect() -> None:
        async with site.connect(A) as socket:
            created, _ = await socket.ask(0, "call")
            assert created == 1

    await asyncio.gather(
        *(connect() for _ in range(20)),
        *(site.call(A, "call") for _ in range(20)),
        *(site.resolve(A) for _ in range(20)),
    )
    assert len(CREATED) == 1
    assert (await site.call(A, "call")).output == [1, 41]


async def test_actions_interleave_at_awaits(serve: Serve) -> None:
    site = await serve(ACTORS)
    first, second = await asyncio.gather(site.call(A, "first"), site.call(A, "second"))
    assert second.output == ["first begins", "second"]
    assert first.output == ["first begins", "second", "first ends"]


async def test_stretches_between_awaits_are_atomic(serve: Serve) -> None:
    """C3."""
    site = await serve(ACTORS)
    await asyncio.gather(*(site.call(A, "count_twice", number) for number in range(40)))
    assert (await site.call(A, "call")).output == [1, 81]


async def test_a_creation_that_fails_can_be_tried_again(serve: Serve) -> None:
    site = await serve(ACTORS)
    query = get_or_create("unborn")
    answer = await site.call(query, "call")
    assert (answer.status, answer.code, answer.outcome) == (400, "not_yet", "not_started")
    assert (await site.call(query, "call")).output == 2


async def test_a_caller_that_leaves(serve: Serve) -> None:
    """What it asked for does no harm and holds up nobody."""
    site = await serve(ACTORS)
    async with site.crowd(1) as (leaver,):
        call = asyncio.create_task(leaver.call(A, "first"))
        await event("first").wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    assert (await site.call(A, "second")).output[0] == "first begins"
    assert (await site.call(A, "call")).output == [1, 1]


# --- Deadlines ---------------------------------------------------------------------------

D = get_or_create("deadlines", "d")


async def test_an_action_over_its_deadline(serve: Serve) -> None:
    store = StoreOver()
    site = await serve(ACTORS, store=store)
    answer = await site.call(D, "too_long")
    assert (answer.status, answer.code, answer.outcome) == (400, "action_timed_out", "took_effect")
    assert (await site.call(D, "state_now")).output == [1, ["cancelled"]]
    again = await serve(ACTORS, store=store)
    assert (await again.call(D, "state_now")).output == [1, ["cancelled"]], "it is in the store"


async def test_a_deadline_on_a_connection(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(D) as socket:
        await socket.call(0, "too_long")
        await socket.call(1, "in_time")
        assert await socket.answer(1) == "in time"
        error = (await socket.next())["e"]
        assert (error["ai"], error["c"], error["oc"]) == (0, "action_timed_out", "took_effect")
        assert (await socket.ask(2, "state_now"))[0] == 1


async def test_code_that_ignores_its_deadline(serve: Serve) -> None:
    """C9: the caller is answered all the same, once; what is done later is kept too."""
    store = StoreOver()
    site = await serve(ACTORS, store=store)
    async with site.connect(D) as socket:
        await socket.call(0, "stubborn")
        error = (await socket.next())["e"]
        assert (error["ai"], error["c"]) == (0, "action_timed_out")
        event("enough").set()

        async def finished() -> bool:
            return "finished late" in (await socket.ask(1, "state_now"))[1]

        await eventually(finished)
        await socket.quiet()
    again = await serve(ACTORS, store=store)

    async def kept() -> bool:
        return "finished late" in (await again.call(D, "state_now")).output[1]

    await eventually(kept)


async def test_the_deadline_of_all_actions(serve: Serve) -> None:
    site = await serve(ACTORS, host_settings=HostSettings(action_timeout=0.05))
    answer = await site.call(D, "for_ever")
    assert (answer.status, answer.code, answer.outcome) == (400, "action_timed_out", "took_effect")
    assert (await site.call(D, "in_time")).output == "in time"
