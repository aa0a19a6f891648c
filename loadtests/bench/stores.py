"""Durable actions on each store, without any network before them: what a save costs.

Runs in a process of its own for each store, on uvloop, with the host that serves all
topologies. A state is one field of the given size, changed at each action.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import uvloop

from loadtests.bench.processes import cpu_seconds
from loadtests.bench.report import Report, Row
from loadtests.bench.servers import redis
from rivet_ray import Actor, Registry, action, use
from rivet_ray.client.client import Client
from rivet_ray.client.inline import InlineTransport
from rivet_ray.runtime import HostSettings, Standalone

SECONDS = 2.0
SIZES = {"1 KB": 1_000, "100 KB": 100_000, "1 MB": 1_000_000}
ACTORS = 64
"""Each in flight has an actor of its own, so that a commit carries up to 64."""
LIVES = 2_000
"""Actors that are created, and then woken."""


@dataclass
class DocumentState:
    revision: int = 0
    text: str = field(default="")


class Document(Actor[DocumentState]):
    @action
    def write(self, size: int) -> int:
        """A new text of that many bytes."""
        state = self.state
        state.revision += 1
        mark = str(state.revision)
        state.text = mark + "x" * (size - len(mark))
        return state.revision

    @action
    def touch(self) -> int:
        """A change beside the text, which stays as it is."""
        self.state.revision += 1
        return self.state.revision


class App(Registry):
    document = use(Document)


async def once(store: str, pid: int) -> dict[str, float]:
    """The rows of one store; `pid` is that of its server, 0 where there is none."""
    # A field of 1 MB is what is measured here, and nothing to warn of.
    settings = HostSettings(large_field=2 * max(SIZES.values()))
    backend = Standalone(App.definitions(), store, settings=settings)
    client = App(Client.over(InlineTransport(backend)))
    await backend.start()
    found: dict[str, float] = {}
    for label, size in SIZES.items():
        for in_flight in (1, ACTORS):
            place = f"{label}, {in_flight} in flight"
            found |= await _load(backend, client, place, in_flight, pid, size)
    place = f"a field beside 1 MB, {ACTORS} in flight"
    found |= await _load(backend, client, place, ACTORS, pid, 0)
    for in_flight in (1, ACTORS):
        found |= await _lives(backend, client, in_flight)
    await client.aclose()
    await backend.close()
    return found


async def _lives(backend: Standalone, client: App, in_flight: int) -> dict[str, float]:
    """Actors that are created, and actors that are woken, each for one action of 1 KB."""
    host, store = backend.host, backend.host.store
    keys = [f"life {in_flight} {number}" for number in range(LIVES)]
    found: dict[str, float] = {}
    for what in ("create", "wake"):
        found[f"{what}, {in_flight} in flight|/s"] = await _each(client, keys, in_flight)
        for key in keys:
            record = await store.find("default", "document", (key,))
            instance = host.running(record.id) if record else None
            if instance is not None:
                host.sleep(instance)
        while any([await _awake(backend, key) for key in keys]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


async def _awake(backend: Standalone, key: str) -> bool:
    record = await backend.host.store.find("default", "document", (key,))
    return record is not None and backend.host.running(record.id) is not None


async def _each(client: App, keys: list[str], in_flight: int) -> float:
    """How many of them are served each second, by `in_flight` callers."""
    left = iter(keys)

    async def work() -> None:
        for key in left:
            await client.document.get_or_create(key).write(SIZES["1 KB"])

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return len(keys) / (time.perf_counter() - started)


async def _load(
    backend: Standalone, client: App, place: str, in_flight: int, pid: int, size: int
) -> dict[str, float]:
    documents = [client.document.get_or_create(str(number)) for number in range(in_flight)]
    for document in documents:
        await document.write(size or SIZES["1 MB"])
    checkpointer = backend.host.checkpointer
    commits, trips = checkpointer.commits, checkpointer.round_trips
    used, server = _used(), cpu_seconds(pid) if pid else 0.0
    waits: list[float] = []
    end = time.perf_counter() + SECONDS

    async def work(number: int) -> None:
        document = documents[number]
        while (begun := time.perf_counter()) < end:
            await (document.write(size) if size else document.touch())
            waits.append(time.perf_counter() - begun)

    started = time.perf_counter()
    await asyncio.gather(*map(work, range(in_flight)))
    took, number = time.perf_counter() - started, len(waits)
    quantiles = statistics.quantiles(waits, n=100)
    found = {
        f"{place}|/s": number / took,
        f"{place}, p50|ms": quantiles[49] * 1e3,
        f"{place}, p99|ms": quantiles[98] * 1e3,
        f"{place}, CPU|µs": (_used() - used) / number * 1e6,
    }
    if in_flight > 1:
        written = checkpointer.commits - commits
        found[f"{place}, commits each round trip|"] = written / (checkpointer.round_trips - trips)
    if pid:
        found[f"{place}, CPU of Redis|µs"] = (cpu_seconds(pid) - server) / number * 1e6
    return found


def _used() -> float:
    """Seconds of the processor that all threads of this process have had."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def _place(kind: str) -> Generator[tuple[str, int]]:
    """The URL of a new store, and the process id of its server."""
    if kind == "memory":
        yield "memory://", 0
    elif kind == "file":
        with tempfile.TemporaryDirectory() as directory:
            yield f"file://{directory}", 0
    else:
        with redis(kind.removeprefix("Redis ")) as (url, pid):
            yield url, pid


def run(report: Report, *, repetitions: int) -> None:
    """Add the rows; those of Redis only where there is one."""
    kinds = ["memory", "file"]
    if shutil.which("redis-server"):
        kinds += ["Redis always", "Redis everysec"]
    else:
        print("redis-server is not installed; no rows for it")
    for kind in kinds:
        found = [_child(kind) for _ in range(repetitions)]
        for name in found[0]:
            place, _, unit = name.partition("|")
            report.add(Row(f"{kind} store: {place}", unit, [values[name] for values in found]))


def _child(kind: str) -> dict[str, float]:
    with _place(kind) as (store, pid):
        done = subprocess.run(
            [sys.executable, "-m", "loadtests.bench.stores", store, str(pid)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps(uvloop.run(partial(once, sys.argv[1], int(sys.argv[2]))())))
