"""`redis://` with `appendfsync always` loses nothing acknowledged when Redis is killed (C2).

Records, index entries, alarms and sizes of an operation are there together, or none is.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_checker import Checker
from redis_server import RedisServer

from rivet_ray.store import open_store

WRITER = Path(__file__).with_name("crash_writer.py")
PATIENCE = 30.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, "--appendfsync", "always").start()
    yield server
    server.stop()


async def kill_under_writer(
    redis: RedisServer, checker: Checker, *options: str, kill_after: int
) -> None:
    """Let a writer tell that many lines, then kill Redis and start it again."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(WRITER), redis.url(), "--rounds=100000", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(kill_after)]
    redis.kill()
    try:
        output, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, said.decode()
    checker.read([*lines, *output.splitlines(keepends=True)])
    await asyncio.to_thread(redis.start)
    store = await open_store(redis.url())
    try:
        await checker.check(store, crashed=False)
    finally:
        await store.close()


@pytest.mark.timeout(180)
async def test_redis_killed_again_and_again(redis: RedisServer) -> None:
    dice = random.Random(1)
    checker = Checker()
    unknown = 0
    for seed in range(15):
        after = dice.randrange(1, 300)
        await kill_under_writer(redis, checker, f"--seed={seed}", kill_after=after)
        unknown += checker.unknown
    assert checker.acknowledged > 500
    assert unknown > 0, "it was never killed in the middle of an operation"


async def test_the_checker_finds_what_was_acknowledged_too_early(redis: RedisServer) -> None:
    dice = random.Random(1)
    checker = Checker()

    async def kill_until_it_is_found() -> None:
        for _ in range(10):
            after = dice.randrange(100, 300)
            await kill_under_writer(redis, checker, "--fault=unsent", kill_after=after)

    with pytest.raises(AssertionError, match="is none of"):
        await kill_until_it_is_found()
