"""The manual clock: time moves only when a test says so, and everything due happens."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar

import pytest

from rivet_ray.clock import Clock
from rivet_ray.testing import ManualClock

Log = list[tuple[str, float]]


async def test_it_stands_still() -> None:
    clock: Clock = ManualClock()
    assert clock.now() == 1_000_000_000.0
    assert clock.monotonic() == 0.0
    await asyncio.sleep(0.01)
    assert (clock.now(), clock.monotonic()) == (1_000_000_000.0, 0.0)
    assert ManualClock(5.5).now() == 5.5


async def test_both_times_advance() -> None:
    clock = ManualClock(100.0)
    await clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (102.5, 2.5)
    await clock.advance(0)
    assert (clock.now(), clock.monotonic()) == (102.5, 2.5)


async def test_small_steps_add_up() -> None:
    clock = ManualClock()
    fired: list[float] = []
    clock.call_later(1.0, lambda: fired.append(clock.monotonic()))
    for _ in range(9):
        await clock.advance(0.1)
    assert fired == []
    await clock.advance(0.1)
    assert fired == [1.0]


async def test_an_hour_takes_no_time() -> None:
    clock = ManualClock()
    begun = time.monotonic()
    await clock.advance(3600)
    assert time.monotonic() - begun < 5


async def test_timers_fire_in_the_order_of_their_times_and_see_them() -> None:
    clock = ManualClock(100.0)
    log: Log = []
    for delay in (3.0, 1.0, 2.0):
        clock.call_later(delay, lambda delay=delay: log.append((str(delay), clock.now())))
    await clock.advance(2.0)
    assert log == [("1.0", 101.0), ("2.0", 102.0)]
    await clock.advance(0.999)
    assert len(log) == 2
    await clock.advance(5.0)
    assert log[2:] == [("3.0", 103.0)]
    assert clock.now() == pytest.approx(107.999)


async def test_timers_of_one_time_fire_in_the_order_of_their_creation() -> None:
    clock = ManualClock()
    log: list[int] = []
    for number in range(10):
        clock.call_later(1.0, lambda number=number: log.append(number))
    await clock.advance(1.0)
    assert log == list(range(10))


async def test_a_timer_is_never_early() -> None:
    clock = ManualClock()
    log: list[str] = []
    await clock.advance(0.5)
    clock.call_later(1.0, lambda: log.append("fired"))
    await clock.advance(0.999_999)
    assert log == []
    await clock.advance(0.000_001)
    assert log == ["fired"]


@pytest.mark.parametrize("delay", [0.0, -1.0])
async def test_a_timer_without_delay_waits_for_the_next_advance(delay: float) -> None:
    clock = ManualClock()
    log: Log = []
    clock.call_later(delay, lambda: log.append(("fired", clock.monotonic())))
    assert log == []
    await clock.advance(0)
    assert log == [("fired", 0.0)]


async def test_timers_that_are_created_meanwhile_fire_too() -> None:
    clock = ManualClock()
    log: Log = []

    def tick() -> None:
        log.append(("tick", clock.monotonic()))
        clock.call_later(1.0, tick)

    clock.call_later(1.0, tick)
    clock.call_later(2.5, lambda: log.append(("other", clock.monotonic())))
    await clock.advance(3.5)
    assert log == [("tick", 1.0), ("tick", 2.0), ("other", 2.5), ("tick", 3.0)]
    assert clock.pending == 1


async def test_a_cancelled_timer_does_not_fire() -> None:
    clock = ManualClock()
    log: list[str] = []
    timer = clock.call_later(1.0, lambda: log.append("never"))
    later = clock.call_later(3.0, lambda: log.append("cancelled meanwhile"))
    clock.call_later(2.0, later.cancel)
    assert clock.pending == 3
    timer.cancel()
    timer.cancel()
    assert clock.pending == 2
    await clock.advance(5.0)
    assert log == []
    later.cancel()
    assert clock.pending == 0


async def test_a_timer_that_fired_can_be_cancelled() -> None:
    clock = ManualClock()
    log: list[str] = []
    timer = clock.call_later(1.0, lambda: log.append("fired"))
    await clock.advance(2.0)
    timer.cancel()
    await clock.advance(2.0)
    assert log == ["fired"]


async def test_what_a_timer_starts_is_done_before_the_next_fires() -> None:
    """Twenty hops over futures and tasks, each of which waits for the one before."""
    clock = ManualClock()
    loop = asyncio.get_running_loop()
    log: Log = []
    tasks: list[asyncio.Task[None]] = []

    async def hop(left: int) -> None:
        future: asyncio.Future[None] = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future
        if left:
            await loop.create_task(hop(left - 1))

    async def work(name: str) -> None:
        await hop(20)
        log.append((name, clock.monotonic()))

    for delay in (1.0, 2.0, 2.0):
        clock.call_later(delay, lambda: tasks.append(loop.create_task(work("work"))))
    await clock.advance(2.0)
    assert log == [("work", 1.0), ("work", 2.0), ("work", 2.0)]
    assert all(task.done() for task in tasks)


async def test_what_was_ready_before_is_done_at_the_old_time() -> None:
    clock = ManualClock()
    seen: list[float] = []

    async def work() -> None:
        await asyncio.sleep(0)
        seen.append(clock.monotonic())
        clock.call_later(1.0, lambda: seen.append(clock.monotonic()))

    task = asyncio.create_task(work())
    await clock.advance(1.0)
    assert seen == [0.0, 1.0]
    await task


async def test_the_wall_clock_jumps_alone() -> None:
    clock = ManualClock(100.0)
    fired: list[float] = []
    clock.call_later(2.0, lambda: fired.append(clock.now()))
    await clock.advance(1.0)
    clock.set_wall(50.0)
    assert (clock.now(), clock.monotonic()) == (50.0, 1.0)
    await clock.advance(1.0)
    assert fired == [51.0]
    clock.set_wall(1_000.0)
    assert (clock.now(), clock.monotonic()) == (1_000.0, 2.0)
    await clock.advance(0.25)
    assert clock.now() == 1_000.25


async def test_a_timer_runs_in_the_context_that_created_it() -> None:
    """As on an event loop: what a turn put into a context variable is there."""
    variable = ContextVar("variable", default="outside")
    clock = ManualClock()
    seen: list[str] = []

    async def turn() -> None:
        variable.set("turn")
        clock.call_later(1.0, lambda: seen.append(variable.get()))

    await asyncio.create_task(turn())
    await clock.advance(1.0)
    assert seen == ["turn"]


async def test_an_error_of_a_timer_is_raised_where_time_was_advanced() -> None:
    clock = ManualClock()
    log: list[str] = []

    def fail() -> None:
        raise LookupError("in a timer")

    clock.call_later(1.0, fail)
    clock.call_later(2.0, lambda: log.append("fired"))
    with pytest.raises(LookupError, match="in a timer"):
        await clock.advance(3.0)
    assert clock.monotonic() == 1.0
    await clock.advance(1.0)
    assert log == ["fired"]


async def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="set_wall"):
        await ManualClock().advance(-1.0)


async def test_time_is_moved_by_one_at_a_time() -> None:
    clock = ManualClock()
    first = asyncio.create_task(clock.advance(1.0))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already"):
        await clock.advance(1.0)
    await first
    await clock.advance(1.0)
    assert clock.monotonic() == 2.0


async def test_until_lets_time_pass_for_what_waits_for_it() -> None:
    clock = ManualClock()

    async def work() -> int:
        over = asyncio.Event()
        clock.call_later(30, over.set)
        await over.wait()
        return 7

    assert await clock.until(work()) == 7
    assert clock.monotonic() >= 30
    before = clock.monotonic()
    await clock.until(asyncio.sleep(0))
    assert clock.monotonic() == before
