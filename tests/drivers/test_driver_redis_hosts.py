"""The index of leases of `redis://`: what it names, and that it is bounded."""

from __future__ import annotations

import itertools

import pytest
from redis.asyncio import Redis

from rivet_ray.errors import StoreError
from rivet_ray.store import LEASE_KEPT, HostLease
from rivet_ray_drivers.redis import RedisStore
from rivet_ray_drivers.redis.layout import Layout

LAYOUT = Layout("rivet")
DAY = int(LEASE_KEPT)


def hosts_of_one_shard(count: int) -> tuple[list[str], bytes]:
    """Incarnations whose leases share a shard, and its index."""
    shard, _ = LAYOUT.lease("h0")
    names = (f"h{number}" for number in itertools.count())
    found = (name for name in names if LAYOUT.lease(name)[0] == shard)
    return list(itertools.islice(found, count)), LAYOUT.leases[shard]


async def test_the_index_is_swept_with_its_leases(store: RedisStore, redis: Redis) -> None:
    """By each write in its shard; and as a whole a day after the last one."""
    (one, two, three), index = hosts_of_one_shard(3)
    for name in (one, two, three):
        assert await store.renew_lease(name, 1)
    now = int((await redis.time())[0])
    await redis.zadd(index, {two: now - DAY - 1, three: now - DAY + 60})
    assert await store.renew_lease(one, 2)
    assert set(await redis.zrange(index, 0, -1)) == {one.encode(), three.encode()}
    assert DAY - 60 < await redis.ttl(index) <= DAY
    assert DAY - 60 < await redis.ttl(LAYOUT.lease(one)[1]) <= DAY


async def test_a_mark_writes_the_index_too(store: RedisStore, redis: Redis) -> None:
    (one, two), index = hosts_of_one_shard(2)
    for name in (one, two):
        assert await store.renew_lease(name, 1)
    now = int((await redis.time())[0])
    await redis.zadd(index, {one: now - 5000, two: now - DAY - 1})
    assert await store.mark_dead(one, 1)
    ((member, written),) = await redis.zrange(index, 0, -1, withscores=True)
    assert (member, written >= now) == (one.encode(), True)


async def test_an_ended_lease_leaves_nothing_in_the_index(store: RedisStore, redis: Redis) -> None:
    (one,), index = hosts_of_one_shard(1)
    assert await store.renew_lease(one, 1)
    await store.end_lease(one)
    assert not await redis.exists(index)


async def test_an_index_is_no_more_than_its_leases(store: RedisStore, redis: Redis) -> None:
    """What it names and has no lease is left out, such as after a half-done end."""
    (one, two), index = hosts_of_one_shard(2)
    for name in (one, two):
        assert await store.renew_lease(name, 1)
    await redis.delete(LAYOUT.lease(two)[1])
    assert await store.list_hosts() == [HostLease(one, 1)]
    await redis.zadd(index, {b"\xff": 2e9})
    with pytest.raises(StoreError, match="not written by us"):
        await store.list_hosts()


async def test_a_refused_renewal_writes_no_index(store: RedisStore, redis: Redis) -> None:
    """Nothing of a lease is written where the index has another kind of value."""
    (one,), index = hosts_of_one_shard(1)
    assert not await store.renew_lease(one, 2)
    assert not await redis.exists(index)
    await redis.set(index, "x")
    with pytest.raises(StoreError):
        await store.renew_lease(one, 1)
    assert await store.find_lease(one) is None
