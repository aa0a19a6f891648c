"""Load on servers that are killed: clients that never give up, and whoever kills."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from pathlib import Path

from faults_clients import AGAIN, KINDS, LOST, Carrier, Handles, Result
from faults_history import Found, History, Operation
from faults_server import Server
from redis_server import RedisServer

ACTORS = [f"a{number}" for number in range(8)]
CLIENTS = 16
PLACES = [
    ("add", "add"),
    ("append", "append"),
    ("append", "append_later"),
    ("append", "append_and_fail"),
    ("append", "append_checked"),
    ("two_steps", "two_steps"),
    ("look", "look"),
]
WEIGHTS = [4, 6, 3, 1, 1, 2, 3]


class Target:
    """Where the server is, or was last."""

    def __init__(self) -> None:
        self.carriers: list[Carrier] = []
        self._all: list[Carrier] = []
        self._up = asyncio.Event()

    def move(self, url: str) -> None:
        self.carriers = [kind(url) for kind in KINDS]
        self._all += self.carriers
        self._up.set()

    def lost(self) -> None:
        """The server is going to be killed: who loses it waits for the next."""
        self._up.clear()

    async def wait(self) -> None:
        await self._up.wait()

    async def aclose(self) -> None:
        for carrier in self._all:
            await carrier.aclose()


class ClientTask:
    """One client: one call after the other, each with a token of its own."""

    def __init__(self, number: int, seed: int, target: Target, history: History) -> None:
        self._number = number
        self._dice = random.Random(f"{seed}/{number}")
        self._target = target
        self._history = history
        self._sent = 0
        self._answered: list[tuple[Operation, str]] = []
        self.stopping = False

    async def run(self) -> None:
        while not self.stopping:
            action = self._dice.choices(PLACES, WEIGHTS)[0]
            await self._one(*action)
            if self._answered and self._dice.random() < 0.1:
                await self._again(*self._dice.choice(self._answered))

    async def _one(self, kind: str, action: str) -> None:
        self._sent += 1
        token = f"{self._number}.{self._sent}"
        keyed = kind != "look" and self._dice.random() < 0.4
        actor = self._dice.choice(ACTORS)
        operation = self._history.begin(self._number, actor, kind, token, keyed)  # type: ignore[arg-type]
        result = await self._call(operation, action)
        while keyed and result.code in AGAIN:
            await self._target.wait()
            if result.code not in LOST:
                await asyncio.sleep(0.05)
            operation.tries += 1
            result = await self._call(operation, action)
        self._history.end(operation, result.told, result.answer)  # type: ignore[arg-type]
        if keyed and result.told == "answer":
            self._answered.append((operation, action))
            del self._answered[:-50]
        if result.code == "store_unavailable":
            await asyncio.sleep(0.05)  # Calls that do not start are quick.
        if result.code in LOST and self._dice.random() < 0.5:
            # Sometimes not, so that calls to a server that is gone are told about too.
            await self._target.wait()

    async def _again(self, operation: Operation, action: str) -> None:
        """An old key, perhaps of a server before this one."""
        result = await self._call(operation, action)
        if result.code not in AGAIN:
            self._history.repeated(operation, result.answer)

    async def _call(self, operation: Operation, action: str) -> Result:
        carrier = self._target.carriers[self._number % len(KINDS)]
        arguments: list[str] = [] if operation.kind in ("add", "look") else [operation.token]
        if action == "append_checked":
            arguments.append("once")
        once = operation.token if operation.keyed else None
        return await carrier.call(operation.actor, action, *arguments, once=once)


class Killing:
    """`await Killing(store).run(rounds)`, then look at `broken`."""

    def __init__(
        self,
        store: Path | str,
        *,
        redis: RedisServer | None = None,
        seed: int = 1,
        planted: str = "",
        floor: int = 200,
    ) -> None:
        """Each server is killed after `floor` calls that were answered, or later.

        With a Redis, that is killed too in each round, and once in a while both at once.
        """
        self.history = History()
        self.broken: list[str] = []
        self.kills = 0
        self.redis_kills = 0
        self.longest_return = 0.0
        """Seconds from a Redis that is there again to the next answer."""
        self._redis = redis
        self._servers: list[Server] = []
        self._store = store
        self._planted = planted
        self._floor = floor
        self._seed = seed
        self._dice = random.Random(seed)
        self._target = Target()

    async def run(self, rounds: int) -> None:
        """Kill `rounds` servers or some more, and compare."""
        clients = [
            ClientTask(number, self._seed, self._target, self.history) for number in range(CLIENTS)
        ]
        try:
            server = await self._start()
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(client.run())
                for _ in range(rounds):
                    if self._redis is not None:
                        await self._load()
                        await self._restart(self._redis)
                        assert server.process.poll() is None, "it did not outlive its Redis"
                    await self._load()
                    self._target.lost()
                    both = self._redis is not None and self._dice.random() < 0.2
                    if self._redis is not None and both:
                        await asyncio.to_thread(self._redis.kill)
                        self.redis_kills += 1
                    await self._kill(server)
                    if self._redis is not None and both:
                        await asyncio.to_thread(self._redis.start)
                    server = await self._start()
                # Who still has a key without an answer asks this last one.
                for client in clients:
                    client.stopping = True
            await self._target.aclose()
            found = await look(server)
            self.broken = self.history.violations(found)
            server.end(signal.SIGINT)
            server.kill()
            if self._redis is not None:
                await asyncio.to_thread(self._redis.kill)
                await asyncio.to_thread(self._redis.start)
            server = await self._start()
            if await look(server) != found:
                self.broken.append("a restart in good order changed what is there")
        finally:
            for server in self._servers:
                server.kill()
            await self._target.aclose()

    async def _restart(self, redis: RedisServer) -> None:
        await asyncio.to_thread(redis.kill)
        self.redis_kills += 1
        await asyncio.sleep(self._dice.random() * 0.5)
        answered = self.history.answered
        await asyncio.to_thread(redis.start)
        since = time.monotonic()
        while self.history.answered == answered:
            assert time.monotonic() - since < 10, "Redis is back and nothing is answered"
            await asyncio.sleep(0.005)
        self.longest_return = max(self.longest_return, time.monotonic() - since)

    async def _load(self) -> None:
        wanted = self.history.answered + self._floor
        for _ in range(6000):
            if self.history.answered >= wanted:
                break
            await asyncio.sleep(0.005)
        assert self.history.answered >= wanted, "the clients get no answers"
        await asyncio.sleep(self._dice.random() * 0.2)

    async def _start(self) -> Server:
        if self._dice.random() < 0.15:
            server = self._server()
            await asyncio.sleep(self._dice.random() * 0.8)
            await self._kill(server)
        server = self._server()
        await asyncio.to_thread(server.wait_until_it_serves)
        self._target.move(server.url)
        return server

    def _server(self) -> Server:
        server = Server("faults_actors:App", self._store, planted=self._planted, wait=False)
        self._servers.append(server)
        return server

    async def _kill(self, server: Server) -> None:
        await asyncio.to_thread(server.kill)
        self.kills += 1


async def look(server: Server) -> dict[str, Found]:
    """What the actors hold, asked over HTTP."""
    client = Handles(server.url)
    try:
        found: dict[str, Found] = {}
        for actor in ACTORS:
            result = await client.call(actor, "everything")
            assert result.told == "answer", result
            found[actor] = Found(**result.answer)
        return found
    finally:
        await client.aclose()
