"""`redis+cluster://` keeps every promise of the store port, on a real cluster.

And what is its own: one round trip to each node, what spans shards, alarms without an index.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from driver_leases import age_on_redis
from redis.asyncio import Redis
from redis_cluster import RedisCluster, running
from redis_server import RedisServer

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray.ids import actor_id
from rivet_ray.store import ActorType, Claim, Commit, CommitResult, Fence, NewActor, Store
from rivet_ray.testing import DurableStoreConformance
from rivet_ray_drivers.memory import MemoryStore
from rivet_ray_drivers.redis import open_redis
from rivet_ray_drivers.redis import store as store_module
from rivet_ray_drivers.redis.cluster_store import ClusterStore
from rivet_ray_drivers.redis.layout import SHARDS, Layout, actor_name
from rivet_ray_drivers.redis.slots import SLOTS, slot_of

COMMITTED = CommitResult.COMMITTED


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with running(RedisCluster(tmp_path_factory.mktemp("cluster"))) as cluster:
        yield cluster


class TestRedisCluster(DurableStoreConformance):
    @pytest.fixture(autouse=True)
    def _place(self, cluster: RedisCluster, request: pytest.FixtureRequest) -> None:
        self.url = cluster.url(request.node.name)
        self.prefix, self.ports = request.node.name, [node.port for node in cluster.nodes]

    async def open_store(self) -> Store:
        return await open_redis(self.url)

    async def age_leases(self, store: Store, seconds: float) -> None:
        await age_on_redis(self.ports, self.prefix, seconds)


@pytest.fixture
async def clients(cluster: RedisCluster) -> AsyncIterator[list[Redis]]:
    clients = [Redis(port=node.port, protocol=2) for node in cluster.nodes]
    for client in clients:
        await client.flushdb()
    yield clients
    for client in clients:
        await client.aclose()


@pytest.fixture
async def store(cluster: RedisCluster, clients: list[Redis]) -> AsyncIterator[ClusterStore]:
    store = await open_redis(cluster.url())
    assert isinstance(store, ClusterStore)
    yield store
    await store.close()


def counter(key: str) -> NewActor:
    return NewActor("default", "counter", (key,))


async def owned(store: Store, key: str) -> Claim:
    record, _ = await store.create(counter(key))
    claim = await store.claim(record.id, "owner")
    assert claim is not None
    return claim


def commit_of(claim: Claim, sequence: int = 1, **change: Any) -> Commit:
    return Commit(claim.record.id, claim.fence, sequence, **change, type=claim.record.type)


# --- Slots -------------------------------------------------------------------


async def test_slots_are_those_of_redis(clients: list[Redis]) -> None:
    layout = Layout("my app")
    for key in (
        *layout.alarm_types[:5],
        b"",
        b"a",
        b"{}a",
        b"{a",
        b"a{b}c{d}",
        b"{{b}}c",
        "ä".encode(),
    ):
        assert slot_of(key) == await clients[0].execute_command("CLUSTER", "KEYSLOT", key)


def test_shards_are_spread_over_the_slots() -> None:
    thirds = [0, 0, 0]
    for key in Layout("rivet").ids:
        thirds[slot_of(key) * 3 // SLOTS] += 1
    assert sum(thirds) == SHARDS
    assert max(thirds) < 1.1 * SHARDS / 3


async def test_commits_take_one_round_trip_to_each_node(
    store: ClusterStore, clients: list[Redis]
) -> None:
    claims = [await owned(store, str(number)) for number in range(64)]
    shards = {name.shard for claim in claims if (name := actor_name(claim.record.id))}
    for client in clients:
        await client.config_resetstat()
    before = store.statistics().round_trips
    batch = [commit_of(claim, put={"a": b"1"}) for claim in claims]
    batch += [commit_of(claim, 2, put={"a": b"2"}) for claim in claims]
    assert await store.commit(batch) == [COMMITTED] * 128
    first = store.statistics().round_trips - before
    batch = [commit_of(claim, 3, put={"a": b"3"}) for claim in claims]
    assert await store.commit(batch) == [COMMITTED] * 64
    assert store.statistics().round_trips - before - first == 3
    assert first <= 6  # the script was new to each node
    calls = [(await client.info("commandstats"))["cmdstat_evalsha"]["calls"] for client in clients]
    assert min(calls) > 0
    assert sum(calls) <= 3 * len(shards)


@pytest.mark.parametrize("slow", range(3))
async def test_nodes_work_at_the_same_time(
    store: ClusterStore, clients: list[Redis], slow: int
) -> None:
    """No node waits until another one has answered, whichever comes first."""
    claims = [await owned(store, str(number)) for number in range(64)]
    for client in clients:
        await client.config_resetstat()
    await clients[slow].client_pause(60_000, all=False)
    try:
        committing = asyncio.ensure_future(store.commit([commit_of(claim) for claim in claims]))
        async with asyncio.timeout(2):
            for client in (client for client in clients if client is not clients[slow]):
                while "cmdstat_evalsha" not in await client.info("commandstats"):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        assert not committing.done()
    finally:
        await clients[slow].client_unpause()
    assert await committing == [COMMITTED] * 64


async def test_scripts_that_a_node_forgot_are_sent_again(
    store: ClusterStore, clients: list[Redis]
) -> None:
    claims = [await owned(store, str(number)) for number in range(20)]
    batch = [commit_of(claim, put={"a": b"1"}) for claim in claims]
    for client in clients:
        await client.script_flush()
    assert await store.commit(batch) == [COMMITTED] * 20
    assert await store.commit(batch) == [CommitResult.ALREADY_DONE] * 20


# --- Opening -----------------------------------------------------------------


async def test_a_server_of_a_cluster_stands_for_the_cluster(cluster: RedisCluster) -> None:
    one = await open_redis(cluster.nodes[1].url("plain"))
    assert isinstance(one, ClusterStore)
    claims = [await owned(one, str(number)) for number in range(20)]
    assert await one.commit([commit_of(claim) for claim in claims]) == [COMMITTED] * 20
    await one.close()


async def test_one_seed_of_several_is_enough(cluster: RedisCluster) -> None:
    url = f"redis+cluster://127.0.0.1:1,{cluster.nodes[2].address}?prefix=seeds"
    store = await open_redis(url)
    claims = [await owned(store, str(number)) for number in range(20)]
    assert await store.commit([commit_of(claim) for claim in claims]) == [COMMITTED] * 20
    await store.close()


async def test_no_seed_that_answers_is_one_clear_line() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await open_redis("redis+cluster://me:s3cr3t@127.0.0.1:1,127.0.0.1:2")
    assert str(caught.value) == "Redis at 127.0.0.1:1 does not answer: Connection refused."


async def test_a_database_of_a_cluster_is_refused(cluster: RedisCluster) -> None:
    with pytest.raises(StoreError, match="database 0 alone: write redis\\+cluster://"):
        await open_redis(f"redis://{cluster.nodes[0].address}/5")


async def test_a_server_that_is_no_cluster_is_refused(tmp_path: Any) -> None:
    server = RedisServer(tmp_path).start()
    try:
        with pytest.raises(StoreError, match="is no cluster: write redis://"):
            await open_redis(f"redis+cluster://{server.address}")
    finally:
        server.stop()


# --- Over shards -------------------------------------------------------------


async def test_a_list_goes_over_nodes_in_the_order_of_ids(
    store: ClusterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [(await store.create(counter(str(number))))[0] for number in range(150)]
    rare, _ = await store.create(NewActor("default", "rare", ()))
    expected = sorted(record.id for record in [*records, rare])
    for budget in (1, 10, 5000):
        monkeypatch.setattr(store_module, "LIST_BUDGET", budget)
        assert await store.list_actors("default", "rare") == [rare]
        found = await store.list_actors("default", limit=200)
        assert [record.id for record in found] == expected
        pages: list[str] = []
        while page := await store.list_actors(
            "default", after=pages[-1] if pages else None, limit=7
        ):
            pages += [record.id for record in page]
        assert pages == expected


async def test_a_list_of_few_asks_many_shards_at_once(store: ClusterStore) -> None:
    record, _ = await store.create(counter("a"))
    await store.list_actors("default")
    before = store.statistics().round_trips
    assert await store.list_actors("default") == [record]
    assert store.statistics().round_trips - before <= 3 * 8


async def test_alarms_take_few_round_trips_to_each_node_and_no_index(
    store: ClusterStore, clients: list[Redis]
) -> None:
    claims = [await owned(store, str(number)) for number in range(64)]
    await store.commit(
        [commit_of(claim, alarm=float(number)) for number, claim in enumerate(claims)]
    )
    before = store.statistics().round_trips
    assert await store.next_alarm() == 0.0
    assert await store.alarms_due(-1.0) == []
    assert store.statistics().round_trips - before == 6
    before = store.statistics().round_trips
    assert await store.next_alarm(5.0) == 6.0
    assert store.statistics().round_trips - before == 6, "sets that begin before are looked into"
    assert await store.alarms_due(2.0, 9) == [
        (float(number), claims[number].record.id) for number in range(3)
    ]
    for client in clients:
        assert not await client.keys("rivet:w")


async def test_the_earliest_alarms_of_many_are_chosen(store: ClusterStore) -> None:
    claims = [await owned(store, str(number)) for number in range(400)]
    dice = random.Random(1)
    alarms = [(float(dice.randrange(60)), claim.record.id) for claim in claims]
    await store.commit(
        [commit_of(claim, alarm=time) for claim, (time, _) in zip(claims, alarms, strict=True)]
    )
    for limit in (1, 2, 7, 99, 399, 500):
        assert (
            await store.alarms_due(50.0, limit)
            == sorted(alarm for alarm in alarms if alarm[0] <= 50.0)[:limit]
        )


# --- Like memory -------------------------------------------------------------


def keys_of_one_shard(name: str, count: int) -> list[tuple[str, str]]:
    keys = (("a", str(number)) for number in itertools.count())
    found = (key for key in keys if actor_id("default", name, key) < "004")
    return list(itertools.islice(found, count))


@pytest.mark.parametrize("seed", range(2))
async def test_random_operations_give_what_the_memory_driver_gives(
    store: ClusterStore, seed: int
) -> None:
    dice = random.Random(seed)
    memory = MemoryStore()
    crowd = {name: keys_of_one_shard(name, 3) for name in "xy"}
    known: list[tuple[str, Fence, int]] = [("none", Fence(0, ""), 1)]

    def choose() -> Callable[[Store], Awaitable[Any]]:
        name, key = dice.choice("xy"), tuple(dice.choices("ab", k=dice.randrange(3)))
        if dice.random() < 0.4:
            key = dice.choice(crowd[name])
        chosen = dice.sample(known[-12:], min(4, len(known[-12:])))
        token, time = str(dice.random()), dice.choice([0.5, 1.0, 2.0, 2.5])
        changes = [
            Commit(
                identity,
                fence,
                sequence + dice.choice([0, 1, 1, 1, 2]),
                {part: dice.randbytes(3) for part in dice.sample("pqr", 2)},
                frozenset(dice.sample("pqr", 1)),
                dice.choice([None, 1.0, 2.0, 3.0, dice.random()]),
                dice.random() < 0.15,
                type=ActorType("default", "counter"),
            )
            for identity, fence, sequence in chosen
        ]
        identity = chosen[0][0]
        choices: list[Callable[[Store], Awaitable[Any]]] = [
            lambda s: s.create(NewActor("default", name, key, token.encode())),
            lambda s: s.claim(identity, token),
            lambda s: s.commit(changes),
            lambda s: s.commit(changes[:1] * 2),
            lambda s: s.find("default", name, key),
            lambda s: s.list_actors("default", name, key[:1]),
            lambda s: s.list_actors("default", limit=2, after=identity),
            lambda s: s.alarms_due(time),
            lambda s: s.alarms_due(time, 2),
            lambda s: s.next_alarm(),
            lambda s: s.next_alarm(time),
        ]
        return dice.choices(choices, [3, 3, 8, 1, 1, 1, 1, 2, 2, 2, 2])[0]

    for _ in range(200):
        operation = choose()
        expected = await operation(memory)
        assert await operation(store) == expected
        if isinstance(expected, Claim):
            known.append((expected.record.id, expected.fence, expected.sequence))
        elif isinstance(expected, tuple) and expected[1] is True:
            known.append((expected[0].id, Fence(0, ""), 0))


async def test_a_probe_writes_to_the_node_of_its_key(store: ClusterStore) -> None:
    await store.probe()


async def test_its_clock_is_one_of_the_nodes(store: ClusterStore, clients: list[Redis]) -> None:
    before = [seconds + parts / 1e6 for seconds, parts in [await one.time() for one in clients]]
    assert 0 <= await store.now() - min(before) < 1
