"""`redis://` when the server, a connection or the data fails."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions
from redis.asyncio import Redis
from redis_server import RedisServer

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray.store import Claim, Commit, CommitResult, NewActor, Store
from rivet_ray_drivers.redis import RedisStore, connection, open_redis
from rivet_ray_drivers.redis.failures import failure_of
from rivet_ray_drivers.redis.layout import actor_name
from rivet_ray_drivers.redis.location import Location

COMMITTED, ALREADY_DONE = CommitResult.COMMITTED, CommitResult.ALREADY_DONE


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of one test, which may kill it."""
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


def counter(key: str, input: Any = None) -> NewActor:
    return NewActor("default", "counter", (key,), input)


async def owned(store: Store, key: str) -> Claim:
    record, _ = await store.create(counter(key))
    claim = await store.claim(record.id, "owner")
    assert claim is not None
    return claim


async def committed(store: RedisStore, commit: Commit) -> CommitResult:
    """What becomes of one commit. Raises the error that it has in place of a result."""
    (result,) = await store.commit([commit])
    if isinstance(result, StoreError):
        raise result
    return result


def commit_of(claim: Claim, sequence: int = 1, **change: Any) -> Commit:
    return Commit(claim.record.id, claim.fence, sequence, **change, type=claim.record.type)


async def look(store: Store, claim: Claim) -> Claim:
    found = await store.claim(claim.record.id, "onlooker")
    assert found is not None
    return found


def keys_of(claim: Claim) -> dict[str, str]:
    name = actor_name(claim.record.id)
    assert name is not None
    shard = f"rivet{{rr:{name.shard}}}:"
    of = "default\0\1counter\0\1"
    return {
        "actor": f"{shard}a:{name.digits}",
        "types of alarms": f"{shard}w",
        "alarms": f"{shard}w:{of}",
        "ids": f"{shard}n",
        "sizes": f"{shard}k",
        "keys": f"{shard}i:0:{of}",
        "index": f"{shard}i:1:{of}",
    }


# --- Crashes of the server ---------------------------------------------------


async def test_what_was_acknowledged_survives_kills_and_happened_once(mortal: RedisServer) -> None:
    """C2, at the durability of `appendfsync always`; unknown results are repeated."""
    store = await open_redis(mortal.url())
    claims = [await owned(store, str(number)) for number in range(8)]
    acknowledged = dict.fromkeys((claim.record.id for claim in claims), 0)
    unknown = 0
    finished = asyncio.Event()

    async def work(claim: Claim) -> None:
        nonlocal unknown
        while not finished.is_set():
            sequence = acknowledged[claim.record.id] + 1
            commit = commit_of(claim, sequence, put={f"{sequence}": b"1"}, alarm=float(sequence))
            allowed = {COMMITTED}
            while True:
                try:
                    (result,) = await store.commit([commit])
                    break
                except StoreUnavailable:
                    unknown += 1
                    allowed.add(ALREADY_DONE)
                    await asyncio.sleep(0.01)
            assert result in allowed
            acknowledged[claim.record.id] = sequence

    async with asyncio.TaskGroup() as group:
        for claim in claims:
            group.create_task(work(claim))
        dice = random.Random(1)
        for _ in range(4):
            await asyncio.sleep(0.1 + dice.random() / 5)
            await asyncio.to_thread(mortal.kill)
            await asyncio.to_thread(mortal.start)
        await asyncio.sleep(0.1)
        finished.set()
    assert unknown > 0
    for claim in claims:
        last = acknowledged[claim.record.id]
        found = await look(store, claim)
        assert last > 0
        assert found.fence.epoch == claim.fence.epoch + 1
        assert (found.sequence, found.alarm) == (last, float(last))
        assert set(found.parts) == {str(number) for number in range(1, last + 1)}
    expected = sorted((float(last), identity) for identity, last in acknowledged.items())
    assert await store.alarms_due(1e9) == expected
    await store.close()


