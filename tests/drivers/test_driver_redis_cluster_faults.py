"""`redis+cluster://` while slots move and nodes die: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis_cluster import RedisCluster, running

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray.ids import actor_id
from rivet_ray.store import ActorType, Claim, Commit, CommitResult, NewActor, Store
from rivet_ray_drivers.redis import cluster as cluster_module
from rivet_ray_drivers.redis import connection as connection_module
from rivet_ray_drivers.redis import open_redis
from rivet_ray_drivers.redis.cluster_store import ClusterStore
from rivet_ray_drivers.redis.layout import Layout, actor_name
from rivet_ray_drivers.redis.slots import slot_of

COMMITTED, ALREADY_DONE = CommitResult.COMMITTED, CommitResult.ALREADY_DONE
UNKNOWN = StoreUnavailable


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with running(RedisCluster(tmp_path_factory.mktemp("cluster"))) as cluster:
        yield cluster


@pytest.fixture
async def store(cluster: RedisCluster, request: Any) -> AsyncIterator[ClusterStore]:
    store = await open_redis(cluster.url(request.node.name.replace("[", "-").replace("]", "")))
    assert isinstance(store, ClusterStore)
    yield store
    await store.close()


SHARDS = Layout("any").ids


def slot_of_id(identity: str) -> int:
    name = actor_name(identity)
    assert name is not None
    return slot_of(SHARDS[name.shard])


def slot_of_key(key: str) -> int:
    return slot_of_id(actor_id("default", "counter", (key,)))


def keys_on_node(node: int, count: int) -> list[str]:
    """Keys of actors whose shards are on that node of three, as the cluster starts."""
    keys = (key for key in map(str, itertools.count()) if slot_of_key(key) // 5462 == node)
    return list(itertools.islice(keys, count))


def keys_of_slot(slot: int, count: int) -> list[str]:
    keys = (key for key in map(str, itertools.count()) if slot_of_key(key) == slot)
    return list(itertools.islice(keys, count))


Result = CommitResult | type[StoreError]


async def results(store: Store, batch: list[Commit]) -> list[Result]:
    """What became of each commit, or the kind of its error."""
    return [
        type(result) if isinstance(result, StoreError) else result
        for result in await store.commit(batch)
    ]


async def known(store: Store, batch: list[Commit], within: float = 5) -> list[Result]:
    """What became of the batch, once all of it is known."""
    async with asyncio.timeout(within):
        while UNKNOWN in (found := await results(store, batch)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def owned(store: Store, key: str) -> Claim:
    record, _ = await store.create(NewActor("default", "counter", (key,)))
    claim = await store.claim(record.id, "owner")
    assert claim is not None
    return claim


def commit_of(claim: Claim, sequence: int = 1, **change: Any) -> Commit:
    return Commit(claim.record.id, claim.fence, sequence, **change, type=claim.record.type)


TYPE = ActorType("default", "counter")
CLAIM_EVERY = 5


def value_of(sequence: int) -> bytes:
    """Sorts as the number does."""
    return (2**31 + sequence).to_bytes(4)


class Writers:
    """Actors that are written one commit after the other, as a host does."""

    def __init__(self, store: Store, claims: list[Claim]) -> None:
        self._store = store
        self.acknowledged = {claim.record.id: 0 for claim in claims}
        self._claims = {claim.record.id: claim for claim in claims}
        self.unknown = 0
        self.claimed = 0
        self.finished = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for claim in tuple(self._claims.values()):
                group.create_task(self._write(claim))

    async def _write(self, claim: Claim) -> None:
        identity = claim.record.id
        while not self.finished.is_set():
            sequence = self.acknowledged[identity] + 1
            if sequence % CLAIM_EVERY == 0:
                claim = self._claims[identity] = await self._claimed_again(claim)
            commit = commit_of(
                claim,
                sequence,
                put={f"{sequence}": b"1"},
                alarm=float(sequence),
                entries={1: value_of(sequence), 2: value_of(-sequence)},
            )
            allowed = {COMMITTED}
            while (result := await self._committed(commit)) is UNKNOWN:
                self.unknown += 1
                allowed.add(ALREADY_DONE)
                await asyncio.sleep(0.01)
            assert result in allowed
            self.acknowledged[identity] = sequence

    async def _claimed_again(self, claim: Claim) -> Claim:
        """The same actor by another claim, that says who it takes it from."""
        while True:
            try:
                owner = await self._store.find_ownership(claim.record.id)
                assert owner is not None
                assert owner.epoch >= claim.fence.epoch
                again = await self._store.claim(claim.record.id, "owner", expected=owner)
            except StoreUnavailable:
                self.unknown += 1
                await asyncio.sleep(0.01)
                continue
            assert isinstance(again, Claim), "nobody else claims it"
            assert again.fence.epoch == owner.epoch + 1
            assert again.sequence == self.acknowledged[claim.record.id]
            self.claimed += 1
            return again

    async def _committed(self, commit: Commit) -> Result:
        (result,) = await results(self._store, [commit])
        return result

    async def verify(self) -> None:
        """Every acknowledged commit is there, once, and nothing is between them."""
        assert self.claimed > len(self._claims)
        for claim in self._claims.values():
            last = self.acknowledged[claim.record.id]
            found = await self._store.claim(claim.record.id, "onlooker")
            assert found is not None
            assert last > 0
            assert found.fence.epoch == claim.fence.epoch + 1
            assert (found.sequence, found.alarm) == (last, float(last))
            assert set(found.parts) == {str(number) for number in range(1, last + 1)}
        expected = sorted((float(last), identity) for identity, last in self.acknowledged.items())
        assert await self._store.alarms_due(1e9, len(expected)) == expected
        for number, sign in ((1, 1), (2, -1)):
            entries = await self._store.list_index(TYPE, number)
            values = {
                identity: value_of(sign * last) for identity, last in self.acknowledged.items()
            }
            assert {entry.id: entry.value for entry in entries} == values
            assert len(entries) == len(values)
        (size,) = await self._store.sizes()
        written = sum(self.acknowledged.values())
        assert (size.type, size.actors, size.bytes) == (TYPE, len(self._claims), written)


# --- Slots that move -----------------------------------------------------------


class Move:
    """One slot on its way from its first step; the move is ended with the block."""

    def __init__(self, cluster: RedisCluster, slot: int, source: int, target: int) -> None:
        self.slot = slot
        self._nodes = [Redis(port=node.port, protocol=2) for node in cluster.nodes]
        self._source, self._target = self._nodes[source], self._nodes[target]
        self._target_port = cluster.nodes[target].port

    async def __aenter__(self) -> Move:
        source = (await self._source.execute_command("CLUSTER MYID")).decode()
        target = (await self._target.execute_command("CLUSTER MYID")).decode()
        await self._target.execute_command("CLUSTER SETSLOT", self.slot, "IMPORTING", source)
        await self._source.execute_command("CLUSTER SETSLOT", self.slot, "MIGRATING", target)
        return self

    async def keys(self) -> list[str]:
        """Those that have not moved yet."""
        return await self._source.execute_command("CLUSTER GETKEYSINSLOT", self.slot, 1000)

    async def migrate(self, *keys: str) -> None:
        await self._source.execute_command(
            *("MIGRATE", "127.0.0.1", self._target_port, "", 0, 5000, "KEYS", *keys)
        )

    async def __aexit__(self, *_: object) -> None:
        while keys := await self.keys():
            await self.migrate(*keys)
        target = (await self._target.execute_command("CLUSTER MYID")).decode()
        others = [node for node in self._nodes if node not in (self._target, self._source)]
        for node in (self._target, self._source, *others):
            await node.execute_command("CLUSTER SETSLOT", self.slot, "NODE", target)
        for node in self._nodes:
            await node.aclose()


async def test_slots_that_move_under_load_lose_nothing(
    store: ClusterStore, cluster: RedisCluster
) -> None:
    """C2, and sequences without a gap; no error but *unknown* for a slot on its way."""
    claims = [await owned(store, key) for node in range(3) for key in keys_on_node(node, 4)]
    writers = Writers(store, claims)
    moved = {slot_of_id(claim.record.id) for claim in claims[:4]}
    async with asyncio.TaskGroup() as group:
        group.create_task(writers.run())
        await asyncio.sleep(0.1)
        before = dict(writers.acknowledged)
        for slot in moved:  # there and back
            for source, target in ((0, 1), (1, 0)):
                async with Move(cluster, slot, source, target):
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        writers.finished.set()
    assert all(writers.acknowledged[one] > before[one] + 1 for one in before)
    await writers.verify()


async def test_a_slot_on_its_way_answers_from_where_its_keys_are(
    store: ClusterStore, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ASK is followed; scripts, whose keys Redis wants on one node, wait for the end."""
    prefix = store._cluster.place.prefix
    claim = await owned(store, keys_on_node(0, 8)[7])
    commit = commit_of(claim, put={"a": b"1"}, alarm=5.0)
    assert await results(store, [commit]) == [COMMITTED]
    others = [await owned(store, key) for key in keys_on_node(1, 3)]
    async with Move(cluster, slot_of_id(claim.record.id), 0, 1) as move:
        ours = [key for key in await move.keys() if key.startswith(f"{prefix}{{")]
        actor = next(key for key in ours if ":a:" in key)
        for key in (actor, *(key for key in ours if key != actor)):
            await move.migrate(key)
            assert await store.find("default", "counter", claim.record.key) == claim.record
            assert await store.alarms_due(9.0) == [(5.0, claim.record.id)]
            assert await store.next_alarm() == 5.0
        # The set of the index is not there yet, so it might still be on its way.
        indexed = commit_of(claim, 2, entries={1: b"x"})
        mixed = [indexed, *(commit_of(other) for other in others)]
        assert await results(store, mixed) == [UNKNOWN] + [COMMITTED] * 3
        other = NewActor("default", "counter", (keys_of_slot(move.slot, 2)[1],))
        with monkeypatch.context() as patch:
            patch.setattr(cluster_module, "PATIENCE", 0.1)
            with pytest.raises(StoreUnavailable, match="moves slots"):
                await store.create(other)
        waiting = asyncio.ensure_future(store.create(other))
        await asyncio.sleep(0.1)
        assert not waiting.done()
    assert (await waiting)[1]
    again = await store.claim(claim.record.id, "again")
    assert again is not None
    assert dict(again.parts) == {"a": b"1"}
    assert await results(store, [commit_of(again, 2, put={"b": b"2"})]) == [COMMITTED]


