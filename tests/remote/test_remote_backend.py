"""A gateway's backend: opening and closing end, whatever the store and the placement do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rivet_ray import Actor, action
from rivet_ray.errors import StoreUnavailable
from rivet_ray.registry import setup
from rivet_ray.remote import Remote, Worker
from rivet_ray.remote.backend import PLACEMENT_CLOSE
from rivet_ray.remote.placement import Fixed
from rivet_ray.runtime import Standalone
from rivet_ray.runtime.patience import STORE_CLOSE, STORE_OPEN
from rivet_ray.testing import ManualClock
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore

SECRET = b"a secret of the cluster, for tests"


class Idle(Actor[None]):
    @action
    def nothing(self) -> None: ...


DEFINITIONS = setup(use={"idle": Idle}).definitions()


class Stuck(MemoryStore):
    async def close(self) -> None:
        await asyncio.Event().wait()


class StuckPlacement(Fixed):
    async def close(self) -> None:
        await asyncio.Event().wait()


class BrokenPlacement(Fixed):
    async def close(self) -> None:
        raise RuntimeError("it is broken")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stores that were opened; a URL with `stuck` never is."""
    urls: list[str] = []

    async def open_store(url: str) -> Any:
        urls.append(url)
        if url == "memory://stuck":
            await asyncio.Event().wait()
        return Stuck()

    monkeypatch.setattr("rivet_ray.runtime.patience.open_store", open_store)
    return urls


def remote(clock: ManualClock, url: str, placement: type[Fixed] = Fixed) -> Remote:
    return Remote(DEFINITIONS, url, placement("127.0.0.1:1"), secret=SECRET, clock=clock)


@pytest.mark.parametrize("placement", [StuckPlacement, BrokenPlacement])
async def test_closing_ends(
    opened: list[str], placement: type[Fixed], caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    backend = remote(clock, "memory://", placement)
    await backend.start()
    began = clock.monotonic()
    await clock.until(backend.close())
    assert clock.monotonic() - began <= PLACEMENT_CLOSE + STORE_CLOSE + 1
    assert "the placement is not closed in good order" in caplog.text
    assert "the store is not closed in good order" in caplog.text
    assert clock.pending == 0


@pytest.mark.parametrize("kind", ["remote", "standalone"])
async def test_a_store_that_does_not_open(opened: list[str], kind: str) -> None:
    """Who waits for the same try is told with it, and does not wait for one of its own."""
    clock = ManualClock()
    backend: Any = remote(clock, "memory://stuck")
    if kind == "standalone":
        backend = Standalone(DEFINITIONS, "memory://stuck", clock=clock)
    starting = [asyncio.ensure_future(backend.start()) for _ in range(5)]
    await settle()
    await clock.advance(STORE_OPEN - 1)
    assert not any(start.done() for start in starting)
    await clock.advance(2)
    told = await asyncio.gather(*starting, return_exceptions=True)
    assert [type(error) for error in told] == [StoreUnavailable] * 5
    assert opened == ["memory://stuck"]
    later = asyncio.ensure_future(backend.start())
    await settle()
    assert opened == ["memory://stuck"] * 2, "it is tried again"
    await clock.advance(STORE_OPEN + 1)
    with pytest.raises(StoreUnavailable):
        await later
    assert clock.pending == 0


async def test_a_host_tries_a_store_that_does_not_open_again(
    opened: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    worker = Worker(DEFINITIONS, "memory://stuck", secret=SECRET, clock=clock)
    running = asyncio.ensure_future(worker.run())
    await settle()
    for _ in range(3):
        await clock.advance(STORE_OPEN + 1)
    assert len(opened) >= 3
    assert "the store cannot be opened, trying again" in caplog.text
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert clock.pending == 0
