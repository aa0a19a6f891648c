"""Actors that leave memory all the time, and are called by their ids when they have.

Each wake is a claim on one connection to Redis beside look-ups on others, whose
replies may come in another order than they were computed in. A Redis that nothing
has happened to must never count as one that lost its data (ADR 27).

    python tests/faults/faults_waking.py --minutes 2 redis://127.0.0.1:6379
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from faults_server import Server

from rivet_ray import Actor, Client, Registry, RivetError, action, use
from rivet_ray.client.handle import ActorHandle

SLEEPERS, HERDS = 8, 4
HERD = 24
"""Calls at once."""


@dataclass
class SleeperState:
    woken: int = 0


class Sleeper(Actor[SleeperState]):
    public = True
    sleep_after = 0.05

    def on_start(self) -> None:
        self.state.woken += 1

    @action(readonly=True)
    def woken(self) -> int:
        return self.state.woken

    @action
    def touch(self) -> int:
        return self.state.woken


class App(Registry):
    sleeper = use(Sleeper)


@dataclass
class Load:
    """What a load has seen. A failure ends it."""

    wakes: int = 0
    calls: int = 0
    failures: Counter[str] = field(default_factory=Counter[str])

    async def run(self, url: str, seconds: float) -> None:
        """Load the server at `url` for so long, or until something has failed."""
        until = time.monotonic() + seconds
        async with Client(url, timeout=20) as client, asyncio.TaskGroup() as group:
            for number in range(SLEEPERS):
                group.create_task(self._pairs(client, f"pair-{number}", until))
            for number in range(HERDS):
                group.create_task(self._herds(client, f"herd-{number}", until))

    async def _pairs(self, client: Client, key: str, until: float) -> None:
        """Two calls by id each time the actor has left memory."""
        handle = await self._by_id(client, key)
        while time.monotonic() < until and not self.failures:
            await asyncio.sleep(0.07)
            await self._calls(handle, 2)

    async def _herds(self, client: Client, key: str, until: float) -> None:
        handle = await self._by_id(client, key)
        while time.monotonic() < until and not self.failures:
            await asyncio.sleep(0.1)
            await self._calls(handle, HERD)

    async def _by_id(self, client: Client, key: str) -> ActorHandle:
        return client.get_with_id(await client.actor("sleeper", key).resolve())

    async def _calls(self, handle: ActorHandle, count: int) -> None:
        results = await asyncio.gather(*(self._call(handle, number) for number in range(count)))
        self.wakes = max(self.wakes, *results)

    async def _call(self, handle: ActorHandle, number: int) -> int:
        self.calls += 1
        try:
            return int(await handle.call("touch" if number % 4 == 0 else "woken"))
        except RivetError as error:
            self.failures[error.code] += 1
            return 0


async def load_a_server(store: str, seconds: float) -> tuple[Load, str]:
    """A server of its own over `store` under this load; what was seen, and what it logged."""
    load = Load()
    with Server("faults_waking:App", store, wait=False) as server:
        await asyncio.to_thread(server.wait_until_it_serves)
        await load.run(server.url, seconds)
        return load, server.output


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", metavar="URL", help="a Redis with nothing in it that matters")
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    seen, output = asyncio.run(load_a_server(options.store, options.minutes * 60))
    print(output, seen, sep="\n")
    raise SystemExit(1 if seen.failures or "has confirmed" in output else 0)
