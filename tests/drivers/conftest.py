"""A Redis for the tests of each file, which each of them finds empty, and a store in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis
from redis_server import RedisServer

from rivet_ray_drivers.redis import RedisStore, open_redis


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis(port=server.port, protocol=2) as client:
        await client.flushdb()
        yield client


@pytest.fixture
async def store(server: RedisServer, redis: Redis) -> AsyncIterator[RedisStore]:
    store = await open_redis(server.url())
    assert isinstance(store, RedisStore)
    yield store
    await store.close()