async def test_creates_claims_and_destroys_survive_a_kill(mortal: RedisServer) -> None:
    store = await open_redis(mortal.url())
    claim, gone = await owned(store, "a"), await owned(store, "gone")
    destroy = commit_of(gone, destroy=True)
    assert await store.commit([destroy]) == [COMMITTED]
    await store.renew_lease("host", 1)
    await store.renew_lease("host", 3, "here")
    await store.mark_dead("host", 3)
    mortal.kill()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await store.find_by_id(claim.record.id)
    mortal.start()
    assert await store.find("default", "counter", ("a",)) == claim.record
    assert await store.commit([destroy]) == [ALREADY_DONE]
    assert await store.commit([commit_of(claim, put={"a": b"1"})]) == [COMMITTED]
    again = await owned(store, "gone")
    assert again.record.id == f"{gone.record.id}-2"
    assert again.fence.epoch == gone.fence.epoch + 1
    assert not await store.renew_lease("host", 4)
    await store.close()


async def test_a_server_that_hangs_is_unavailable_and_may_act_later(
    server: RedisServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unknown result: what timed out is done after all, and the repeat sees it."""
    monkeypatch.setattr(connection, "REPLY_TIMEOUT", 0.1)
    store = await open_redis(server.url())
    claim = await owned(store, "a")
    commit = commit_of(claim, put={"a": b"1"})
    server.pause()
    try:
        with pytest.raises(StoreUnavailable, match="does not answer: Timeout"):
            await store.commit([commit])
    finally:
        server.go_on()
    assert await store.commit([commit]) == [ALREADY_DONE]
    assert await store.commit([commit_of(claim, 2, put={"b": b"2"})]) == [COMMITTED]
    assert dict((await look(store, claim)).parts) == {"a": b"1", "b": b"2"}
    await store.close()


# --- Connections -------------------------------------------------------------


async def test_a_connection_cut_under_an_operation_is_unavailable_then_it_works_again(
    store: RedisStore, redis: Redis
) -> None:
    claim = await owned(store, "a")
    commit = commit_of(claim, put={"a": b"1"})
    await redis.client_pause(10_000, all=False)
    try:
        waiting = asyncio.ensure_future(store.commit([commit]))
        async with asyncio.timeout(5):
            while (await redis.info("clients"))["blocked_clients"] == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await waiting
    finally:
        await redis.client_unpause()
    assert await store.commit([commit]) in ([COMMITTED], [ALREADY_DONE])
    assert dict((await look(store, claim)).parts) == {"a": b"1"}


async def test_idle_connections_that_were_cut_are_replaced(store: RedisStore, redis: Redis) -> None:
    claim = await owned(store, "a")
    await asyncio.gather(*(store.find_by_id(claim.record.id) for _ in range(50)))
    await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(0.05)
    found = await asyncio.gather(*(store.find_by_id(claim.record.id) for _ in range(50)))
    assert found == [claim.record] * 50


async def test_nothing_is_tried_again_behind_our_back(
    store: RedisStore, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    async def refuse(**_: Any) -> Any:
        nonlocal tried
        tried += 1
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(asyncio, "open_connection", refuse)
    with pytest.raises(StoreUnavailable):
        await open_redis(server.url())
    assert tried == 1


async def test_connections_are_bounded(store: RedisStore, redis: Redis) -> None:
    await asyncio.gather(*(store.create(counter(str(number))) for number in range(200)))
    clients = [client for client in await redis.client_list() if client["name"] == "rivet-ray"]
    assert 1 <= len(clients) <= connection.CONNECTIONS


async def test_a_cancelled_call_does_not_give_its_reply_to_another(store: RedisStore) -> None:
    records = [(await store.create(counter(str(number))))[0] for number in range(20)]
    dice = random.Random(1)

    async def find(number: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(dice.random() / 500):
                assert await store.find_by_id(records[number].id) == records[number]

    for _ in range(20):
        await asyncio.gather(*(find(number) for number in range(20)))
    for record in records:
        assert await store.find_by_id(record.id) == record
    assert store.statistics().under_way == 0


async def test_one_more_than_may_wait_is_refused(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BATCH_LIMIT", 3)
    waiting = [asyncio.ensure_future(store.find_by_id("0" * 16)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="overloaded"):
        await store.next_alarm()
    assert store.statistics().refused == 1
    assert await asyncio.gather(*waiting) == [None] * 3
    assert await store.next_alarm() is None


async def test_closing_is_final_and_may_be_repeated(server: RedisServer, redis: Redis) -> None:
    store = await open_redis(server.url())
    await store.create(counter("a"))
    await asyncio.gather(store.close(), store.close())
    await store.close()
    for operation in (
        store.find("default", "counter", ("a",)),
        store.create(counter("b")),
        store.next_alarm(),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            await operation
    clients = [client["name"] for client in await redis.client_list()]
    assert "rivet-ray" not in clients


# --- A server that refuses -----------------------------------------------------


async def test_scripts_that_the_server_forgot_are_sent_again(
    store: RedisStore, redis: Redis
) -> None:
    claims = [await owned(store, str(number)) for number in range(20)]
    await redis.script_flush()
    batch = [commit_of(claim, put={"a": b"1"}) for claim in claims]
    assert await store.commit(batch) == [COMMITTED] * 20
    assert await store.commit(batch) == [ALREADY_DONE] * 20


async def test_a_server_without_memory_is_unavailable_and_writes_nothing(
    store: RedisStore, redis: Redis
) -> None:
    claim = await owned(store, "a")
    await store.commit([commit_of(claim, put={"a": b"1"}, alarm=1.0)])
    changes = [
        commit_of(claim, 2, put={"a": b"2"}, delete=frozenset("b"), alarm=2.0),
        commit_of(claim, 2, delete=frozenset("a"), alarm=2.0),
        commit_of(claim, 2, put={"a": b"2"}, alarm=None),
        commit_of(claim, 2, delete=frozenset("a"), alarm=None),
        commit_of(claim, 2, destroy=True),
    ]
    await redis.config_set("maxmemory", 1)
    try:
        for change in changes:
            with pytest.raises(StoreUnavailable, match="out of memory"):
                await store.commit([change])
        with pytest.raises(StoreUnavailable, match="out of memory"):
            await store.create(counter("b"))
        with pytest.raises(StoreUnavailable, match="out of memory"):
            await store.claim(claim.record.id, "x")
        assert await store.find("default", "counter", ("b",)) is None
        assert await store.alarms_due(9.0) == [(1.0, claim.record.id)]
    finally:
        await redis.config_set("maxmemory", 0)
    assert await store.commit([changes[0]]) == [COMMITTED]
    found = await look(store, claim)
    assert (dict(found.parts), found.alarm) == ({"a": b"2"}, 2.0)
    assert found.fence.epoch == claim.fence.epoch + 1


async def test_a_replica_is_unavailable(store: RedisStore, redis: Redis) -> None:
    claim = await owned(store, "a")
    await redis.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnavailable, match="read-only replica"):
            await store.commit([commit_of(claim)])
    finally:
        await redis.replicaof("NO", "ONE")
    assert await store.commit([commit_of(claim)]) == [COMMITTED]


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (exceptions.BusyLoadingError("Redis is loading"), StoreUnavailable, "LOADING|loads"),
        (exceptions.ResponseError("BUSY Redis is busy"), StoreUnavailable, "BUSY"),
        (exceptions.ResponseError("MISCONF Errors writing"), StoreUnavailable, "disk"),
        (
            exceptions.ReadOnlyError("You can't write.", status_code="READONLY"),
            StoreUnavailable,
            "READONLY",
        ),
        (  # as Redis 6 has it
            exceptions.ResponseError(
                "Error running script (call to f_1): @user_script:1: @user_script: 1:"
                " -OOM command not allowed",
                status_code="ERR",
            ),
            StoreUnavailable,
            "OOM",
        ),
        (exceptions.ConnectionError("Connection closed by server."), StoreUnavailable, "answer"),
        (exceptions.TimeoutError("Timeout"), StoreUnavailable, "Timeout"),
        (OSError("gone"), StoreUnavailable, "gone"),
        (exceptions.ResponseError("WRONGTYPE Operation against"), StoreError, "not ours"),
        (exceptions.NoPermissionError("no", status_code="NOPERM"), StoreError, "may not"),
        (exceptions.ResponseError("ERR unknown command"), StoreError, "unknown command"),
        (exceptions.ResponseError("user_script:9: rivet format 7"), StoreError, "format 7"),
        (exceptions.DataError("Invalid input"), StoreError, "cannot be stored"),
    ],
)
def test_what_a_fault_means(error: Exception, kind: type[StoreError], text: str) -> None:
    failure = failure_of(error, Location("cache", 1, password="s3cr3t"))
    assert type(failure) is kind
    with pytest.raises(kind, match=text):
        raise failure
    assert "s3cr3t" not in str(failure)


# --- Data that is not ours -----------------------------------------------------


@pytest.mark.parametrize(
    "what", ["actor", "types of alarms", "alarms", "ids", "sizes", "keys", "index"]
)
async def test_a_key_of_another_type_is_an_error_and_nothing_is_half_written(
    store: RedisStore, redis: Redis, what: str
) -> None:
    claim = await owned(store, "a")
    other = await owned(store, "other")
    keys = keys_of(claim)
    kept = await redis.hgetall(keys["actor"])
    await redis.set(keys[what], "not ours")
    commit = commit_of(
        claim,
        put={"a": b"1"},
        alarm=1.0,
        destroy=what in ("ids", "keys"),
        entries={1: b"x"},
    )
    with pytest.raises(StoreError, match="not ours") as caught:
        await committed(store, commit)
    assert not isinstance(caught.value, StoreUnavailable)
    if what != "actor":
        assert await redis.hgetall(keys["actor"]) == kept
    assert await store.commit([commit_of(other)]) == [COMMITTED]
    if what == "actor":
        with pytest.raises(StoreError, match="not ours"):
            await store.find_by_id(claim.record.id)
    await redis.flushdb()


async def test_a_record_of_a_later_version_is_refused_and_left_alone(
    store: RedisStore, redis: Redis
) -> None:
    claim = await owned(store, "a")
    actor = keys_of(claim)["actor"]
    await redis.hset(actor, "v", "3")
    await store.renew_lease("host", 1)
    lease = (await redis.keys("*:l:host"))[0]
    await redis.hset(lease, "v", "3")
    kept = await redis.hgetall(actor), await redis.hgetall(lease)
    for operation in (
        store.find("default", "counter", ("a",)),
        store.find_by_id(claim.record.id),
        store.create(counter("a")),
        store.claim(claim.record.id, "t"),
        store.find_ownership(claim.record.id),
        store.read(claim.record.id),
        committed(store, commit_of(claim, put={"a": b"1"}, alarm=1.0)),
        committed(store, commit_of(claim, destroy=True)),
        store.list_actors("default"),
        store.list_sizes(),
        store.renew_lease("host", 2),
        store.find_lease("host"),
        store.list_hosts(),
        store.mark_dead("host", 1),
    ):
        with pytest.raises(StoreError, match=r"format 3.*upgrade") as caught:
            await operation
        assert not isinstance(caught.value, StoreUnavailable)
    assert (await redis.hgetall(actor), await redis.hgetall(lease)) == kept
    assert await store.next_alarm() is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("place", b"?"), ("place", b"\xff\x00\x01a\x00\x01"), ("created", b"?"), ("generation", b"?")],
)
async def test_a_record_that_cannot_be_read_is_an_error(
    store: RedisStore, redis: Redis, field: str, value: bytes
) -> None:
    claim = await owned(store, "a")
    await redis.hset(keys_of(claim)["actor"], field, value)
    with pytest.raises(StoreError, match="cannot be read"):
        await store.find_by_id(claim.record.id)


async def test_a_value_that_is_not_bytes_is_an_error(store: RedisStore) -> None:
    claim = await owned(store, "a")
    with pytest.raises(StoreError, match="cannot be stored"):
        await store.create(counter("b", object()))
    with pytest.raises(StoreError, match="cannot be stored"):
        await store.commit([commit_of(claim, put={"a": object()})])
    assert await store.commit([commit_of(claim, put={"a": b"1"})]) == [COMMITTED]


async def test_a_probe_tells_whether_writes_get_through(redis: Redis, store: RedisStore) -> None:
    await store.probe()
    try:
        await redis.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="out of memory"):
            await store.probe()
    finally:
        await redis.config_set("maxmemory", 0)
    await store.probe()
    assert [key async for key in redis.scan_iter("*probe")]
    assert await redis.ttl((await redis.keys("*probe"))[0]) > 0
