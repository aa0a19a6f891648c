"""A Redis for the tests of this folder, and a store in it for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from redis_server import RedisServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


_prefixes = itertools.count()


@pytest.fixture
def store(redis: RedisServer) -> str:
    return redis.url(f"remote-{next(_prefixes)}")
