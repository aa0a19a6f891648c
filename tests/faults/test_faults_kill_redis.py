"""kill -9 of the server and of its Redis in turn, under load (C2, C3, C4, C8).

Redis runs with `appendfsync always`: nothing that was acknowledged may be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults_load import CLIENTS, Killing
from redis_server import RedisServer

FLOOR = 100


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


async def kill(redis: RedisServer, rounds: int, *, seed: int = 1, planted: str = "") -> Killing:
    killing = Killing(redis.url(), redis=redis, seed=seed, planted=planted, floor=FLOOR)
    await killing.run(rounds)
    return killing


def check(killing: Killing, rounds: int) -> None:
    told = killing.history.told()
    print(
        f"{killing.kills} servers and {killing.redis_kills} Redis killed, {dict(told)},"
        f" back within {killing.longest_return:.2f} s"
    )
    assert killing.broken == []
    assert killing.kills >= rounds
    assert killing.redis_kills >= rounds
    assert told["answer"] >= 2 * rounds * FLOOR
    assert 0 < told["unknown"] <= 2 * rounds * CLIENTS
    assert killing.longest_return < 5


async def test_two_kills_of_each(redis: RedisServer) -> None:
    """C2, C4, C8: nothing told is lost, nothing with a key is done twice, outcomes are true."""
    check(await kill(redis, 2), 2)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_thirty_kills_of_each(redis: RedisServer) -> None:
    check(await kill(redis, 30, seed=30), 30)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted", "seen"),
    [("early_gate", "told answer, found 0 times"), ("keys_forgotten", "found 2 times")],
)
async def test_a_planted_fault_is_seen(redis: RedisServer, planted: str, seen: str) -> None:
    broken = (await kill(redis, 4, planted=planted)).broken
    assert any(seen in words for words in broken), broken[:20]
