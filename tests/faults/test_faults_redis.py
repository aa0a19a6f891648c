"""A whole `rivet-ray dev` over a Redis that fails in each of the ways that a Redis has.

No process of ours ends, service is back within 5 s of Redis, and what was told stays true.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from faults_clients import Handles, Raw
from faults_history import History
from faults_load import CLIENTS, ClientTask, Target, look
from faults_server import Server
from redis.asyncio import Redis
from redis_server import RedisServer

BACK_WITHIN = 5.0


LOADS_SLOWLY = ("--key-load-delay", "1500", "--loading-process-events-interval-bytes", "1024")


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    options = LOADS_SLOWLY if loading.__name__ in request.node.name else ()
    server = RedisServer(tmp_path, *options).start()
    yield server
    server.go_on()
    server.stop()


class World:
    """A Redis, a server on it, and clients that never give up."""

    def __init__(self, redis: RedisServer, server: Server, history: History) -> None:
        self.redis = redis
        self.server = server
        self.history = history
        self.control = Redis(port=redis.port, protocol=2)

    async def answers(self, more: int = 50, within: float = 20.0) -> float:
        """Wait for so many more answers; the seconds that took."""
        since, wanted = time.monotonic(), self.history.answered + more
        while self.history.answered < wanted:
            assert self.server.process.poll() is None, self.server.output[-2000:]
            assert time.monotonic() - since < within, self.server.output[-2000:]
            await asyncio.sleep(0.005)
        return time.monotonic() - since


@asynccontextmanager
async def loaded(redis: RedisServer) -> AsyncIterator[World]:
    """Load until the body ends; then what was told is compared with what is there."""
    history, target = History(), Target()
    with Server("faults_actors:App", redis.url(), wait=False) as server:
        await asyncio.to_thread(server.wait_until_it_serves)
        target.move(server.url)
        world = World(redis, server, history)
        clients = [ClientTask(number, 1, target, history) for number in range(CLIENTS)]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run())
            await world.answers()
            yield world
            for client in clients:
                client.stopping = True
        await target.aclose()
        assert server.process.poll() is None
        assert "Traceback" not in server.output
        assert history.violations(await look(server)) == []
        await world.control.aclose()
        server.kill()
    # Nor does it hang on what only the server or its Redis had in memory.
    await asyncio.to_thread(redis.kill)
    await asyncio.to_thread(redis.start)
    with Server("faults_actors:App", redis.url(), wait=False) as server:
        await asyncio.to_thread(server.wait_until_it_serves)
        assert history.violations(await look(server)) == []


async def killed(world: World) -> None:
    await asyncio.to_thread(world.redis.kill)
    await asyncio.sleep(1)
    await asyncio.to_thread(world.redis.start)


async def clients_killed(world: World) -> None:
    """In the middle of commits, many times."""
    for _ in range(40):
        await world.control.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.03)


async def out_of_memory(world: World) -> None:
    await world.control.config_set("maxmemory", 1)
    await asyncio.sleep(1.5)
    await world.control.config_set("maxmemory", 0)


async def loading(world: World) -> None:
    """It answers -LOADING for a second or two: slowly, key by key, from a rewritten file."""
    await world.control.bgrewriteaof()
    await _persistence(world, "aof_rewrite_in_progress", 0)
    await asyncio.to_thread(world.redis.kill)
    await asyncio.to_thread(world.redis.start)


async def a_replica(world: World) -> None:
    await world.control.replicaof("127.0.0.1", "1")
    await asyncio.sleep(1.5)
    await world.control.replicaof("NO", "ONE")


async def its_disk_fails(world: World) -> None:
    """-MISCONF: a snapshot could not be written."""
    in_the_way = world.redis.directory / "dump.rdb"
    await asyncio.to_thread(in_the_way.mkdir)
    await world.control.config_set("save", "3600 1")
    await world.control.bgsave()
    await _persistence(world, "rdb_last_bgsave_status", "err")
    await asyncio.sleep(1.5)
    await asyncio.to_thread(in_the_way.rmdir)
    await world.control.bgsave()
    await _persistence(world, "rdb_last_bgsave_status", "ok")


async def _persistence(world: World, field: str, wanted: object) -> None:
    async with asyncio.timeout(20):
        while (await world.control.info("persistence"))[field] != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def it_hangs(world: World) -> None:
    """Longer than a reply may take, so that some commits are carried out after their time."""
    world.redis.pause()
    await asyncio.sleep(6)
    world.redis.go_on()


FAULTS: dict[Callable[[World], Awaitable[None]], str] = {
    killed: "Connection refused|Connection closed|loads its data",
    clients_killed: "Connection closed|reset|went away",
    out_of_memory: "OOM",
    loading: "loads its data",
    a_replica: "READONLY",
    its_disk_fails: "MISCONF",
    it_hangs: "does not answer",
}


SLOW = (loading, a_replica, its_disk_fails)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=fault.__name__, marks=[pytest.mark.slow] * (fault in SLOW))
        for fault in FAULTS
    ],
)
async def test_service_is_back_soon_after(
    server: RedisServer, fault: Callable[[World], Awaitable[None]]
) -> None:
    """C2, C4, C8, with every client at work."""
    async with loaded(server) as world:
        await fault(world)
        took = await world.answers(CLIENTS)
        print(f"{fault.__name__}: back after {took:.2f} s, {dict(world.history.told())}")
        assert took < BACK_WITHIN
        assert re.search(FAULTS[fault], world.server.output), world.server.output[-2000:]


async def test_callers_learn_what_is_known_while_redis_is_away(server: RedisServer) -> None:
    """C8, C9: who needs the store to begin is told at once, who ran already is not guessed at."""
    with Server("faults_actors:App", server.url(), wait=False) as ours:
        await asyncio.to_thread(ours.wait_until_it_serves)
        client = Raw(ours.url)
        try:
            assert (await client.call("a", "append", "1")).told == "answer"
            await asyncio.to_thread(server.kill)
            since = time.monotonic()
            fresh = await client.call("b", "append", "1")
            assert time.monotonic() - since < 3
            assert (fresh.told, fresh.code) == ("not_started", "store_unavailable")
            running = await client.call("a", "append", "2")
            assert (running.told, running.code) == ("unknown", "store_unavailable")
            assert 9 < time.monotonic() - since < 16
            again = await client.call("a", "append", "3")
            assert (again.told, again.code) == ("not_started", "store_unavailable")
            await asyncio.to_thread(server.start)
            assert (await client.call("a", "append", "4")).answer == 2
            assert (await client.call("b", "append", "4")).answer == 1
        finally:
            await client.aclose()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_thirty_seconds_without_redis(server: RedisServer) -> None:
    async with loaded(server) as world:
        await asyncio.to_thread(world.redis.kill)
        await asyncio.sleep(30)
        await asyncio.to_thread(world.redis.start)
        assert await world.answers(CLIENTS) < BACK_WITHIN


async def test_a_redis_that_comes_back_empty_is_reported_and_not_used(
    server: RedisServer,
) -> None:
    """C2: no actor is created again silently; starting anew is the operator's word."""
    with Server("faults_actors:App", server.url(), wait=False) as ours:
        await asyncio.to_thread(ours.wait_until_it_serves)
        client, other = Raw(ours.url), Handles(ours.url)
        try:
            assert (await client.call("a", "append", "1")).answer == 1
            await asyncio.to_thread(server.kill)
            shutil.rmtree(server.directory / "appendonlydir")
            await asyncio.to_thread(server.start)
            await asyncio.sleep(0.1)
            told = {(await client.call("a", "append", "2")).told}
            for way in (client, other):
                for key in ("a", "b"):
                    result = await way.call(key, "append", "3")
                    assert result.code == "store_lost_data"
                    told.add(result.told)
            assert told == {"unknown", "not_started"}
        finally:
            await client.aclose()
            await other.aclose()
        assert ours.process.poll() is None
        assert ours.output.count("has lost our data") == 1
        assert "start every process" in ours.output
    with Server("faults_actors:App", server.url(), wait=False) as ours:
        await asyncio.to_thread(ours.wait_until_it_serves)
        client = Raw(ours.url)
        assert (await client.call("a", "append", "1")).answer == 1
        await client.aclose()
