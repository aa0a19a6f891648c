"""Measures the link on uvloop: `python tests/link/link_measure.py` prints a few lines.

Not a test. A `Counter` of the memory store is called through a link, with both
ends in one process and with the host in another; then bare messages are pushed.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable

import uvloop
from link_worlds import SECRET, State

from rivet_ray import Actor, action
from rivet_ray.clock import SystemClock
from rivet_ray.link import LinkClient, LinkServer
from rivet_ray.protocol.port import Hosting, Reply, Subscribe, ToGateway, ToHost
from rivet_ray.protocol.queries import GetOrCreate
from rivet_ray.registry import setup
from rivet_ray.runtime import Directory, Host, HostClient
from rivet_ray_drivers.memory import MemoryStore

SECONDS = 3.0
ARGUMENTS = b"\x91\x01"
MESSAGES = 400_000


class Quiet(Actor[State]):
    """An `increment` and nothing else."""

    @action
    def increment(self, amount: int = 1) -> int:
        self.state.count += amount
        return self.state.count


class Sponge:
    """A host that answers every thousandth message."""

    def __init__(self) -> None:
        self._seen = 0

    def open(self, receive: Callable[[ToGateway], None]) -> Sponge:
        self._receive = receive
        return self

    def send(self, message: ToHost) -> None:
        self._seen += 1
        if self._seen % 1000 == 0:
            self._receive(Reply(self._seen, None))

    def close(self) -> None:
        pass


async def serve() -> None:
    """Prints the addresses of a host and a sponge, and an actor's id; lives until stdin ends."""
    host, actor = await make_host()
    servers = [LinkServer(hosting, SECRET) for hosting in (host, Sponge())]
    for server in servers:
        await server.start()
    print(*(server.address for server in servers), actor, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def make_host() -> tuple[Host, str]:
    definitions = setup(use={"counter": Quiet}).definitions()
    store = MemoryStore()
    found = await Directory(definitions, store, SystemClock()).resolve(
        GetOrCreate("counter", ["k"])
    )
    return Host(definitions, store), found.id


async def measure_calls(name: str, host: Hosting, actor: str) -> None:
    calls = HostClient(host)
    times: list[int] = []
    for _ in range(3000):
        start = time.perf_counter_ns()
        await calls.call(actor, "increment", ARGUMENTS)
        times.append(time.perf_counter_ns() - start)
    alone = statistics.median(times[500:]) / 1000

    end = time.perf_counter() + SECONDS
    done = 0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await calls.call(actor, "increment", ARGUMENTS)
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(64)))
    rate = done / (time.perf_counter() - began)
    print(f"{name:<24} alone {alone:6.0f} µs   64 in flight {rate:9,.0f} calls/s")


async def measure_messages(name: str, address: str) -> None:
    link = LinkClient(address, SECRET)
    await link.connect()
    answers = asyncio.Event()
    seen = 0

    def receive(message: ToGateway) -> None:
        nonlocal seen
        seen += 1
        answers.set()

    session = link.open(receive)
    message = Subscribe("0123456789abcdef0123456789abcdef0123", "count_changed", True)
    start = time.perf_counter()
    for sent in range(0, MESSAGES, 1000):
        while sent // 1000 - seen > 8:
            answers.clear()
            await answers.wait()
        for _ in range(1000):
            session.send(message)
        await asyncio.sleep(0)
    while seen < MESSAGES // 1000:
        answers.clear()
        await answers.wait()
    took = time.perf_counter() - start
    megabytes = link.statistics.bytes_out / took / 1e6
    print(f"{name:<24} {MESSAGES / took:9,.0f} messages/s one way, {megabytes:.0f} MB/s")
    await link.close()


async def linked(name: str, address: str, actor: str) -> None:
    link = LinkClient(address, SECRET)
    await link.connect()
    await measure_calls(name, link, actor)
    await link.close()


async def main() -> None:
    host, actor = await make_host()
    await measure_calls("no link", host, actor)
    server, sponge = LinkServer(host, SECRET), LinkServer(Sponge(), SECRET)
    await server.start()
    await sponge.start()
    await linked("link, one process", server.address, actor)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "serve",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    there, sponge_there, actor_there = (await child.stdout.readline()).decode().split()
    await linked("link, two processes", there, actor_there)
    await measure_messages("messages, one process", sponge.address)
    await measure_messages("messages, two processes", sponge_there)
    child.stdin.close()
    await child.wait()
    await server.close()
    await sponge.close()
    await host.close()


if __name__ == "__main__":
    uvloop.run(serve() if sys.argv[1:] == ["serve"] else main())
