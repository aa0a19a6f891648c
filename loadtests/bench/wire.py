"""Actions over the wire of one server: HTTP by wrk, WebSocket by a lean client."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

import uvloop
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from loadtests.bench.processes import cpu_seconds
from loadtests.bench.report import Report, Row
from loadtests.bench.servers import rivet_ray

SECONDS = 4
QUERY = json.dumps({"getOrCreateForKey": {"name": "counter", "key": ["bench"]}})
SAVED, READ = "increment", "get_count"
ARGUMENTS = {SAVED: "[1]", READ: "[]"}


@dataclass(frozen=True)
class Target:
    """A server under load."""

    label: str
    address: str
    spent: Callable[[], Mapping[str, float]]
    """CPU seconds so far, by kind of process."""
    action: str = SAVED


def run(report: Report, *, repetitions: int) -> None:
    """Add the rows, for the memory and the file store."""
    for store in ("memory", "file"):
        with tempfile.TemporaryDirectory() as directory:
            url = "memory://" if store == "memory" else f"file://{directory}"
            with rivet_ray("dev", "examples.counter:App", "--store", url) as (address, pid):
                label = f"standalone, {store} store, increment"
                target = Target(label, address, partial(_spent, pid))
                if shutil.which("wrk"):
                    add_http(report, target, repetitions)
                else:
                    print("wrk is not installed; no HTTP rows")
                add_websocket(report, target, repetitions)


def _spent(pid: int) -> dict[str, float]:
    return {"server": cpu_seconds(pid)}


def add_http(report: Report, target: Target, repetitions: int) -> None:
    """Rates, p50 and the CPU of each kind of process, at 1 and at 64 connections."""
    for connections in (1, 64):
        http(target.address, connections, target.action)
        pairs: list[tuple[float, float]] = []
        costs: dict[str, list[float]] = {}
        for _ in range(repetitions):
            before = target.spent()
            pairs.append(http(target.address, connections, target.action))
            for kind, seconds in target.spent().items():
                cost = (seconds - before.get(kind, 0.0)) / (pairs[-1][0] * SECONDS) * 1e6
                costs.setdefault(kind, []).append(cost)
        name = f"{target.label}: HTTP, {connections} connections"
        _add_pairs(report, name, pairs)
        for kind, values in sorted(costs.items()):
            report.add(Row(f"{name}, CPU of {kind}", "µs", values))


def add_websocket(report: Report, target: Target, repetitions: int) -> None:
    """Rates and p50 over one socket, with 1 and with 64 in flight."""
    for in_flight, number in ((1, 4_000), (64, 40_000)):
        uvloop.run(websocket(target.address, number, in_flight, target.action))
        pairs = [
            uvloop.run(websocket(target.address, number, in_flight, target.action))
            for _ in range(repetitions)
        ]
        _add_pairs(report, f"{target.label}: WebSocket, {in_flight} in flight", pairs)


def _add_pairs(report: Report, name: str, pairs: list[tuple[float, float]]) -> None:
    report.add(Row(name, "/s", [rate for rate, _ in pairs]))
    report.add(Row(f"{name}, p50", "ms", [p50 for _, p50 in pairs]))


def http(address: str, connections: int, action: str = SAVED) -> tuple[float, float]:
    """Actions a second, and p50 in ms."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f"wrk.method = 'POST'\nwrk.body = '{{\"a\":{ARGUMENTS[action]}}}'\n"
            'wrk.headers["X-RivetKit-Encoding"] = "json"\n'
            f"wrk.headers[\"X-RivetKit-Query\"] = '{QUERY}'\n"
        )
        script.flush()
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{connections}", f"-d{SECONDS}", "--latency"),
                *("-s", script.name, f"http://{address}/registry/actors/actions/{action}"),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Non-2xx" not in done.stdout, done.stdout
    requests = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    latency = re.search(r"50%\s+([\d.]+)(us|ms|s)", done.stdout)
    assert requests, done.stdout
    assert latency, done.stdout
    rate = float(requests[1])
    p50 = float(latency[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[latency[2]]
    return rate, p50


async def websocket(
    address: str, number: int, in_flight: int, action: str = SAVED
) -> tuple[float, float]:
    """Actions a second over one socket, and p50 in ms."""
    offered = (f"query.{quote(QUERY, safe='')}", "encoding.json", "rivetkit")
    protocols = [Subprotocol(item) for item in offered]
    url = f"ws://{address}/registry/actors/connect/websocket"
    async with connect(url, subprotocols=protocols, compression=None) as socket:
        await socket.recv()
        sent = 0
        call = f'"n":"{action}","a":{ARGUMENTS[action]}'
        times: dict[int, float] = {}
        waits: list[float] = []

        async def send() -> None:
            nonlocal sent
            times[sent] = time.perf_counter()
            await socket.send(f'{{"b":{{"ar":{{"i":{sent},{call}}}}}}}')
            sent += 1

        started = time.perf_counter()
        for _ in range(in_flight):
            await send()
        for done in range(number):
            answer = json.loads(await socket.recv())
            waits.append(time.perf_counter() - times.pop(answer["b"]["ar"]["i"]))
            if done + in_flight < number:
                await send()
        took = time.perf_counter() - started
    return number / took, statistics.median(waits) * 1000
