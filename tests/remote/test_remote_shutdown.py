"""SIGTERM ends a process within its grace, whatever user code and the store do (issue 14, 3)."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from counted_actors import App
from redis_server import RedisServer
from remote_worlds import ACTORS, PATIENCE, HostProcess, gateway

GRACE = 4.0
SLACK = 6.0
"""Seconds of a machine under load."""
FOREVER = 1_000_000
WAYS = ["user code blocks the loop", "the store hangs"]


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@asynccontextmanager
async def stuck(url: str, redis: RedisServer, way: str) -> AsyncIterator[None]:
    """A server that cannot end by itself, with a call under way that nobody can answer."""
    async with App.client(url, timeout=PATIENCE) as client:
        counter = client.counter.get_or_create("k")
        assert await counter.increment() == 1
        if way == WAYS[1]:
            redis.pause()
        waiting = asyncio.ensure_future(
            counter.block(FOREVER) if way == WAYS[0] else counter.increment()
        )
        await asyncio.sleep(0.5)  # It is there by then, or the process ends all the sooner.
        assert not waiting.done()
        yield
        waiting.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await waiting


@pytest.mark.parametrize("way", WAYS)
async def test_a_host(store: str, redis: RedisServer, way: str) -> None:
    host = HostProcess(store, "--grace", f"{GRACE:g}")
    await host.start()
    async with gateway(store, host) as url, stuck(url, redis, way):
        began = time.monotonic()
        code = await host.end(signal.SIGTERM)
        assert time.monotonic() - began < GRACE + SLACK
        assert code in (0, 1)
        redis.go_on()


@pytest.mark.parametrize("way", WAYS)
async def test_run_server(store: str, redis: RedisServer, way: str) -> None:
    async with run_server(store) as (process, url), stuck(url, redis, way):
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), GRACE + SLACK)
        assert time.monotonic() - began < GRACE + SLACK
        assert code in (0, 1)
        redis.go_on()


SERVER = """
import socket
from counted_actors import App
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
print(f"listens at {port}", flush=True)
App.run_server(port=port, store=STORE, grace=GRACE)
"""


@asynccontextmanager
async def run_server(store: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    program = SERVER.replace("STORE", repr(store)).replace("GRACE", repr(GRACE))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), cwd=ACTORS, env=os.environ, stdout=-1, stderr=-1
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        found = re.search(rb"(\d+)$", line.strip())
        assert found is not None, line
        port = int(found[1])
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(OSError):
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                await asyncio.sleep(0.02)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