async def test_a_commit_is_whole_while_its_slot_begins_to_move(
    store: ClusterStore, cluster: RedisCluster
) -> None:
    """Redis ends a script that writes a key which is not there any more: half of it was done."""
    claim = await owned(store, keys_on_node(0, 10)[9])
    first = commit_of(claim, put={"a": b"1"}, alarm=5.0, entries={1: b"x"})
    assert await results(store, [first]) == [COMMITTED]
    second = commit_of(claim, 2, put={"b": b"2"}, alarm=7.0, entries={1: b"y"})
    destroy = commit_of(claim, 3, destroy=True, entries={1: None})
    async with Move(cluster, slot_of_id(claim.record.id), 0, 1):
        assert await results(store, [second]) == [COMMITTED]
        found = await store.read(claim.record.id)
        assert found is not None
        assert (found.parts, found.alarm) == ({"a": b"1", "b": b"2"}, 7.0)
        assert [entry.value for entry in await store.list_index(TYPE, 1)] == [b"y"]
        assert await results(store, [destroy]) == [COMMITTED]
    assert await results(store, [destroy]) == [ALREADY_DONE]
    assert await store.list_index(TYPE, 1) == []
    again = await owned(store, claim.record.key[0])
    assert again.record.id == actor_id("default", "counter", claim.record.key, 2)
    assert again.fence.epoch == claim.fence.epoch + 1


