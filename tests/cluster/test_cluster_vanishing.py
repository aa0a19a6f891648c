"""Clients that vanish without a word behind HAProxy, which alone sees their sockets (ADR 37)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cluster_worlds import PATIENCE, ServeProcess
from counted_actors import App
from network import Network, network
from openings import opening
from redis_server import RedisServer

RETRIES = 5
"""`net.ipv4.tcp_retries2`: the kernel gives up 12.6 s after what was sent last, and not 924 s."""
BOUNDS = {"websocket": 21.0, "sse": 15.0 + 12.6}
"""Seconds: two of the pings and its close; a comment and the kernel's patience."""
SLACK = 6.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def be_impatient() -> None:
    """In the namespace of the test alone."""
    Path("/proc/sys/net/ipv4/tcp_retries2").write_text(str(RETRIES))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Network, ServeProcess]]:
    """A cluster on this machine, which a client on another one can reach."""
    with network() as found:
        be_impatient()
        redis = RedisServer(tmp_path).start()
        options = ("--host", "0.0.0.0", "--replicas", "2", "--spare-workers", "0")
        served = ServeProcess(redis.url(), "coordinate", *options)
        await served.start()
        yield found, served
        found.returns()
        await served.end()
        redis.stop()


async def test_a_client_that_vanishes(served: tuple[Network, ServeProcess]) -> None:
    net, process = served
    port = int(process.url.rpartition(":")[2])
    async with App.client(f"http://127.0.0.1:{port}", timeout=PATIENCE) as beside:
        writers = []
        for transport in BOUNDS:
            await beside.counter.get_or_create(transport).read()
            reader, writer = await asyncio.open_connection(sock=net.connect(port))
            writer.write(opening(transport, "counter", transport, "ann"))
            assert b"\r\n" in await reader.read(1_000)
            writers.append(writer)
            hooks = beside.counter.get(transport).hooks
            await until(hooks, ["connect ann"], PATIENCE)
        net.vanishes()
        begun = time.monotonic()
        for transport in BOUNDS:
            hooks = beside.counter.get(transport).hooks
            left = begun + BOUNDS[transport] + SLACK - time.monotonic()
            await until(hooks, ["connect ann", "disconnect ann"], left)
            print(f"{transport}: noticed after {time.monotonic() - begun:.1f} s")
        for writer in writers:
            writer.transport.abort()


async def until(ask: object, expected: list[str], seconds: float) -> None:
    assert callable(ask)
    end = time.monotonic() + seconds
    while (found := await ask()) != expected:
        assert time.monotonic() < end, f"it is still {found}"
        await asyncio.sleep(0.1)
