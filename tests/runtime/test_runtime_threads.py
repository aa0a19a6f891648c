"""`self` in another thread: it works, or the call fails with the cure in its text (A1)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from runtime_worlds import Tap, started

from rivet_ray import Actor, Event, Registry, action, use
from rivet_ray.errors import InternalError, RivetError
from rivet_ray.runtime.checkpointer import Checkpointer
from rivet_ray.runtime.deadline import Deadlines
from rivet_ray.runtime.threads import WrongThread
from rivet_ray.testing import ManualClock, Setup, setup_test
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore


@dataclass
class Count:
    count: int = 0


class Threaded(Actor[Count, Count]):
    told = Event[int]()

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    async def in_a_thread(self, what: str) -> Any:
        self.state.count += 1
        return await asyncio.to_thread(getattr(self, f"_{what}"))

    # What returns nothing.

    def _broadcast(self) -> None:
        for number in range(3):
            self.broadcast(Threaded.told, number)

    def _send(self) -> None:
        for conn in self.conns:
            conn.send(Threaded.told, 7)

    def _sleep(self) -> None:
        self.sleep()

    def _destroy(self) -> None:
        self.destroy()

    def _keep_awake(self) -> None:
        with self.keep_awake():
            pass

    def _wait_until(self) -> None:
        self.wait_until(self._work())

    async def _work(self) -> None:
        self.state.count += 10

    # What is known at once.

    def _looks(self) -> list[Any]:
        self.log.info("looked", count=self.state.count)
        self.conn.state.count += 1
        return [self.id, self.key, self.name, self.region, len(self.conns), self.conn.id]

    # What returns something.

    def _save(self) -> None:
        asyncio.run(self.save())

    def _after(self) -> None:
        self.schedule.after(1_000, Threaded.add)

    def _cancel(self) -> None:
        self.schedule.cancel("any")

    def _list(self) -> None:
        self.schedule.list()

    def _client(self) -> None:
        self.client(App)

    def _call(self) -> None:
        asyncio.run(self._call_other())

    async def _call_other(self) -> None:
        await self.other.add()

    def _disconnect(self) -> None:
        asyncio.run(self.conn.disconnect())

    def on_start(self) -> None:
        self.other = self.client(App).threaded.get_or_create("other")

    # The cure.

    @action
    async def cured(self) -> str:
        loop = asyncio.get_running_loop()

        def work() -> None:
            loop.call_soon_threadsafe(self.schedule.after, 1_000, Threaded.add)
            asyncio.run_coroutine_threadsafe(self.save(), loop).result(10)

        await asyncio.to_thread(work)
        return self.schedule.list()[0].action


class App(Registry):
    threaded = use(Threaded)


@pytest.fixture
async def test() -> Any:
    async with setup_test(App) as made:
        yield made


async def _wait(call: Callable[[], Any]) -> Any:
    """Until the threads have done their work; real time passes in them."""
    async with asyncio.timeout(20):
        while True:
            await settle()
            with contextlib.suppress(AssertionError):
                return call()
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("what", ["broadcast", "send", "keep_awake", "wait_until", "sleep"])
async def test_what_returns_nothing_works(test: Setup[App], what: str) -> None:
    """Others are served meanwhile and after; events leave before the answer, in order."""
    actor = await started(test, test.client.threaded.get_or_create("k"))
    tap = Tap(test)
    await tap.attach(actor, "c", "told")
    tap.messages.clear()
    call = tap.call(actor, "in_a_thread", what, connection="c")
    assert await _wait(lambda: tap.output(call)) is None
    events = {"broadcast": [("told", n) for n in range(3)], "send": [("told", 7)]}
    assert tap.seen() == [*events.get(what, []), None]
    again = tap.call(actor, "add")
    await settle()
    assert tap.output(again) == (12 if what == "wait_until" else 2)


async def test_what_is_known_at_once_can_be_read(test: Setup[App]) -> None:
    async with test.client.threaded.get_or_create("k").connect() as connection:
        found = await connection.actor.in_a_thread("looks")
        assert found[1:5] == [["k"], "threaded", "unknown", 1]


@pytest.mark.parametrize(
    "what", ["save", "destroy", "after", "cancel", "list", "client", "call", "disconnect"]
)
async def test_what_returns_something_fails_with_the_cure(
    test: Setup[App], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with test.client.threaded.get_or_create("k").connect() as connection:
        with pytest.raises(InternalError):
            await connection.actor.in_a_thread(what)
        assert "call_soon_threadsafe" in caplog.text
        assert await connection.actor.add() == 2
    assert await test.client.threaded.get_or_create("other").add() == 1


async def test_the_cure_works(test: Setup[App]) -> None:
    threaded = test.client.threaded.get_or_create("k")
    assert await threaded.cured() == "add"
    await test.clock.advance(1)
    assert await threaded.add() == 2


async def test_a_client_inside_the_server_belongs_to_its_loop(test: Setup[App]) -> None:
    """As a plain endpoint does that a framework runs in a thread."""
    threaded = test.client.threaded.get_or_create("k")
    assert await threaded.add() == 1

    async def call() -> int:
        return await threaded.add()

    with pytest.raises(WrongThread, match="another thread"):
        await asyncio.to_thread(lambda: asyncio.run(call()))
    assert await threaded.add() == 2


class Breaks:
    """A clock whose timers cannot be set just now, as deep in a recursion."""

    def __init__(self, clock: ManualClock) -> None:
        self.broken = True
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        if self.broken:
            raise RecursionError
        return self._clock.call_later(delay, callback)


class Looked:
    """What a checkpointer looks at."""

    def __init__(self) -> None:
        self.looks = 0

    @property
    def holding(self) -> bool:
        self.looks += 1
        return True


async def test_a_gather_that_could_not_be_asked_for_is_asked_for_again() -> None:
    clock = ManualClock()
    checkpointer, looked = Checkpointer(MemoryStore(), clock), Looked()
    touched: Any = looked
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            checkpointer.touch(touched)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert errors
    checkpointer.touch(touched)
    await settle()
    assert looked.looks == 1


async def test_a_timer_that_could_not_be_set_is_set_again() -> None:
    clock = ManualClock()
    breaks: Any = Breaks(clock)
    deadlines, expired = Deadlines(breaks), list[str]()
    with pytest.raises(RecursionError):
        deadlines.add("first", clock.monotonic() + 1, lambda: expired.append("first"))
    breaks.broken = False
    deadlines.add("second", clock.monotonic() + 2, lambda: expired.append("second"))
    await clock.advance(2)
    assert expired == ["first", "second"]
    deadlines.close()


async def test_recursion_at_its_limit_does_not_stop_the_host(test: Setup[App]) -> None:
    """Deep in a recursion every call of the runtime may raise, at any place."""
    instance = await started(test, test.client.threaded.get_or_create("k"))
    found = test.backend.host.running(instance)
    assert found is not None

    def dig() -> None:
        found.actor.broadcast("told", 1)
        dig()

    for _ in range(20):
        with pytest.raises(RecursionError):
            dig()
    await settle()
    assert await test.client.threaded.get_or_create("other").add() == 1
    assert await test.client.threaded.get("k").add() == 1
    assert issubclass(WrongThread, RivetError)
