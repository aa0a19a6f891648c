"""Hosts on Ray: what their start costs, what they weigh, how long a killed one is missed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager

import httpx

from loadtests.bench.processes import memory_megabytes, of_kind
from loadtests.bench.report import Report, Row
from loadtests.bench.servers import redis, rivet_ray
from loadtests.bench.wire import SAVED

REST = 3.0
"""Seconds in which what was used is ready again."""


def run(report: Report, *, often: int) -> None:
    """Add the rows, each of `often` creations or deaths; none where redis-server is missing."""
    if shutil.which("redis-server") is None:
        print("redis-server not installed; no rows for hosts on Ray")
        return
    for topology in ("partition", "coordinate"):
        for spares, label in ((0, "cold"), (2, "with a pre-started worker")):
            with _served(topology, spares) as (client, pid):
                if topology == "partition":
                    _creation(report, client, pid, label, often)
                _deaths(report, client, pid, f"Serve, {topology}: host killed, {label}", often)


@contextmanager
def _served(topology: str, spares: int) -> Generator[tuple[httpx.Client, int]]:
    """A client of the real thing on a Redis of its own; with its process id."""
    options = ("--topology", topology, "--spare-workers", str(spares))
    with (
        redis("always") as (store, _),
        rivet_ray(
            "serve", "loadtests.bench.keyed:App", "--ray", "--store", store, *options
        ) as served,
        httpx.Client(base_url=f"http://{served[0]}", timeout=60) as client,
    ):
        yield client, served[1]


def _call(client: httpx.Client, key: str, once: str | None = None) -> None:
    """With `once`, an idempotency key, the gateway may send it again."""
    query = {"getOrCreateForKey": {"name": "counter", "key": [key]}}
    headers = {"X-RivetKit-Encoding": "json", "X-RivetKit-Query": json.dumps(query)}
    if once is not None:
        headers["Idempotency-Key"] = once
    path = f"/registry/actors/actions/{SAVED}"
    client.post(path, headers=headers, content='{"a":[1]}').raise_for_status()


def _creation(report: Report, client: httpx.Client, pid: int, label: str, often: int) -> None:
    """Partition actors, each in a process of its own; and what they weigh."""
    times: list[float] = []
    for number in range(often):
        time.sleep(REST)
        begun = time.perf_counter()
        _call(client, f"new {number}")
        times.append((time.perf_counter() - begun) * 1000)
    report.add(Row(f"Serve, partition: create and first call, {label}", "ms", times))
    memory = [memory_megabytes(process) for process in of_kind(pid, "host")]
    report.add(Row(f"Serve, partition: memory of an actor's process, {label}", "MB", memory))


def _deaths(report: Report, client: httpx.Client, pid: int, label: str, often: int) -> None:
    """From kill -9 of the host to the answer of a call that is made at that moment."""
    before = set(of_kind(pid, "host"))
    _call(client, "killed")
    times: list[float] = []
    for number in range(often):
        time.sleep(REST)
        [host] = set(of_kind(pid, "host")) - before
        begun = time.perf_counter()
        os.kill(host, signal.SIGKILL)
        _call(client, "killed", f"death {number}")
        times.append((time.perf_counter() - begun) * 1000)
    report.add(Row(label, "ms", times))
