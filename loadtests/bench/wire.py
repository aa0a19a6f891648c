"""Actions over the wire of one server: HTTP by wrk, WebSocket by a lean client."""

from __future__ import annotations

import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import quote

import uvloop
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from loadtests.bench.processes import cpu_seconds
from loadtests.bench.report import Report, Row

SECONDS = 4
QUERY = json.dumps({"getOrCreateForKey": {"name": "counter", "key": ["bench"]}})


@contextmanager
def server(store: str) -> Generator[tuple[str, int]]:
    """A real `rivet-ray dev`; its address and process id."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "rivet_ray", "dev"),
            *("examples.counter:App", "--port", "0", "--store", store),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.search(r"http://([\d.]+:\d+)", first)
        assert found, first
        yield found[1], process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)


def http(
    address: str, pid: int, connections: int, action: str = "increment"
) -> tuple[float, float, float]:
    """Actions a second, p50 in ms, and server CPU in µs for each action."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f"wrk.method = 'POST'\nwrk.body = '{_body(action)}'\n"
            'wrk.headers["X-RivetKit-Encoding"] = "json"\n'
            f"wrk.headers[\"X-RivetKit-Query\"] = '{QUERY}'\n"
        )
        script.flush()
        before = cpu_seconds(pid)
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{connections}", f"-d{SECONDS}", "--latency"),
                *("-s", script.name, f"http://{address}/registry/actors/actions/{action}"),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        spent = cpu_seconds(pid) - before
    assert "Non-2xx" not in done.stdout, done.stdout
    requests = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    latency = re.search(r"50%\s+([\d.]+)(us|ms|s)", done.stdout)
    assert requests, done.stdout
    assert latency, done.stdout
    rate = float(requests[1])
    p50 = float(latency[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[latency[2]]
    return rate, p50, spent / (rate * SECONDS) * 1e6


def _body(action: str) -> str:
    return '{"a":[1]}' if action == "increment" else '{"a":[]}'


async def websocket(
    address: str, number: int, in_flight: int, action: str = "increment"
) -> tuple[float, float]:
    """Actions a second over one socket, and p50 in ms."""
    offered = (f"query.{quote(QUERY, safe='')}", "encoding.json", "rivetkit")
    protocols = [Subprotocol(item) for item in offered]
    url = f"ws://{address}/registry/actors/connect/websocket"
    async with connect(url, subprotocols=protocols, compression=None) as socket:
        await socket.recv()
        sent = 0
        arguments = _body(action)[1:-1]
        times: dict[int, float] = {}
        waits: list[float] = []

        async def send() -> None:
            nonlocal sent
            times[sent] = time.perf_counter()
            await socket.send(f'{{"b":{{"ar":{{"i":{sent},"n":"{action}",{arguments}}}}}}}')
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


def run(report: Report, *, repetitions: int) -> None:
    """Add the rows, for the memory and the file store."""
    for store in ("memory", "file"):
        with tempfile.TemporaryDirectory() as directory:
            url = "memory://" if store == "memory" else f"file://{directory}"
            with server(url) as (address, pid):
                _rows(report, store, address, pid, repetitions)


def _rows(report: Report, store: str, address: str, pid: int, repetitions: int) -> None:
    label = f"standalone, {store} store, increment"
    if shutil.which("wrk"):
        for connections in (1, 64):
            http(address, pid, connections)
            found = [http(address, pid, connections) for _ in range(repetitions)]
            name = f"{label}: HTTP, {connections} connections"
            report.add(Row(name, "/s", [item[0] for item in found]))
            report.add(Row(f"{name}, p50", "ms", [item[1] for item in found]))
            report.add(Row(f"{name}, server CPU", "µs", [item[2] for item in found]))
    else:
        print("wrk is not installed; no HTTP rows")
    for in_flight, number in ((1, 4_000), (64, 40_000)):
        uvloop.run(websocket(address, number, in_flight))
        pairs = [uvloop.run(websocket(address, number, in_flight)) for _ in range(repetitions)]
        name = f"{label}: WebSocket, {in_flight} in flight"
        report.add(Row(name, "/s", [item[0] for item in pairs]))
        report.add(Row(f"{name}, p50", "ms", [item[1] for item in pairs]))
