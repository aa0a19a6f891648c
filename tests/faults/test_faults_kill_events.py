"""kill -9 while an actor gives events: none is missed unsaid, and no number means two (C5).

The actor gives durable events and others, from actions that change its state and from actions
that change nothing. Subscribers of every kind stay while the server, or the host behind their
gateway, is killed again and again. `FAULTS_MINUTES` is how long the slow tests do it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from faults_host import Host, gateway
from faults_server import Server
from faults_subscribers import EVENTS, Raw, Told, audience
from redis_server import RedisServer, free_port

from rivet_ray import Client
from rivet_ray.client import reconnecting
from rivet_ray.errors import RivetError

MINUTES = float(os.environ.get("FAULTS_MINUTES", "1"))
KEY = "k"
PATIENCE = 40.0
"""Seconds; a client that comes back tries again after ten at the most."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that come back soon, so that there is time for many kills."""
    monkeypatch.setattr(reconnecting, "LONGEST_PAUSE", 1.0)


class Killed(ABC):
    """What is killed, and comes back in the same place."""

    url: str

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def kill(self) -> None: ...


class Standalone(Killed):
    def __init__(self, store: Path) -> None:
        self._store = store
        self._port = free_port()
        self._server: Server | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = Server("faults_actors:App", self._store, port=self._port)

    def kill(self) -> None:
        if self._server is not None:
            self._server.kill()


class HostBehindGateway(Killed):
    def __init__(self, store: str, port: int, url: str) -> None:
        self._store = store
        self._port = port
        self._host: Host | None = None
        self.url = url

    def start(self) -> None:
        self._host = Host(self._store, port=self._port)
        assert self._host.address

    def kill(self) -> None:
        if self._host is not None:
            self._host.__exit__()


@asynccontextmanager
async def standalone(directory: Path) -> AsyncIterator[Killed]:
    yield Standalone(directory / "store")


@asynccontextmanager
async def behind_gateway(directory: Path) -> AsyncIterator[Killed]:
    redis = await asyncio.to_thread(RedisServer(directory).start)
    port = free_port()
    try:
        async with gateway(redis.url(), f"127.0.0.1:{port}") as url:
            yield HostBehindGateway(redis.url(), port, url)
    finally:
        await asyncio.to_thread(redis.stop)


class Program:
    """Tells, kills, and compares. `await Program(killed).run(kills, until)`."""

    def __init__(self, killed: Killed, seed: int = 1) -> None:
        self.told: list[Told] = []
        self.kills = 0
        self.audience = audience(killed.url, KEY)
        self.first = 0
        self._killed = killed
        self._client = Client(killed.url, timeout=PATIENCE)
        self._dice = random.Random(seed)

    async def run(self, kills: int, until: float = 0.0) -> list[str]:
        """What is wrong, after `kills` kills or more, until that monotonic time."""
        await asyncio.to_thread(self._killed.start)
        listening = [asyncio.ensure_future(one.run()) for one in self.audience]
        try:
            await self._everybody_hears()
            self.first = len(self.told)
            while self.kills < kills or time.monotonic() < until:
                for _ in range(self._dice.randrange(5, 60)):
                    await self._tell()
                killing = asyncio.ensure_future(self._kill_soon())
                while await self._tell():
                    pass
                await killing
                await asyncio.to_thread(self._killed.start)
                if self._dice.random() < 0.5:
                    # Sometimes nothing is given until everybody is back.
                    await asyncio.sleep(self._dice.random())
            await self._everybody_hears()
        finally:
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
            await self._client.aclose()
            await asyncio.to_thread(self._killed.kill)
        return self.violations()

    def violations(self) -> list[str]:
        found = [line for one in self.audience for line in one.violations(self.told, self.first)]
        marks: dict[int, int] = {}
        for one in self.audience:
            for number, mark in one.numbers if isinstance(one, Raw) else ():
                if marks.setdefault(number, mark) != mark:
                    found.append(f"the number {number} means {marks[number]} and {mark}")
        return found

    async def _kill_soon(self) -> None:
        await asyncio.sleep(self._dice.random() * 0.01)
        await asyncio.to_thread(self._killed.kill)
        self.kills += 1

    async def _tell(self, event: str | None = None) -> bool:
        """Ask for one event, of any kind; whether the call was answered."""
        mark = len(self.told) + 1
        event = event or self._dice.choice(EVENTS)
        action = self._dice.choice(["change", "tell", "tell"])
        acknowledged = True
        try:
            await self._client.actor("teller", KEY).call(action, mark, event == "kept")
        except RivetError:
            acknowledged = False
        self.told.append(Told(mark, event, acknowledged))
        return acknowledged

    async def _everybody_hears(self) -> None:
        """Tell until the last of each kind is what everybody who wants it heard last."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for event in EVENTS:
                await self._tell(event)
            lasts = {told.event: told.mark for told in self.told if told.acknowledged}
            for _ in range(50):
                waiting = [
                    one
                    for one in self.audience
                    if one.last < max(lasts.get(event, 0) for event in one.events)
                ]
                if not waiting:
                    return
                await asyncio.sleep(0.01)
        names = ", ".join(one.name for one in waiting)
        raise AssertionError(f"not heard by {names}: {self.violations()[:20]}")


WAYS = pytest.mark.parametrize("way", [standalone, behind_gateway])


@WAYS
@pytest.mark.timeout(180)
async def test_events_over_kills(way: Callable[..., Any], tmp_path: Path) -> None:
    async with way(tmp_path) as killed:
        program = Program(killed)
        broken = await program.run(kills=3)
        assert not broken, f"{len(broken)}, the first of them {broken[:20]}"


@WAYS
@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 60 + 240)
async def test_events_over_many_kills(way: Callable[..., Any], tmp_path: Path) -> None:
    async with way(tmp_path) as killed:
        program = Program(killed, seed=int(time.time()))
        broken = await program.run(kills=10, until=time.monotonic() + 60 * MINUTES)
        print(f"{program.kills} kills, {len(program.told)} events")
        print({one.name: (len(one.seen), one.gaps) for one in program.audience})
        assert not broken, f"{len(broken)}, the first of them {broken[:20]}"
