"""A node of a cluster that lost its data, or is away when one looks, concerns its own shards."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis_cluster import RedisCluster, running

from rivet_ray.errors import StoreError, StoreLostData, StoreUnavailable
from rivet_ray.ids import actor_id
from rivet_ray.store import Claim, Commit, CommitResult, NewActor, Store
from rivet_ray_drivers.redis import open_redis
from rivet_ray_drivers.redis.cluster_store import ClusterStore
from rivet_ray_drivers.redis.layout import SHARDS, Layout, actor_name
from rivet_ray_drivers.redis.slots import slot_of

COMMITTED, ALREADY_DONE = CommitResult.COMMITTED, CommitResult.ALREADY_DONE
LAYOUT = Layout("rivet")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with running(RedisCluster(tmp_path_factory.mktemp("cluster"))) as cluster:
        yield cluster


@pytest.fixture
async def clients(cluster: RedisCluster) -> AsyncIterator[list[Redis]]:
    clients = [Redis(port=node.port, protocol=2) for node in cluster.nodes]
    for client in clients:
        await client.flushdb()
    yield clients
    for client in clients:
        await client.aclose()


async def opened(cluster: RedisCluster) -> ClusterStore:
    store = await open_redis(cluster.url())
    assert isinstance(store, ClusterStore)
    return store


@pytest.fixture
async def store(cluster: RedisCluster, clients: list[Redis]) -> AsyncIterator[ClusterStore]:
    store = await opened(cluster)
    yield store
    await store.close()


def shard_of(key: str) -> int:
    name = actor_name(actor_id("default", "counter", (key,)))
    assert name is not None
    return name.shard


def node_of(shard: int) -> int:
    """The first of three has slots up to 5,461, and so on."""
    return slot_of(LAYOUT.identities[shard]) // 5462


def keys_on_node(node: int, count: int) -> list[str]:
    """Of actors in different shards, none of them the first."""
    by_shard = {shard_of(key): key for key in map(str, range(3000))}
    shards = (shard for shard in by_shard if shard and node_of(shard) == node)
    return [by_shard[shard] for shard in itertools.islice(shards, count)]


async def owned(store: Store, key: str) -> Claim:
    record, _ = await store.create(NewActor("default", "counter", (key,)))
    claim = await store.claim(record.id, "owner")
    assert claim is not None
    return claim


def commit_of(claim: Claim, sequence: int = 1) -> Commit:
    return Commit(
        claim.record.id, claim.fence, sequence, put={"a": b"%d" % sequence}, type=claim.record.type
    )


async def results(store: Store, batch: list[Commit]) -> list[CommitResult | type[StoreError]]:
    """What became of each commit, or the kind of its error."""
    return [
        type(result) if isinstance(result, StoreError) else result
        for result in await store.commit(batch)
    ]


def said(caplog: pytest.LogCaptureFixture, level: int = logging.CRITICAL) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == level]


async def test_identities_are_read_and_given_in_one_round_trip_to_each_node(
    store: ClusterStore, clients: list[Redis]
) -> None:
    assert store.statistics().round_trips <= 1 + 3, "the slots, and the identities of each node"
    assert [await client.dbsize() for client in clients] == [0, 0, 0], "opening writes nothing"
    before = store.statistics().round_trips
    await owned(store, "a")
    used = store.statistics().round_trips - before
    assert used <= 20, (
        "the name of the store, of all shards, complete, create, claim, and NOSCRIPTs"
    )
    assert sum([await client.dbsize() for client in clients]) == SHARDS + 4


async def test_what_one_node_has_lost_is_refused_in_its_shards_alone(
    store: ClusterStore, cluster: RedisCluster, clients: list[Redis], caplog: Any
) -> None:
    """C2: the data of a node are gone; nothing is created there again silently."""
    lost, near = (
        await owned(store, keys_on_node(1, 1)[0]),
        await owned(store, keys_on_node(2, 1)[0]),
    )
    batch = [commit_of(lost), commit_of(near)]
    assert await results(store, batch) == [COMMITTED, COMMITTED]
    await clients[1].flushall()
    batch = [commit_of(lost, 2), commit_of(near, 2)]
    assert await results(store, batch) == [StoreLostData, COMMITTED]
    for operation in (
        store.find_by_id(lost.record.id),
        store.create(NewActor("default", "counter", lost.record.key)),
        store.claim(lost.record.id, "other"),
        store.list_actors("default"),
    ):
        with pytest.raises(StoreLostData, match="not there any more"):
            await operation
    assert await clients[1].dbsize() == 0
    assert len(said(caplog)) == 1
    fresh = await opened(cluster)
    assert "has lost the data of" in said(caplog, logging.ERROR)[0]
    assert await fresh.find_by_id(lost.record.id) is None
    assert (await fresh.create(NewActor("default", "counter", lost.record.key)))[1]
    assert await results(store, [commit_of(near, 3)]) == [COMMITTED]
    await fresh.close()


async def test_what_is_older_is_refused_for_good_on_its_node_alone(
    store: ClusterStore, clients: list[Redis]
) -> None:
    """A replica took over that was behind: any of its shards may have lost something."""
    first, second = keys_on_node(1, 2)
    older, beside = await owned(store, first), await owned(store, second)
    near = await owned(store, keys_on_node(2, 1)[0])
    identity = LAYOUT.identities[shard_of(first)].decode()
    changes = await clients[1].hget(identity, "changes")
    await clients[1].hset(identity, "changes", 0)
    with pytest.raises(StoreLostData, match="older data"):
        await store.find_by_id(older.record.id)
    await clients[1].hset(identity, "changes", int(changes or 0) + 9)
    batch = [commit_of(older), commit_of(beside), commit_of(near)]
    assert await results(store, batch) == [StoreLostData, StoreLostData, COMMITTED]
    with pytest.raises(StoreLostData):
        await store.claim(beside.record.id, "other")
    assert await store.find_by_id(near.record.id) == near.record


async def test_who_accepts_the_loss_of_the_last_moments_goes_on(
    cluster: RedisCluster, clients: list[Redis], caplog: Any
) -> None:
    store = await open_redis(f"{cluster.url()}&durability=everysec")
    older, near = (
        await owned(store, keys_on_node(1, 1)[0]),
        await owned(store, keys_on_node(2, 1)[0]),
    )
    identity = LAYOUT.identities[shard_of(older.record.key[0])].decode()
    await clients[1].hset(identity, "changes", 0)
    batch = [commit_of(older), commit_of(near)]
    assert await results(store, batch) == [StoreUnavailable, COMMITTED]
    assert await results(store, batch) == [COMMITTED, ALREADY_DONE]
    assert len(said(caplog)) == 1
    await store.close()


async def test_a_node_that_is_away_at_the_opening_is_looked_at_later(
    store: ClusterStore, cluster: RedisCluster, caplog: Any
) -> None:
    away, near = (
        await owned(store, keys_on_node(1, 1)[0]),
        await owned(store, keys_on_node(2, 1)[0]),
    )
    cluster.nodes[1].kill()
    try:
        fresh = await opened(cluster)
        batch = [commit_of(away), commit_of(near)]
        assert await results(fresh, batch) == [StoreUnavailable, COMMITTED]
        with pytest.raises(StoreUnavailable):
            await fresh.find_by_id(away.record.id)
    finally:
        cluster.nodes[1].start()
    await asyncio.to_thread(cluster.wait_until_whole)
    async with asyncio.timeout(5):
        while (found := await results(fresh, batch))[0] is StoreUnavailable:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert found == [COMMITTED, ALREADY_DONE]
    assert await fresh.find_by_id(away.record.id) == away.record
    assert said(caplog) == said(caplog, logging.ERROR) == []
    await fresh.close()


async def test_a_store_begins_though_a_node_is_away(
    store: ClusterStore, cluster: RedisCluster, clients: list[Redis], caplog: Any
) -> None:
    """But for that of the first shard, where its name is agreed on."""
    away = next(node for node in range(3) if node != node_of(0))
    near = next(node for node in range(3) if node not in (away, node_of(0)))
    cluster.nodes[away].kill()
    try:
        claim = await owned(store, keys_on_node(near, 1)[0])
        assert await results(store, [commit_of(claim)]) == [COMMITTED]
        with pytest.raises(StoreUnavailable):
            await owned(store, keys_on_node(away, 1)[0])
    finally:
        cluster.nodes[away].start()
    await asyncio.to_thread(cluster.wait_until_whole)
    async with asyncio.timeout(5):
        while True:
            try:
                late = await owned(store, keys_on_node(away, 1)[0])
                break
            except StoreUnavailable:
                await asyncio.sleep(0.02)
    assert await results(store, [commit_of(late), commit_of(claim, 2)]) == [COMMITTED, COMMITTED]
    fresh = await opened(cluster)
    assert await fresh.find_by_id(late.record.id) == late.record
    assert await clients[node_of(0)].hget(LAYOUT.identities[0].decode(), "complete") == b"1"
    assert said(caplog) == said(caplog, logging.ERROR) == []
    await fresh.close()
