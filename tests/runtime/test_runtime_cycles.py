"""A wait that closes a cycle fails at once, whatever it waits for (A5, A6)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from rivet_ray import Actor, CallCycle, Outcome, Registry, action, use
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle


@dataclass
class Count:
    count: int = 0


class Caller(Actor[Count]):
    """Its hooks call along a path of keys: to itself, or through others back to itself."""

    paths: ClassVar[dict[tuple[str, str], list[str]]] = {}
    """By hook and key."""
    found: ClassVar[list[Any]] = []
    stopped: ClassVar[list[str]] = []
    gate: ClassVar[asyncio.Event | None] = None

    async def _follow(self, hook: str) -> None:
        path = Caller.paths.get((hook, self.key[0]))
        if path is None:
            return
        try:
            Caller.found.append(await self.hop(*path))
        except CallCycle:
            Caller.found.append("cycle")

    async def hop(self, *path: str) -> str:
        key, *rest = path
        return await self.client(App).caller.get_or_create(key).via(*rest)

    async def create_state(self, input: None) -> Count:
        await self._follow("create_state")
        return Count()

    async def on_create(self, input: None) -> None:
        await self._follow("on_create")

    async def on_start(self) -> None:
        if Caller.gate is not None:
            await Caller.gate.wait()
        await self._follow("on_start")

    async def on_stop(self) -> None:
        if Caller.gate is not None:
            await Caller.gate.wait()
        await self._follow("on_stop")
        Caller.stopped.append(self.key[0])

    @action
    async def via(self, *path: str) -> str:
        return await self.hop(*path) if path else f"end {self.key[0]}"

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    def nap(self) -> None:
        self.sleep()


class Connected(Actor[Count]):
    hook: ClassVar[str] = ""
    found: ClassVar[list[Any]] = []

    async def _at(self, hook: str) -> None:
        if Connected.hook == hook:
            try:
                await self.client(App).connected.get_or_create(*self.key).add()
            except CallCycle as cycle:
                Connected.found.append(cycle.outcome)

    async def on_before_connect(self, request: Any, params: Any) -> None:
        await self._at("on_before_connect")

    async def create_conn_state(self, request: Any, params: Any) -> None:
        await self._at("create_conn_state")

    async def on_connect(self, conn: Any) -> None:
        await self._at("on_connect")

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count


class Opener(Actor[Count]):
    """Opens a connection in its start, whose hook calls back."""

    @action
    def add(self) -> int:
        return 1

    async def on_start(self) -> None:
        async with self.client(App).answers.get_or_create("a").connect() as connection:
            self.number = await connection.actor.number()

    @action
    def seen(self) -> int:
        return self.number


class Answers(Actor[Count]):
    found: ClassVar[list[Any]] = []

    async def on_connect(self, conn: Any) -> None:
        try:
            await self.client(App).opener.get_or_create("o").add()
        except CallCycle as cycle:
            Answers.found.append(cycle.outcome)

    @action
    def number(self) -> int:
        return 7


class App(Registry):
    caller = use(Caller)
    connected = use(Connected)
    opener = use(Opener)
    answers = use(Answers)


@pytest.fixture(autouse=True)
def fresh() -> None:
    Caller.paths, Caller.found, Caller.stopped, Caller.gate = {}, [], [], None
    Connected.hook, Connected.found, Answers.found = "", [], []


@pytest.fixture
async def test() -> Any:
    async with setup_test(App) as made:
        yield made


@pytest.mark.parametrize("hook", ["create_state", "on_create", "on_start"])
@pytest.mark.parametrize("path", [["a"], ["b", "a"], ["b", "c", "a"]])
async def test_a_start_that_comes_back_to_itself(
    test: Setup[App], hook: str, path: list[str]
) -> None:
    """No time passes: it is not a deadline that ends it."""
    Caller.paths = {(hook, "a"): path}
    call = asyncio.ensure_future(test.client.caller.get_or_create("a").add())
    await settle()
    assert call.done()
    assert call.result() == 1
    assert Caller.found == ["cycle"]


async def test_two_starts_that_call_each_other(test: Setup[App]) -> None:
    """Each began by a call from outside, so that neither has the other in its chain."""
    Caller.gate = asyncio.Event()
    Caller.paths = {("on_start", "a"): ["b"], ("on_start", "b"): ["a"]}
    calls = [asyncio.ensure_future(test.client.caller.get_or_create(k).add()) for k in "ab"]
    await settle()
    Caller.gate.set()
    await settle()
    assert [call.result() for call in calls] == [1, 1]
    assert "cycle" in Caller.found
    assert len(Caller.found) == 2


async def test_two_stops_that_call_each_other(test: Setup[App]) -> None:
    """A6: one is refused at once, the other is answered by the next life; both finish."""
    handles = [test.client.caller.get_or_create(key) for key in "ab"]
    for handle in handles:
        await handle.add()
    Caller.gate = asyncio.Event()
    Caller.paths = {("on_stop", "a"): ["b"], ("on_stop", "b"): ["a"]}
    for handle in handles:
        await handle.nap()
    await test.clock.advance(1)
    assert not Caller.stopped
    Caller.gate.set()
    await settle()
    assert sorted(Caller.stopped) == ["a", "b"]
    assert "cycle" in Caller.found
    Caller.paths = {}
    assert [await handle.add() for handle in handles] == [2, 2]


async def test_a_stop_that_comes_back_to_itself(test: Setup[App]) -> None:
    handle = test.client.caller.get_or_create("a")
    await handle.add()
    Caller.paths = {("on_stop", "a"): ["b", "a"]}
    await handle.nap()
    await test.clock.advance(1)
    assert Caller.found == ["cycle"]
    assert Caller.stopped == ["a"]


async def test_a_start_may_wait_for_a_start_that_does_not_come_back(test: Setup[App]) -> None:
    Caller.paths = {("on_start", "a"): ["b"], ("on_start", "b"): ["c"]}
    assert await test.client.caller.get_or_create("a").add() == 1
    assert Caller.found == ["end c", "end b"]


@pytest.mark.parametrize("hook", ["on_before_connect", "create_conn_state", "on_connect"])
async def test_a_hook_of_a_connection_that_comes_back(test: Setup[App], hook: str) -> None:
    Connected.hook = hook
    connected = test.client.connected.get_or_create("k")
    assert await connected.add() == 1
    assert Connected.found == [Outcome.NOT_STARTED]
    async with connected.connect() as connection:
        assert await connection.actor.add() == 2
    assert set(Connected.found) == {Outcome.NOT_STARTED}


async def test_a_connection_carries_the_chain(test: Setup[App]) -> None:
    """From the start that opens it to the hook that calls back."""
    call = asyncio.ensure_future(test.client.opener.get_or_create("o").seen())
    await settle()
    assert call.done()
    assert call.result() == 7
    assert Answers.found == [Outcome.NOT_STARTED]


async def test_what_nobody_waits_for_closes_no_cycle(test: Setup[App]) -> None:
    class Background(Actor[Count]):
        async def on_start(self) -> None:
            self.wait_until(self._calls())

        async def _calls(self) -> None:
            await self.client(Own).background.get_or_create("k").add()

        @action
        def add(self) -> int:
            self.state.count += 1
            return self.state.count

    class Own(Registry):
        background = use(Background)

    async with setup_test(Own) as own:
        background = own.client.background.get_or_create("k")
        assert await background.add() in (1, 2)
        await settle()
        assert await background.add() == 3
