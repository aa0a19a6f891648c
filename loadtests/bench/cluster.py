"""Actions on Ray: HAProxy, Serve, link, host, Redis; beside the naive build, in the same run."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager

import httpx
import uvloop

from loadtests.bench.processes import cpu_by_kind, memory_megabytes, of_kind
from loadtests.bench.report import Report, Row
from loadtests.bench.wire import SECONDS, http, websocket

CREATED = 5
"""Partition actors that are created one after another."""
SAVED, READ = "increment", "get_count"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def redis(fsync: str) -> Generator[tuple[str, int]]:
    """A Redis with an append-only file; its URL and process id."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [
                *("redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""),
                *("--appendonly", "yes", "--appendfsync", fsync, "--dir", directory),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            for _ in range(500):
                with socket.socket() as tried:
                    if tried.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.01)
            yield f"redis://127.0.0.1:{port}/0", process.pid
        finally:
            process.terminate()
            process.wait()


@contextmanager
def served(store: str, topology: str) -> Generator[tuple[str, int]]:
    """A real `rivet-ray serve --ray`; its address and process id."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "rivet_ray", "serve", "examples.counter:App", "--ray"),
            *("--port", "0", "--store", store, "--topology", topology),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = ""
        for said in process.stdout:
            if "serves at" in said:
                break
        found = re.search(r"serves at http://([\d.]+:\d+)", said)
        assert found, said
        yield found[1], process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


@contextmanager
def naive() -> Generator[tuple[str, int]]:
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtests.bench.naive", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert "serves" in process.stdout.readline()
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def run(report: Report, *, repetitions: int) -> None:
    """Add the rows; none where wrk or redis-server is missing."""
    missing = [name for name in ("wrk", "redis-server") if shutil.which(name) is None]
    if missing:
        print(f"{' and '.join(missing)} not installed; no rows for Ray")
        return
    with naive() as (address, pid):
        _http(report, "naive build, no store, increment", address, pid, {}, SAVED, repetitions)
    for fsync in ("always", "everysec"):
        with redis(fsync) as (store, redis_pid):
            others = {"Redis": redis_pid}
            with served(store, "coordinate") as (address, pid):
                label = f"Serve, coordinate, Redis {fsync}"
                _rows(report, f"{label}, increment", address, pid, others, SAVED, repetitions)
                if fsync == "always":
                    read = "Serve, coordinate, read-only action"
                    _rows(report, read, address, pid, others, READ, repetitions)
    with redis("always") as (store, redis_pid), served(store, "partition") as (address, pid):
        label = "Serve, partition, Redis always, increment"
        _rows(report, label, address, pid, {"Redis": redis_pid}, SAVED, repetitions)
        _creation(report, address, pid)


def _rows(
    report: Report,
    label: str,
    address: str,
    pid: int,
    others: dict[str, int],
    action: str,
    repetitions: int,
) -> None:
    _http(report, label, address, pid, others, action, repetitions)
    for in_flight, number in ((1, 1_000), (64, 20_000)):
        uvloop.run(websocket(address, number, in_flight, action))
        pairs = [
            uvloop.run(websocket(address, number, in_flight, action)) for _ in range(repetitions)
        ]
        name = f"{label}: WebSocket, {in_flight} in flight"
        report.add(Row(name, "/s", [item[0] for item in pairs]))
        report.add(Row(f"{name}, p50", "ms", [item[1] for item in pairs]))


def _http(
    report: Report,
    label: str,
    address: str,
    pid: int,
    others: dict[str, int],
    action: str,
    repetitions: int,
) -> None:
    for connections in (1, 64):
        http(address, pid, connections, action)
        before = cpu_by_kind(pid, others)
        found = [http(address, pid, connections, action) for _ in range(repetitions)]
        after = cpu_by_kind(pid, others)
        name = f"{label}: HTTP, {connections} connections"
        report.add(Row(name, "/s", [item[0] for item in found]))
        report.add(Row(f"{name}, p50", "ms", [item[1] for item in found]))
        actions = sum(item[0] for item in found) * SECONDS
        for kind in sorted(after):
            spent = (after[kind] - before.get(kind, 0.0)) / actions * 1e6
            report.add(Row(f"{name}, CPU of {kind}", "µs", [spent]))


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
