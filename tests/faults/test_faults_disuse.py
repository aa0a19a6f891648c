"""`destroy_after` over kill -9 of a real server on a real Redis: not early, and it happens."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults_guests import AFTER
from faults_server import Server
from redis_server import RedisServer

from rivet_ray import Client
from rivet_ray.store import Store, open_store

LOOKS = 30.0
"""Seconds that a busy machine may take to see it."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


async def gone(store: Store, actor: str, until: float) -> float:
    """The first time at which the actor is not there."""
    while await store.find_by_id(actor) is not None:
        assert time.time() < until, "it was not destroyed"
        await asyncio.sleep(0.02)
    return time.time()


@pytest.mark.parametrize("down", ["before", "over"])
async def test_destroyed_after_kill_9(redis: RedisServer, down: str) -> None:
    """Killed behind its last use, a read, and back before it expires, or down over that time."""
    url = redis.url()
    store, used = await open_store(url), 0.0
    try:
        with Server("faults_guests:App", url) as server:
            async with Client(server.url) as client:
                guest = client.actor("guest", "g")
                assert await guest.call("add") == 1
                actor = await guest.resolve()
                for _ in range(4):
                    await asyncio.sleep(0.3)
                    used = time.time()
                    assert await guest.call("get") == 1
            server.end(signal.SIGKILL)
        assert await store.find_by_id(actor) is not None
        if down == "over":
            await asyncio.sleep(max(0.0, used + 1.1 * AFTER + 0.2 - time.time()))
            assert await store.find_by_id(actor) is not None, "nobody is there who could"
        with Server("faults_guests:App", url) as server:
            assert await gone(store, actor, time.time() + AFTER + LOOKS) >= used + AFTER
            async with Client(server.url) as client:
                assert await client.actor("guest", "g").call("add") == 1
                assert await client.actor("guest", "g").resolve() == f"{actor}-2"
    finally:
        await store.close()
