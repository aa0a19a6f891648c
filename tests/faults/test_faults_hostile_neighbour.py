"""Twenty honest callers on a server, while somebody does each row of the cases to it.

No honest call fails or waits for long, memory stays below a bound, and the server says
what it refused. Rows are in `faults_neighbours` and `faults_strangers`; add yours there.
A9, a scheduled action that ends the process, is left out: it does end it, and how often it
runs again is in `test_runtime_schedule_faults`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import faults_strangers
import httpx
import pytest
from faults_hostile_actors import App
from faults_neighbours import ROWS, Place
from faults_server import Server

assert faults_strangers, "its rows are in ROWS by its import"

HONEST = 20
WAIT = 1.0
"""Seconds that an honest call may take, on a machine that has nothing else to do."""
QUICK_WAIT = 10.0
"""The same on one that has."""
MEMORY = 700
"""MiB that the server may grow by: the bounds of gateway and host, and what is around them."""


def peak(process: int) -> int:
    """The most memory that a process has had, in MiB."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return 0  # Not Linux.
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert found is not None
    return int(found[1]) // 1024


class Honest:
    """Calls an actor of their own again and again, as long as they are let."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.longest = 0.0

    async def work(self, url: str) -> None:
        async with App.client(url, timeout=30) as client:
            thing = client.thing.get_or_create(self.name, params=self.name)
            async with thing.connect(params=self.name) as connection:
                while True:
                    begun = time.monotonic()
                    keyed = thing.with_options(idempotency_key=f"{self.calls}")
                    assert await keyed.increment() == 2 * self.calls + 1
                    assert await connection.actor.increment() == 2 * self.calls + 2
                    self.calls += 1
                    self.longest = max(self.longest, (time.monotonic() - begun) / 2)
                    await asyncio.sleep(0.05)


async def endure(server: Server, name: str, *, short: bool) -> float:
    """Do one row to a server, and look after the others. The longest honest call."""
    before = peak(server.process.pid)
    which = f"{name}, short" if short else name
    everybody = [Honest(f"honest {number} {which}") for number in range(HONEST)]
    async with AsyncExitStack() as exits:
        http = await exits.enter_async_context(
            httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=400))
        )
        working = [asyncio.ensure_future(one.work(server.url)) for one in everybody]
        while not all(one.calls for one in everybody):
            _raise_failures(working)
            await asyncio.sleep(0.02)
        for one in everybody:
            one.longest = 0.0
        calls = sum(one.calls for one in everybody)
        try:
            await ROWS[name](Place(server.url, http, short, f"mallory {which}"))
            await asyncio.sleep(0.2)
            _raise_failures(working)
        finally:
            for one in working:
                one.cancel()
            await asyncio.gather(*working, return_exceptions=True)
    assert sum(one.calls for one in everybody) > calls, "the honest ones went on"
    grown = peak(server.process.pid) - before
    assert grown < MEMORY, f"{name}: the server grew by {grown} MiB"
    return max(one.longest for one in everybody)


def _raise_failures(working: list[asyncio.Future[None]]) -> None:
    for one in working:
        if one.done():
            one.result()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all rows: what a row leaves behind must not hurt those after it either."""
    store = tmp_path_factory.mktemp("hostile") / "store"
    with Server("faults_hostile_actors:App", store) as server:
        yield server
        assert server.process.poll() is None, server.output


@pytest.mark.slow  # one of them met its limit once beside another suite
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ROWS)
async def test_a_taste_of(name: str, server: Server) -> None:
    assert await endure(server, name, short=True) < QUICK_WAIT


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ROWS)
async def test_a_hostile_neighbour(name: str, server: Server) -> None:
    assert await endure(server, name, short=False) < WAIT


@pytest.mark.slow
async def test_the_counters_say_what_was_refused(server: Server) -> None:
    """After all rows."""
    async with httpx.AsyncClient() as http:
        told = (await http.get(f"{server.url}/metadata")).json()["gateway"]
    assert told["refused"].keys() >= {"connection", "subscriptions"}, told
    assert told["slowConsumers"] >= 1, told
    assert told["mostHeldBytes"] < 300 * 2**20