async def test_a_list_does_not_miss_who_is_on_its_way(
    store: ClusterStore, cluster: RedisCluster
) -> None:
    """The ids arrive before their actors, or behind them."""
    claims = [await owned(store, key) for node in range(3) for key in keys_on_node(node, 6)]
    expected = sorted(claim.record.id for claim in claims)
    for claim, first in ((claims[4], ":n"), (claims[5], ":a:")):
        async with Move(cluster, slot_of_id(claim.record.id), 0, 1) as move:
            await move.migrate(*(key for key in await move.keys() if first in key))
            listing = asyncio.ensure_future(store.list_actors("default"))
            await asyncio.sleep(0.1)
            assert not listing.done()
        assert [record.id for record in await listing] == expected


async def test_a_redirection_in_circles_ends(
    store: ClusterStore, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner sends on to a node that sends back whoever comes."""
    key = keys_on_node(2, 1)[0]
    identity, slot = actor_id("default", "counter", (key,)), str(slot_of_key(key))
    target = cluster.tell(cluster.nodes[1], "CLUSTER", "MYID")
    cluster.tell(cluster.nodes[2], "CLUSTER", "SETSLOT", slot, "MIGRATING", target)
    try:
        before = store.statistics().round_trips
        with pytest.raises(StoreUnavailable, match=f"do not agree on an owner of slot {slot}"):
            await store.find_by_id(identity)
        assert store.statistics().round_trips - before < 12
    finally:
        cluster.tell(cluster.nodes[2], "CLUSTER", "SETSLOT", slot, "STABLE")
    assert await store.find_by_id(identity) is None


async def test_what_is_not_true_of_the_slots_costs_one_redirection(
    store: ClusterStore, cluster: RedisCluster
) -> None:
    claims = [await owned(store, key) for key in keys_on_node(2, 5)]
    for claim in claims:
        store._cluster._slots.moved(
            slot_of_id(claim.record.id), ("127.0.0.1", cluster.nodes[0].port)
        )
    assert await results(store, [commit_of(claim) for claim in claims]) == [COMMITTED] * 5
    store._cluster._slots.moved(
        slot_of_id(claims[0].record.id), ("127.0.0.1", cluster.nodes[1].port)
    )
    assert await store.find_by_id(claims[0].record.id) == claims[0].record


# --- Nodes that die ------------------------------------------------------------


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RedisCluster]:
    """A cluster of one test, which may kill its nodes."""
    with running(RedisCluster(tmp_path)) as cluster:
        yield cluster


async def test_a_node_killed_under_load_takes_its_own_shards_along_and_loses_nothing(
    mortal: RedisCluster,
) -> None:
    """C2, at the durability of `appendfsync always`; the other shards go on meanwhile."""
    store = await open_redis(mortal.url())
    claims = [await owned(store, key) for node in range(3) for key in keys_on_node(node, 4)]
    writers = Writers(store, claims)
    near = [claim.record.id for claim in claims[4:]]
    async with asyncio.TaskGroup() as group:
        group.create_task(writers.run())
        for _ in range(2):
            await asyncio.sleep(0.2)
            await asyncio.to_thread(mortal.nodes[0].kill)
            await asyncio.sleep(0.1)
            before = dict(writers.acknowledged)
            await asyncio.sleep(0.5)
            during = dict(writers.acknowledged)
            await asyncio.to_thread(mortal.nodes[0].start)
            await asyncio.to_thread(mortal.wait_until_whole)
            await asyncio.sleep(0.3)
            after = dict(writers.acknowledged)
            assert all(during[one] > before[one] + 5 for one in near)
            assert all(during[one] == before[one] for one in before if one not in near)
            assert all(after[one] > during[one] for one in after)
        writers.finished.set()
    assert writers.unknown > 0
    await writers.verify()
    await store.close()


async def test_one_batch_over_a_dead_node_tells_which_of_it_is_unknown(
    mortal: RedisCluster,
) -> None:
    store = await open_redis(mortal.url())
    away, near = (
        await owned(store, keys_on_node(0, 1)[0]),
        await owned(store, keys_on_node(1, 1)[0]),
    )
    await store.commit([commit_of(away, alarm=1.0), commit_of(near, alarm=2.0)])
    mortal.nodes[0].kill()
    batch = [commit_of(away, 2), commit_of(near, 2, alarm=2.0)]
    assert await results(store, batch) == [UNKNOWN, COMMITTED]
    assert await results(store, batch) == [UNKNOWN, ALREADY_DONE]
    assert await results(store, batch[:1]) == [UNKNOWN]
    with pytest.raises(StoreUnavailable, match=f"{mortal.nodes[0].address} does not answer"):
        await store.find_by_id(away.record.id)
    assert await store.find_by_id(near.record.id) == near.record
    assert await store.alarms_due(9.0) == [(2.0, near.record.id)]
    with pytest.raises(StoreUnavailable):
        await store.next_alarm()
    with pytest.raises(StoreUnavailable):
        await store.list_actors("default")
    other = await open_redis(mortal.url())
    assert await other.find_by_id(near.record.id) == near.record
    await other.close()
    for node in mortal.nodes[1:]:
        node.kill()
    assert await results(store, batch) == [UNKNOWN, UNKNOWN]
    with pytest.raises(StoreUnavailable):
        await store.alarms_due(9.0)
    for node in mortal.nodes:
        node.start()
    await asyncio.to_thread(mortal.wait_until_whole)
    assert await known(store, batch) == [COMMITTED, ALREADY_DONE]
    assert await store.alarms_due(9.0) == [(2.0, near.record.id)]
    await store.close()


async def test_a_node_that_hangs_holds_up_the_others_once(
    store: ClusterStore, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "REPLY_TIMEOUT", 0.3)
    prefix = store._cluster.place.prefix
    other = await open_redis(cluster.url(prefix))
    away, near = (
        await owned(other, keys_on_node(0, 1)[0]),
        await owned(other, keys_on_node(1, 1)[0]),
    )
    loop = asyncio.get_running_loop()
    cluster.nodes[0].pause()
    try:
        batch = [commit_of(away, put={"a": b"1"}), commit_of(near)]
        assert await results(other, batch) == [UNKNOWN, COMMITTED]
        started = loop.time()
        for _ in range(20):
            assert await results(other, batch) == [UNKNOWN, ALREADY_DONE]
        assert loop.time() - started < 0.2
    finally:
        cluster.nodes[0].go_on()
    assert await known(other, batch) == [ALREADY_DONE, ALREADY_DONE]
    await other.close()


@pytest.mark.slow
async def test_a_replica_that_takes_over_is_found(mortal: RedisCluster) -> None:
    """The killed node never comes back; its shards do, with what the replica had."""
    store = await open_redis(mortal.url())
    claims = [await owned(store, key) for key in keys_on_node(0, 5)]
    replica = await asyncio.to_thread(mortal.add_replica, 0)
    first = [commit_of(claim, put={"a": b"1"}) for claim in claims]
    assert await results(store, first) == [COMMITTED] * 5
    async with Redis(port=mortal.nodes[0].port) as primary:
        assert await primary.wait(1, 5000) == 1
    mortal.nodes[0].kill()
    batch = [commit_of(claim, 2, put={"b": b"2"}) for claim in claims]
    assert await known(store, batch, within=15) == [COMMITTED] * 5
    assert await store.list_actors("default") == sorted(
        (claim.record for claim in claims), key=lambda record: record.id
    )
    owner = store._cluster._slots.owner(slot_of_id(claims[0].record.id))
    assert owner == ("127.0.0.1", replica.port)
    await store.close()


async def test_closing_ends_the_mending(mortal: RedisCluster) -> None:
    store = await open_redis(mortal.url())
    claim = await owned(store, keys_on_node(0, 1)[0])
    mortal.nodes[0].kill()
    assert await results(store, [commit_of(claim)]) == [UNKNOWN]
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.commit([commit_of(claim)])
    with pytest.raises(StoreError, match="closed"):
        await store.alarms_due(1.0)
