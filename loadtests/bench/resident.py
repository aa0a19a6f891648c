"""Many idle actors in one host: what each costs, and how fast one is made or woken.

Runs in a process of its own, so that its memory is nothing but theirs.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from loadtests.bench.report import Report
from rivet_ray import Actor, Registry, action, use
from rivet_ray.client.client import Client
from rivet_ray.client.inline import InlineTransport
from rivet_ray.runtime import HostSettings, Standalone

WOKEN = 300
AT_ONCE = 200

NAMES = {
    "resident counter: memory each": "bytes",
    "create + first call, one after another": "/s",
    "create + first call, 200 at once": "/s",
    "wake a sleeping counter: p50": "ms",
    "wake a sleeping counter: p99": "ms",
}


@dataclass
class CounterState:
    count: int = 0


class Counter(Actor[CounterState]):
    sleep_after = math.inf

    @action
    def increment(self, amount: int) -> int:
        self.state.count += amount
        return self.state.count


class App(Registry):
    counter = use(Counter)


def resident_memory() -> int:
    """Bytes of this process that are in memory (Linux)."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def bounded(work: Iterable[Awaitable[object]], limit: int) -> None:
    """Run many awaitables, at most `limit` at once."""
    left = iter(work)

    async def worker() -> None:
        for item in left:
            await item

    await asyncio.gather(*(worker() for _ in range(limit)))


def open_backend(store: str) -> tuple[Standalone, App]:
    backend = Standalone(App.definitions(), store, settings=HostSettings())
    return backend, App(Client.over(InlineTransport(backend)))


async def once(number: int, directory: str) -> dict[str, float]:
    store = f"file://{directory}"
    backend, client = open_backend(store)
    await backend.start()
    counters = client.counter

    alone = 500
    started = time.perf_counter()
    for index in range(alone):
        await counters.get_or_create(f"alone-{index}").increment(1)
    one_by_one = alone / (time.perf_counter() - started)

    before = resident_memory()
    started = time.perf_counter()
    await bounded(
        (counters.get_or_create(f"c-{index}").increment(1) for index in range(number)), AT_ONCE
    )
    at_once = number / (time.perf_counter() - started)
    each = (resident_memory() - before) / number
    assert backend.host.resident == number + alone
    await backend.close()

    backend, client = open_backend(store)
    await backend.start()
    waits: list[float] = []
    for index in random.Random(1).sample(range(number), WOKEN):
        started = time.perf_counter()
        assert await client.counter.get(f"c-{index}").increment(1) == 2
        waits.append((time.perf_counter() - started) * 1000)
    await backend.close()
    quantiles = statistics.quantiles(waits, n=100)
    found = (each, one_by_one, at_once, statistics.median(waits), quantiles[98])
    return dict(zip(NAMES, found, strict=True))


def run(report: Report, *, number: int, repetitions: int) -> None:
    """Add the rows."""

    def child() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as directory:
            done = subprocess.run(
                [sys.executable, "-m", "loadtests.bench.resident", str(number), directory],
                capture_output=True,
                text=True,
                check=True,
            )
        found: dict[str, float] = json.loads(done.stdout)
        return found

    report.measure(NAMES, repetitions, child)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(once(int(sys.argv[1]), sys.argv[2]))))
