"""C6: a schedule never fires early by the store's clock, whatever the host's says."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from counted_actors import App

from rivet_ray.errors import StoreUnavailable
from rivet_ray.runtime.store_clock import DRIFT, FRESH, STEP, StoreClock
from rivet_ray.testing import ManualClock, setup_test
from rivet_ray_drivers.memory import MemoryStore


class Timed(MemoryStore):
    """A store whose clock is apart from the host's, and a slow way to it and back."""

    def __init__(self, clock: ManualClock, ahead: float) -> None:
        super().__init__()
        self.clock = clock
        self.ahead = ahead
        self.there = self.back = 0.0
        self.away = False
        self.asked = 0

    def time(self) -> float:
        return self.clock.now() + self.ahead

    async def now(self) -> float:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("away")
        if self.there:
            await self.clock.advance(self.there)
        reading = self.time()
        if self.back:
            await self.clock.advance(self.back)
        return reading


@pytest.fixture
def inner() -> ManualClock:
    return ManualClock()


@pytest.mark.parametrize("ahead", [-3600.0, -0.5, 0.0, 7.0])
@pytest.mark.parametrize(("there", "back"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.2), (0.1, 0.3)])
async def test_it_is_never_ahead_and_late_by_the_way_back_alone(
    inner: ManualClock, ahead: float, there: float, back: float
) -> None:
    store = Timed(inner, ahead)
    store.there, store.back = there, back
    clock = StoreClock(inner, store)
    assert clock.now() == inner.now(), "nobody has asked the store yet"
    await clock.refresh()
    for _ in range(5):
        assert -back - DRIFT * FRESH - 1e-6 <= clock.now() - store.time() <= 1e-6
        await inner.advance(FRESH / 6)
    assert store.asked == 1
    await inner.advance(FRESH)
    await clock.refresh()
    assert store.asked == 2


async def test_the_reading_with_the_shortest_way_counts(inner: ManualClock) -> None:
    store = Timed(inner, 100.0)
    store.back = 0.01
    clock = StoreClock(inner, store)
    await clock.refresh()
    store.back = 0.5
    await inner.advance(FRESH)
    await clock.refresh()
    assert store.time() - clock.now() == pytest.approx(0.01 + DRIFT * FRESH, abs=1e-3)


@pytest.mark.parametrize("step", [-30.0, 30.0])
async def test_a_clock_of_the_store_that_was_set_is_followed(
    inner: ManualClock, step: float, caplog: pytest.LogCaptureFixture
) -> None:
    store = Timed(inner, 100.0)
    clock = StoreClock(inner, store)
    await clock.refresh()
    store.ahead += step
    await inner.advance(FRESH)
    with caplog.at_level(logging.WARNING):
        await clock.refresh()
    assert clock.now() == pytest.approx(store.time(), abs=1e-3)
    assert abs(step) > STEP
    assert "the store's clock was set by" in caplog.text


async def test_a_store_that_is_away_is_an_error_at_first_alone(inner: ManualClock) -> None:
    store = Timed(inner, 100.0)
    clock = StoreClock(inner, store)
    store.away = True
    with pytest.raises(StoreUnavailable):
        await clock.refresh()
    store.away = False
    await clock.refresh()
    store.away = True
    await inner.advance(2 * FRESH)
    await clock.refresh()
    assert clock.now() == pytest.approx(store.time(), abs=2 * FRESH * DRIFT + 1e-6)


def held(inner: ManualClock, store: Timed) -> Any:
    """The same, for a world whose time the test moves."""

    class Held(StoreClock):
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    return Held(inner, store)


async def test_an_alarm_of_another_host_waits_for_the_clock_of_the_store() -> None:
    """This host's clock is ten minutes ahead: to it, the alarm is long due."""
    inner = ManualClock()
    store = Timed(inner, -600.0)
    async with setup_test(App, store=store, clock=held(inner, store)) as other:
        counter = other.client.counter.get_or_create("k")
        await counter.increment_after(60_000)
        await other.backend.host.close()
    assert await store.next_alarm() == pytest.approx(store.time() + 60, abs=0.1)
    async with setup_test(App, store=store, clock=held(inner, store)) as test:
        await inner.advance(59)
        assert await test.client.counter.get("k").read() == 0
        await inner.advance(1.1)
        assert await test.client.counter.get("k").read() == 1
