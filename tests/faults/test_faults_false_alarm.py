"""A Redis to which nothing happens never counts as one that lost its data (ADR 27)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults_waking import load_a_server
from redis_server import RedisServer

MINUTES = float(os.environ.get("RIVET_FAULTS_MINUTES", "10"))
"""How long the slow test loads its server."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


async def check(redis: RedisServer, seconds: float) -> None:
    load, output = await load_a_server(redis.url(), seconds)
    print(f"{load.calls} calls, {load.wakes} wakes of one actor at most")
    assert not load.failures, f"{load.failures}\n{output[-2000:]}"
    assert load.wakes > seconds
    for alarm in ("lost our data", "older data", "newer store"):
        assert alarm not in output


async def test_actors_that_sleep_and_are_called_by_id_in_herds(redis: RedisServer) -> None:
    await check(redis, 5)


@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 60 + 60)
async def test_the_same_for_minutes(redis: RedisServer) -> None:
    await check(redis, MINUTES * 60)
