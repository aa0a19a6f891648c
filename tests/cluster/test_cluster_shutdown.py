"""SIGTERM ends `serve --ray` with all its processes within the grace (issue 14, item 3)."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress

import pytest
from cluster_worlds import PATIENCE, ServeProcess, alive
from counted_actors import App
from redis_server import RedisServer

pytestmark = pytest.mark.timeout(240)

GRACE = 15.0
SLACK = 10.0
"""Seconds of a machine under load."""
FOREVER = 1_000_000
WAYS = ["user code blocks the loop", "the store hangs"]


@pytest.mark.parametrize("way", WAYS)
async def test_it_ends_within_its_grace(store: str, redis: RedisServer, way: str) -> None:
    served = ServeProcess(store, "coordinate", "--grace", f"{GRACE:g}")
    await served.start()
    try:
        async with App.client(served.url, timeout=PATIENCE) as client:
            counter = client.counter.get_or_create("k")
            assert await counter.increment() == 1
            if way == WAYS[1]:
                redis.pause()
            waiting = asyncio.ensure_future(
                counter.block(FOREVER) if way == WAYS[0] else counter.increment()
            )
            await asyncio.sleep(0.5)
            assert not waiting.done()
            started = served.processes()
            began = time.monotonic()
            code = await served.end(signal.SIGTERM)
            assert time.monotonic() - began < GRACE + SLACK
            assert code in (0, 1)
            assert not alive(started)
            waiting.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await waiting
    finally:
        redis.go_on()
        await served.end()
