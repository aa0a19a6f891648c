"""Actions on Ray: HAProxy, Serve, link, host, Redis; beside the naive build, in the same run."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from loadtests.bench.processes import cpu_by_kind
from loadtests.bench.report import Report
from loadtests.bench.servers import naive, redis, rivet_ray
from loadtests.bench.wire import READ, Target, add_http, add_websocket


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
    with _served("partition", "always") as (target, _):
        _add(report, target, repetitions)


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
