"""`/health` says whether writes get through, by its status alone (A11)."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from examples.counter import App
from rivet_ray.client.client import Client
from rivet_ray.client.inline import InlineTransport
from rivet_ray.errors import StoreUnavailable
from rivet_ray.gateway import create_app
from rivet_ray.gateway import health as health_module
from rivet_ray.runtime import HostSettings, Standalone
from rivet_ray.store import Commit, Store
from rivet_ray.testing import ManualClock
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.file_system import open_directory
from rivet_ray_drivers.memory import MemoryStore

LIMIT = HostSettings().slow_save


class Slow(MemoryStore):
    """Its commits wait, and its probes fail, when told."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False
        self.hangs = False
        self.probes = 0

    async def commit(self, commits: Any) -> Any:
        await self.open.wait()
        return await super().commit(cast("list[Commit]", commits))

    async def probe(self) -> None:
        self.probes += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.broken:
            raise StoreUnavailable("Redis at 10.0.0.5:6379 does not answer")


class World:
    def __init__(self, store: Store) -> None:
        self.clock = ManualClock()
        self.backend = Standalone(App.definitions(), store, clock=self.clock)
        transport = httpx.ASGITransport(create_app(self.backend))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://host")
        self.client = App(Client.over(InlineTransport(self.backend)))

    async def health(self) -> int:
        answer = await self.http.get("/health")
        assert answer.json() == {"status": "ok" if answer.status_code == 200 else "unavailable"}
        return answer.status_code


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(health_module, "WRITE_EVERY", 0.0)
    world = World(Slow())
    await world.backend.start()
    yield world
    store: Any = world.backend.host.store
    store.open.set()
    await world.clock.until(world.backend.close())
    await world.http.aclose()


async def test_a_commit_that_waits(world: World) -> None:
    store: Any = world.backend.host.store
    counter = world.client.counter.get_or_create("k")
    assert await counter.increment(1) == 1
    store.open.clear()
    waiting = asyncio.ensure_future(counter.increment(1))
    await world.clock.advance(LIMIT)
    assert await world.health() == 200
    await world.clock.advance(0.1)
    assert await world.health() == 503
    store.open.set()
    assert await waiting == 2
    assert await world.health() == 200
    assert not world.backend.host.checkpointer._under_way_since


async def test_a_gather_that_never_comes(world: World) -> None:
    """As after a fault of the runtime itself (A1)."""
    counter = world.client.counter.get_or_create("k")
    assert await counter.increment(1) == 1
    checkpointer = world.backend.host.checkpointer
    checkpointer._gathering, checkpointer._gathering_since = True, world.clock.monotonic()
    waiting = asyncio.ensure_future(counter.increment(1))
    await world.clock.advance(LIMIT + 0.1)
    assert await world.health() == 503
    checkpointer._gather()
    assert await waiting == 2
    assert await world.health() == 200


async def test_the_reason_is_in_the_log_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """And not in the answer (D7)."""
    store: Any = world.backend.host.store
    caplog.set_level(logging.WARNING, "rivet_ray.gateway")
    for _ in range(2):
        store.broken = True
        for _ in range(5):
            assert await world.health() == 503
        store.broken = False
        for _ in range(5):
            assert await world.health() == 200
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4
    assert "10.0.0.5" in said[0]
    assert "200 again" in said[1]


async def test_many_probes_of_a_store_that_hangs_share_one_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "HEALTH_TIMEOUT", 0.1)
    store: Any = world.backend.host.store
    store.hangs = True
    began = time.monotonic()
    assert await asyncio.gather(*(world.health() for _ in range(50))) == [503] * 50
    assert store.probes == 1
    assert time.monotonic() - began < 5
    store.hangs = False
    assert await world.health() == 200


async def test_a_write_that_came_through_counts_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "WRITE_EVERY", 3_600.0)
    store: Any = world.backend.host.store
    for _ in range(10):
        assert await world.health() == 200
    assert store.probes == 1


async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anybody writing; and it is over when there is room again."""
    monkeypatch.setattr(health_module, "WRITE_EVERY", 0.0)
    full = False

    def step(name: str) -> None:
        if full and name == "before COMMIT":
            raise sqlite3.OperationalError("database or disk is full")

    store = await open_directory(tmp_path, step)
    world = World(store)
    await world.backend.start()
    assert await world.health() == 200
    full = True
    assert await world.health() == 503
    full = False
    assert await world.health() == 200
    await settle()
    await world.backend.close()
    await world.http.aclose()
    await store.close()
