"""Actions on Ray: HAProxy, Serve, link, host, Redis; beside the naive build, in the same run."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import httpx

from loadtests.bench.processes import cpu_by_kind, memory_megabytes, of_kind
from loadtests.bench.report import Report, Row
from loadtests.bench.servers import naive, redis, rivet_ray
from loadtests.bench.wire import READ, SAVED, Target, add_http, add_websocket

CREATED = 5
"""Partition actors that are created one after another."""


def run(report: Report, *, repetitions: int) -> None:
    """Add the rows; none where wrk or redis-server is missing."""
    missing = [name for name in ("wrk", "redis-server") if shutil.which(name) is None]
    if missing:
        print(f"{' and '.join(missing)} not installed; no rows for Ray")
        return
    with naive() as (address, pid):
        target = Target("naive build, no store, increment", address, partial(cpu_by_kind, pid, {}))
        add_http(report, target, repetitions)
    for fsync in ("always", "everysec"):
        with _served("coordinate", fsync) as (target, _):
            _add(report, target, repetitions)
            if fsync == "always":
                label = "Serve, coordinate, read-only action"
                _add(report, replace(target, label=label, action=READ), repetitions)
    with _served("partition", "always") as (target, pid):
        _add(report, target, repetitions)
        _creation(report, target.address, pid)


@contextmanager
def _served(topology: str, fsync: str) -> Generator[tuple[Target, int]]:
    """The real thing on a Redis of its own; with its process id."""
    label = f"Serve, {topology}, Redis {fsync}, increment"
    with redis(fsync) as (store, redis_pid):
        arguments = ("serve", "examples.counter:App", "--ray")
        options = ("--store", store, "--topology", topology)
        with rivet_ray(*arguments, *options) as (address, pid):
            yield Target(label, address, partial(cpu_by_kind, pid, {"Redis": redis_pid})), pid


def _add(report: Report, target: Target, repetitions: int) -> None:
    add_http(report, target, repetitions)
    add_websocket(report, target, repetitions)


def _creation(report: Report, address: str, pid: int) -> None:
    """Partition actors, each with the start of its process; and what they weigh."""
    times: list[float] = []
    with httpx.Client(timeout=60) as client:
        for number in range(CREATED):
            query = {"getOrCreateForKey": {"name": "counter", "key": [f"new {number}"]}}
            begun = time.perf_counter()
            answer = client.post(
                f"http://{address}/registry/actors/actions/{SAVED}",
                headers={"X-RivetKit-Encoding": "json", "X-RivetKit-Query": json.dumps(query)},
                content='{"a":[1]}',
            )
            answer.raise_for_status()
            times.append((time.perf_counter() - begun) * 1000)
    report.add(Row("Serve, partition: create and first call, cold", "ms", times))
    memory = [memory_megabytes(process) for process in of_kind(pid, "host")]
    report.add(Row("Serve, partition: memory of an actor's process", "MB", memory))
