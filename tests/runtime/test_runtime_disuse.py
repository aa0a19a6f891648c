"""Actors that nobody uses are destroyed (`destroy_after`): never early, and not by one use."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import DataObject, data, lists, sampled_from, tuples
from runtime_worlds import Probe, Tap, open_file, part, quiet, started

from rivet_ray import Actor, ActorNotFound, Registry, action, use
from rivet_ray.definition import ActorDefinition
from rivet_ray.errors import InternalError
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import Failed
from rivet_ray.protocol.raw import RawEnd, RawOpen, RawRequest
from rivet_ray.runtime import Host, HostSettings
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore

AFTER = 1000.0
LATEST = 1.1 * AFTER
"""Seconds; a host that looks takes none on the manual clock."""

TOLD: list[str] = []
FAULTS: set[str] = set()


@dataclass
class State:
    count: int = 0


class Guest(Actor[State]):
    destroy_after = timedelta(seconds=AFTER)
    sleep_after = 10

    async def on_start(self) -> None:
        TOLD.append("start")
        self.go = asyncio.Event()
        if "on_start" in FAULTS:
            raise ValueError("no start today")
        if "hangs" in FAULTS:
            await asyncio.Event().wait()

    def on_stop(self) -> None:
        TOLD.append("stop")
        if "on_stop" in FAULTS:
            raise ValueError("no stop today")

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count

    @action(readonly=True)
    def get(self) -> int:
        return self.state.count

    @action(timeout=100_000)
    async def wait(self) -> int:
        await self.go.wait()
        return self.state.count

    @action
    def open(self) -> None:
        self.go.set()

    @action
    def add_after(self, seconds: float) -> None:
        self.schedule.after(timedelta(seconds=seconds), Guest.add)

    @action
    def work_in_the_background(self) -> None:
        self.wait_until(asyncio.Event().wait())

    async def on_websocket(self, websocket: Any) -> None:
        await websocket.accept()
        await asyncio.Event().wait()


class Relaxed(Actor[State]):
    durability = "relaxed"
    destroy_after = timedelta(seconds=AFTER)
    sleep_after = 10

    @action
    def get(self) -> int:
        return self.state.count


class App(Registry):
    guest = use(Guest)
    relaxed = use(Relaxed)


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    TOLD.clear()
    FAULTS.clear()


SETTINGS = HostSettings(stop_grace=0.05)


@pytest.fixture
async def test() -> AsyncIterator[Setup[App]]:
    async with setup_test(App, store=MemoryStore(), settings=SETTINGS) as test:
        yield test


@pytest.fixture
async def probed() -> AsyncIterator[tuple[Setup[App], Probe]]:
    store: Any = Probe()
    async with setup_test(App, store=store, settings=SETTINGS) as test:
        yield test, store


@contextmanager
def code(definition: ActorDefinition, after: float | None) -> Generator[None]:
    """Code with another `destroy_after`, for hosts that start meanwhile."""
    before, definition.destroy_after = definition.destroy_after, after
    try:
        yield
    finally:
        definition.destroy_after = before


@contextmanager
def awake(definition: ActorDefinition) -> Generator[None]:
    """Actors of the type stay in memory."""
    before, definition.sleep_after = definition.sleep_after, math.inf
    try:
        yield
    finally:
        definition.sleep_after = before


async def lives(test: Setup[App], actor: str) -> bool:
    return await test.store.find_by_id(actor) is not None


# --- When ------------------------------------------------------------------------------


async def test_destroyed_after_disuse_and_the_next_is_a_new_life(
    test: Setup[App], caplog: pytest.LogCaptureFixture
) -> None:
    guest = test.client.guest.get_or_create("k")
    await guest.add()
    actor = await guest.resolve()
    await test.clock.advance(AFTER)
    assert await lives(test, actor), "never early"
    assert test.backend.host.resident == 0, "it sleeps: nothing but the store knows of it"
    TOLD.clear()
    with caplog.at_level(logging.INFO, "rivet_ray.runtime"):
        await test.clock.advance(LATEST - AFTER)
    assert not await lives(test, actor)
    assert TOLD == ["start", "stop"]
    assert "is destroyed: nobody has used it for 0:16:40" in caplog.text
    with pytest.raises(ActorNotFound):
        await test.client.guest.get("k").add()
    fresh = test.client.guest.get_or_create("k")
    assert await fresh.add() == 1
    assert await fresh.resolve() == f"{actor}-2"
    await test.clock.advance(LATEST)
    assert not await lives(test, f"{actor}-2")


async def test_one_that_never_sleeps_is_destroyed_too(test: Setup[App]) -> None:
    guest = test.client.guest.get_or_create("k")
    await guest.work_in_the_background()
    actor = await guest.resolve()
    await test.clock.advance(AFTER)
    assert test.backend.host.resident == 1
    await test.clock.advance(LATEST - AFTER)
    assert test.backend.host.resident == 0
    assert not await lives(test, actor)


@pytest.mark.parametrize("use", ["add", "get"])
async def test_each_use_moves_it(test: Setup[App], use: str) -> None:
    guest = test.client.guest.get_or_create("k")
    actor = await guest.resolve()
    for _ in range(20):
        await getattr(guest, use)()
        await test.clock.advance(0.4 * AFTER)
    await test.clock.advance(0.6 * AFTER)
    assert await lives(test, actor)
    await test.clock.advance(0.1 * AFTER)
    assert not await lives(test, actor)


async def test_actors_that_sleep_leave_no_timers(test: Setup[App]) -> None:
    pending = test.clock.pending
    for number in range(20):
        await test.client.guest.get_or_create(str(number)).get()
    await test.clock.advance(20)
    assert test.backend.host.resident == 0
    assert test.clock.pending <= pending + 2, "of the host, for alarms and deadlines"


async def test_a_look_at_the_directory_is_no_use(test: Setup[App]) -> None:
    guest = test.client.guest.get_or_create("k")
    actor = await guest.resolve()
    await guest.get()
    for _ in range(11):
        await test.clock.advance(0.1 * AFTER)
        await test.store.find_by_id(actor)
    assert not await lives(test, actor)


# --- What it costs ------------------------------------------------------------------------


async def test_reads_write_once_in_a_while(probed: tuple[Setup[App], Probe]) -> None:
    test, store = probed
    tap, actor = Tap(test), await started(test, test.client.guest.get_or_create("k"))
    before = len(store.commits)
    for _ in range(1000):
        tap.call(actor, "get")
        await test.clock.advance(1)
    assert 0 < len(store.commits) - before <= 1000 / 75 + 1
    assert len(tap.seen()) == 1000


@pytest.mark.parametrize("name", ["guest", "relaxed"])
async def test_the_answer_waits_for_the_expiry_that_it_needs(
    probed: tuple[Setup[App], Probe], name: str
) -> None:
    """Of a read, and of a relaxed type: the use is saved before anybody is told."""
    test, store = probed
    tap = Tap(test)
    with awake(App.definitions()[name]):
        actor = await started(test, getattr(test.client, name).get_or_create("k"))
        await test.clock.advance(74)
        store.hold()
        early = tap.call(actor, "get")
        await settle()
        assert tap.output(early) == 0, "the saved expiry is late enough: nothing to wait for"
        await test.clock.advance(2)
        assert not [commit for commit in store.commits if "disuse" in commit.put][1:]
        late = tap.call(actor, "get")
        await settle()
        assert tap.answer(late) is None
        store.release()
        await settle()
        assert tap.output(late) == 0
    assert part(test, actor, "disuse") == [test.clock.now() + LATEST, AFTER]


# --- Crashes and restarts -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["guest", "relaxed"])
async def test_a_crash_loses_no_use(test: Setup[App], name: str) -> None:
    """Whenever it happens, and though each life saves next to nothing."""
    handle = getattr(test.client, name).get_or_create("k")
    actor = await handle.resolve()
    for step in (0.0, 0.01, 0.07, 0.076, 0.08, 0.5, 0.92, 0.999):
        await test.clock.advance(step * AFTER)
        await getattr(test.client, name).get("k").get()
        await test.crash()
    await test.clock.advance(AFTER - 0.001)
    assert await lives(test, actor)
    await test.clock.advance(LATEST - AFTER + 0.001)
    assert not await lives(test, actor)


async def test_a_crash_loses_no_long_use(test: Setup[App]) -> None:
    """An action, and a socket, that run for longer than the time itself."""
    tap, actor = Tap(test), await started(test, test.client.guest.get_or_create("k"))
    tap.call(actor, "wait")
    await test.clock.advance(3.33 * AFTER)
    assert await lives(test, actor)
    await test.crash()
    await test.clock.advance(AFTER - 0.001)
    assert await lives(test, actor)
    await test.clock.advance(LATEST - AFTER + 0.001)
    assert not await lives(test, actor)


async def test_a_socket_keeps_it(test: Setup[App]) -> None:
    actor = await started(test, test.client.guest.get_or_create("k"))
    got: list[Any] = []
    session = test.backend.host.open(got.append)
    request = RawRequest("GET", b"/", b"", [], "ws", protocols=[])
    session.send(RawOpen(1, actor, request, Caller(), more=True))
    await test.clock.advance(2.5 * AFTER)
    assert not any(isinstance(message, Failed) for message in got), got
    assert await lives(test, actor)
    session.send(RawEnd(1, 1000, ""))
    await test.clock.advance(AFTER - 1)
    assert await lives(test, actor)
    await test.clock.advance(LATEST - AFTER + 20)
    assert not await lives(test, actor)


async def test_what_expires_while_nobody_runs_goes_at_the_next_start(test: Setup[App]) -> None:
    actor = await started(test, test.client.guest.get_or_create("k"))
    await test.close()
    test.clock.set_wall(test.clock.now() + 10 * AFTER)
    test._open()
    await test.start()
    await quiet(test)
    assert not await lives(test, actor)


async def test_over_file_with_a_real_restart(tmp_path: Path) -> None:
    store = await open_file(tmp_path)
    async with setup_test(App, store=store, settings=SETTINGS) as test:
        actor = await started(test, test.client.guest.get_or_create("k"))
        await test.client.guest.get("k").add()
        now = test.clock.now()
    await store.close()
    for passed, there in ((AFTER, True), (LATEST, False)):
        store = await open_file(tmp_path)
        async with setup_test(App, store=store, settings=SETTINGS) as test:
            test.clock.set_wall(now + passed)
            await test.restart()
            await quiet(test)
            assert await lives(test, actor) is there
        await store.close()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data())
def test_whatever_happens_it_is_between_1_and_1_1_times_the_time(drawn: DataObject) -> None:
    """Uses, crashes, restarts and time in any order: no use is lost, and the end comes."""
    asyncio.run(_whatever_happens(drawn))


async def _whatever_happens(drawn: DataObject) -> None:
    steps = lists(tuples(sampled_from(STEPS), sampled_from(TIMES)), min_size=3, max_size=25)
    async with setup_test(App, store=MemoryStore(), settings=SETTINGS) as test:
        name = drawn.draw(sampled_from(["guest", "relaxed"]))

        def handle() -> Any:
            return getattr(test.client, name).get_or_create("k")

        await handle().get()
        life, used = await handle().resolve(), test.clock.now()
        tap, attached, number = Tap(test), "", 0
        for step, seconds in drawn.draw(steps):
            match step:
                case "use":
                    await handle().get()
                    life = await handle().resolve()
                    used = test.clock.now()
                case "attach" if not attached:
                    await handle().get()
                    life, number = await handle().resolve(), number + 1
                    attached = f"c{number}"
                    await tap.attach(life, attached)
                case "detach" if attached:
                    tap.detach(attached)
                    attached, used = "", test.clock.now()
                case "crash" | "restart":
                    used = test.clock.now() if attached else used
                    await getattr(test, step)()
                    tap, attached = Tap(test), ""
                case _:
                    pass
            await test.clock.advance(seconds * AFTER)
            if attached:
                used = test.clock.now()
            passed = test.clock.now() - used
            if passed < AFTER:
                assert await lives(test, life), (step, passed)
            if passed > LATEST:
                assert not await lives(test, life), (step, passed)


STEPS = ["use", "use", "attach", "detach", "crash", "restart", "wait"]
TIMES = [0.0, 0.001, 0.01, 0.05, 0.0751, 0.2, 0.5, 0.9, 0.999, 1.0, 1.101]


# --- Connections --------------------------------------------------------------------------


async def test_a_connection_keeps_it(test: Setup[App]) -> None:
    tap, actor = Tap(test), await started(test, test.client.guest.get_or_create("k"))
    await tap.attach(actor, "c")
    await test.clock.advance(5 * AFTER)
    assert await lives(test, actor)
    tap.detach("c")
    await test.clock.advance(AFTER)
    assert await lives(test, actor)
    await test.clock.advance(LATEST - AFTER)
    assert not await lives(test, actor)


async def test_a_connection_is_a_use_though_it_ends_at_once(test: Setup[App]) -> None:
    actor = await started(test, test.client.guest.get_or_create("k"))
    await test.clock.advance(950)
    tap = Tap(test)
    await tap.attach(actor, "c")
    tap.detach("c")
    await test.crash()
    await test.clock.advance(AFTER - 0.001)
    assert await lives(test, actor)
    await test.clock.advance(LATEST - AFTER + 0.001)
    assert not await lives(test, actor)


async def test_a_crash_with_a_connection_counts_from_the_crash(test: Setup[App]) -> None:
    tap, actor = Tap(test), await started(test, test.client.guest.get_or_create("k"))
    await tap.attach(actor, "c")
    await test.clock.advance(5.77 * AFTER)
    crashed = test.clock.now()
    await test.crash()
    expiry = part(test, actor, "disuse")[0]
    assert crashed + AFTER < expiry <= crashed + LATEST
    await test.clock.advance(expiry - crashed - 0.001)
    assert await lives(test, actor)
    assert test.backend.host.resident == 0
    await test.clock.advance(0.002)
    assert not await lives(test, actor), "nobody came back to the connection"


@pytest.mark.parametrize("sleeps", [True, False])
async def test_a_connection_may_come_back_after_a_crash(test: Setup[App], sleeps: bool) -> None:
    """Where the time is shorter than that in which one may come back."""
    guest = App.definitions()["guest"]
    with code(guest, 1.0), nullcontext() if sleeps else awake(guest):
        tap, actor = Tap(test), await started(test, test.client.guest.get_or_create("k"))
        await tap.attach(actor, "c")
        await test.clock.advance(60)
        await test.crash()
        await test.clock.advance(20)
        assert await lives(test, actor)
        assert await test.client.guest.get("k").get() == 0
        await test.clock.advance(29)  # From that call on it may come back for 30 s.
        assert await lives(test, actor)
        tap = Tap(test)
        await tap.resume(actor, "c")
        assert tap.seen() == ["attached"]


async def test_a_connection_that_may_come_back_keeps_it(test: Setup[App]) -> None:
    """Where the time is shorter than that in which one may come back."""
    with code(App.definitions()["guest"], 1.0):
        tap, actor = Tap(test), await started(test, test.client.guest.get_or_create("k"))
        await tap.attach(actor, "c")
        await test.clock.advance(60)
        tap.detach("c", keep=True)
        await test.clock.advance(29.9)
        assert await lives(test, actor)
        await tap.resume(actor, "c")
        assert tap.seen()[-1] == "attached"
        await test.clock.advance(60)
        tap.detach("c", keep=True)
        await test.clock.advance(40)
        assert not await lives(test, actor)


# --- The schedule -------------------------------------------------------------------------


async def test_a_schedule_that_runs_is_a_use(test: Setup[App]) -> None:
    guest = test.client.guest.get_or_create("k")
    actor = await guest.resolve()
    await guest.add_after(900)
    await test.clock.advance(900 + AFTER)
    assert await lives(test, actor)
    await test.clock.advance(LATEST - AFTER)
    assert not await lives(test, actor)


async def test_a_schedule_that_is_due_later_goes_with_it(test: Setup[App]) -> None:
    guest = test.client.guest.get_or_create("k")
    actor = await guest.resolve()
    await guest.add_after(1200)
    await test.clock.advance(1150)
    assert not await lives(test, actor)
    await test.clock.advance(100)
    assert await test.client.guest.get_or_create("k").get() == 0


async def test_what_was_due_while_nobody_ran_runs_first(test: Setup[App]) -> None:
    """Both are due at the start: the scheduled action is a use."""
    guest = test.client.guest.get_or_create("k")
    actor = await guest.resolve()
    await guest.add_after(1200)
    test.backend.abandon()
    test.clock.set_wall(test.clock.now() + 5000)
    await test.crash()
    assert await test.client.guest.get("k").get() == 1
    assert await lives(test, actor)


# --- Races --------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["call", "alarm"])
async def test_a_call_that_waits_for_the_same_start_wins(test: Setup[App], first: str) -> None:
    tap, actor = Tap(test), await started(test, test.client.guest.get_or_create("k"))
    await test.clock.advance(LATEST - 1)
    test.clock.set_wall(test.clock.now() + 2)
    host = test.backend.host
    if first == "alarm":
        host.wake(actor, lambda error: None)
    call = tap.call(actor, "add")
    if first == "call":
        host.wake(actor, lambda error: None)
    await settle()
    assert tap.output(call) == 1
    await test.clock.advance(AFTER)
    assert await lives(test, actor)


async def test_a_call_while_it_is_destroyed_begins_the_next_life(test: Setup[App]) -> None:
    guest = test.client.guest.get_or_create("k")
    assert await guest.add() == 1
    await test.clock.advance(LATEST - 0.001)
    calls = asyncio.gather(*(test.client.guest.get_or_create("k").add() for _ in range(20)))
    await test.clock.advance(0.002)
    assert sorted(await calls) in ([*range(1, 21)], [*range(2, 22)])


async def test_the_second_host_that_finds_a_use_moves_the_alarm_on(test: Setup[App]) -> None:
    """One that read the alarm before somebody used the actor elsewhere."""
    tap, actor = Tap(test), await started(test, test.client.guest.get_or_create("k"))
    await test.clock.advance(900)
    tap.call(actor, "get")
    await test.clock.advance(20)
    other = Host(App.definitions(), test.store, clock=test.clock)
    other.wake(actor, lambda error: None)
    await test.clock.advance(AFTER - 20)
    assert await lives(test, actor)
    await other.close()


# --- Code that changes --------------------------------------------------------------------


async def test_a_type_that_gets_it_later(test: Setup[App]) -> None:
    with code(App.definitions()["guest"], None):
        actor = await started(test, test.client.guest.get_or_create("k"))
        await test.clock.advance(3 * AFTER)
    assert part(test, actor, "disuse") is None
    await test.restart()
    await test.clock.advance(3 * AFTER)
    assert await lives(test, actor), "nobody has loaded it"
    await test.client.guest.get("k").get()
    await test.clock.advance(AFTER)
    assert await lives(test, actor)
    await test.clock.advance(LATEST - AFTER)
    assert not await lives(test, actor)


async def test_a_type_that_has_it_no_more(test: Setup[App]) -> None:
    actor = await started(test, test.client.guest.get_or_create("k"))
    await test.client.guest.get("k").add()
    with code(App.definitions()["guest"], None):
        await test.restart()
        await test.clock.advance(3 * AFTER)
        assert await test.client.guest.get("k").get() == 1
        assert part(test, actor, "disuse") is None
        assert await test.store.next_alarm() is None


@pytest.mark.parametrize("now", [0.3 * AFTER, 4 * AFTER])
async def test_another_time_counts_from_the_last_use(test: Setup[App], now: float) -> None:
    """Never early by the new time; a shorter one is seen when the actor is loaded."""
    actor = await started(test, test.client.guest.get_or_create("k"))
    with code(App.definitions()["guest"], now):
        await test.restart()
        await test.clock.advance(min(now, LATEST - 1))
        assert await lives(test, actor)
        await test.clock.advance(max(now, AFTER) - min(now, LATEST - 1) - 1)
        assert await lives(test, actor)
        await test.clock.advance(LATEST - AFTER + 1)
        assert not await lives(test, actor)


async def test_a_part_that_cannot_be_read_counts_as_a_use(test: Setup[App]) -> None:
    actor = await started(test, test.client.guest.get_or_create("k"))
    await test.close()
    store: Any = test.store
    store._living[actor].parts["disuse"] = b"\xc1"
    test.clock.set_wall(test.clock.now() + 2 * AFTER)
    test._open()
    await test.start()
    await test.clock.advance(AFTER)
    assert await lives(test, actor)
    await test.clock.advance(LATEST - AFTER)
    assert not await lives(test, actor)


# --- What fails ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["on_start", "hangs", "on_stop"])
async def test_no_hook_keeps_it(
    test: Setup[App], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    actor = await started(test, test.client.guest.get_or_create("k"))
    await test.clock.advance(20)
    FAULTS.add(fault)
    await test.clock.advance(LATEST)
    assert not await lives(test, actor)
    assert f"{'on_stop' if fault == 'on_stop' else 'its start'} failed" in caplog.text
    caplog.clear()


async def test_before_its_time_a_hook_fails_as_ever(test: Setup[App]) -> None:
    actor = await started(test, test.client.guest.get_or_create("k"))
    await test.clock.advance(20)
    FAULTS.add("on_start")
    with pytest.raises(InternalError):
        await test.client.guest.get("k").get()
    assert await lives(test, actor)


async def test_while_the_store_is_away_it_is_tried_again(
    probed: tuple[Setup[App], Probe],
) -> None:
    test, store = probed
    actor = await started(test, test.client.guest.get_or_create("k"))
    await test.clock.advance(LATEST - 1)
    store.down = True
    await test.clock.advance(60)
    assert await lives(test, actor)
    store.down = False
    await test.clock.advance(10)
    assert not await lives(test, actor)


# --- A host for one actor -----------------------------------------------------------------


async def test_a_host_for_one_actor_destroys_its_own(test: Setup[App]) -> None:
    one = await started(test, test.client.guest.get_or_create("one"))
    two = await started(test, test.client.guest.get_or_create("two"))
    test.backend.abandon()
    alone = HostSettings(alone=one, stop_grace=0.05)
    host = Host(App.definitions(), test.store, clock=test.clock, settings=alone)
    host.start()
    await test.clock.advance(AFTER)
    assert host.resident == 0
    assert await lives(test, one)
    await test.clock.advance(LATEST - AFTER)
    assert not await lives(test, one)
    assert await lives(test, two)
    pending = test.clock.pending
    await test.clock.advance(600)
    assert test.clock.pending <= pending
    await host.close()


async def test_types_without_it_have_no_part(test: Setup[App]) -> None:
    class Plain(Actor[State]):
        @action
        def get(self) -> int:
            return self.state.count

    class Others(Registry):
        plain = use(Plain)

    async with setup_test(Others, store=MemoryStore()) as other:
        actor = await started(other, other.client.plain.get_or_create("k"))
        assert await other.client.plain.get("k").get() == 0
        assert part(other, actor, "disuse") is None
        assert await other.store.next_alarm() is None
