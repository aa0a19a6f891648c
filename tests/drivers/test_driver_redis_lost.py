"""A Redis that comes back empty, older, or as another one is noticed before it is used (ADR 27)."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis_server import RedisServer

from rivet_ray.errors import StoreError, StoreLostData, StoreUnavailable
from rivet_ray.store import Claim, Commit, CommitResult, NewActor
from rivet_ray_drivers.redis import RedisStore, open_redis, scripts
from rivet_ray_drivers.redis.layout import SHARDS, actor_name

COMMITTED = CommitResult.COMMITTED


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of one test, which may kill it and change its data."""
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis(port=server.port, protocol=2) as client:
        yield client


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    store = await opened(server)
    yield store
    await store.close()


async def opened(server: RedisServer, prefix: str = "rivet") -> RedisStore:
    store = await open_redis(server.url(prefix))
    assert isinstance(store, RedisStore)
    return store


def counter(key: str) -> NewActor:
    return NewActor("default", "counter", (key,))


async def owned(store: RedisStore, key: str = "a") -> Claim:
    record, _ = await store.create(counter(key))
    claim = await store.claim(record.id, "owner")
    assert claim is not None
    assert await store.commit([commit_of(claim)]) == [COMMITTED]
    return claim


def commit_of(claim: Claim, sequence: int = 1, **change: Any) -> Commit:
    return Commit(
        claim.record.id,
        claim.fence,
        sequence,
        put={"a": b"%d" % sequence},
        **change,
        type=claim.record.type,
    )


async def committed(store: RedisStore, commit: Commit) -> CommitResult:
    """What becomes of one commit. Raises the error that it has in place of a result."""
    (result,) = await store.commit([commit])
    if isinstance(result, StoreError):
        raise result
    return result


def identity_of(claim: Claim) -> str:
    name = actor_name(claim.record.id)
    assert name is not None
    return f"rivet{{rr:{name.shard}}}:s"


async def refused(store: RedisStore, claim: Claim, how: str) -> None:
    """Whatever is asked of the actor's shard."""
    key = claim.record.key
    for operation in (
        store.find("default", "counter", key),
        store.find_by_id(claim.record.id),
        store.create(NewActor("default", "counter", key)),
        store.claim(claim.record.id, "other"),
        committed(store, commit_of(claim, 2)),
        committed(store, commit_of(claim, 2, destroy=True)),
    ):
        with pytest.raises(StoreLostData, match=how) as caught:
            await operation
        assert not isinstance(caught.value, StoreUnavailable)


def said(caplog: pytest.LogCaptureFixture, level: int = logging.CRITICAL) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == level]


async def started(server: RedisServer) -> None:
    server.start()
    await asyncio.sleep(0.05)  # the connections of the one before are seen to be closed


async def copied(server: RedisServer) -> Path:
    """A copy of its data as they are now."""
    server.stop()
    copy = server.directory / "copy"
    shutil.copytree(server.directory / "appendonlydir", copy)
    await started(server)
    return copy


async def restored(server: RedisServer, copy: Path) -> None:
    server.kill()
    shutil.rmtree(server.directory / "appendonlydir")
    shutil.move(copy, server.directory / "appendonlydir")
    await started(server)


async def empty_by_hand(server: RedisServer, redis: Redis) -> None:
    await redis.flushall()


async def empty_after_kill(server: RedisServer, redis: Redis) -> None:
    server.kill()
    shutil.rmtree(server.directory / "appendonlydir")
    await started(server)


@pytest.mark.parametrize("lose", [empty_by_hand, empty_after_kill])
async def test_an_empty_server_is_refused_and_told_once(
    store: RedisStore, server: RedisServer, redis: Redis, lose: Any, caplog: Any
) -> None:
    """C2: nothing is re-created silently; an operation that finds nothing does not say so."""
    claim = await owned(store)
    assert await store.renew_lease("host", 1)
    await lose(server, redis)
    await refused(store, claim, "has lost our data: they are not there")
    for operation in (store.renew_lease("host", 2), store.list_actors("default")):
        with pytest.raises(StoreLostData):
            await operation
    assert await redis.dbsize() == 0, "something was written into it"
    assert len(said(caplog)) == 1
    assert "start every process" in said(caplog)[0]


async def test_who_starts_accepts_the_emptiness_and_others_stay_refused(
    store: RedisStore, server: RedisServer, redis: Redis, caplog: Any
) -> None:
    claim = await owned(store)
    await redis.flushall()
    fresh = await opened(server)
    assert (await fresh.create(counter("a")))[1]
    assert "begins there" in said(caplog, logging.WARNING)[-1]
    await refused(store, claim, "holds a newer store in their place")
    assert await fresh.claim(claim.record.id, "fresh") is not None
    await fresh.close()


async def test_data_that_come_back_are_used_again(
    store: RedisStore, server: RedisServer, caplog: Any
) -> None:
    """The server was started without its data by mistake, and then with them."""
    claim = await owned(store)
    aside = server.directory / "aside"
    server.kill()
    shutil.move(server.directory / "appendonlydir", aside)
    await started(server)
    await refused(store, claim, "has lost our data")
    await restored(server, aside)
    assert await store.commit([commit_of(claim, 2)]) == [COMMITTED]
    assert "holds our data again" in said(caplog, logging.WARNING)[-1]


async def test_an_older_copy_is_refused_for_good(
    store: RedisStore, server: RedisServer, caplog: Any
) -> None:
    """A backup was restored under us. It could overtake what we have seen."""
    claim = await owned(store)
    copy = await copied(server)
    again = await store.claim(claim.record.id, "owner")
    assert again is not None
    await restored(server, copy)
    await refused(store, again, "holds older data than it has confirmed")
    fresh = await opened(server)
    for number in range(5):
        assert await fresh.claim(claim.record.id, str(number)) is not None
    await refused(store, again, "holds older data")
    assert len(said(caplog)) == 1
    await fresh.close()


@pytest.mark.parametrize("durability", ["everysec", "none"])
async def test_who_accepts_the_loss_of_the_last_moments_goes_on(
    server: RedisServer, durability: str, caplog: Any
) -> None:
    """As a failover to a replica that was behind: told, and left to the fence of each actor."""
    store = await open_redis(f"{server.url()}&durability={durability}")
    assert isinstance(store, RedisStore)
    claim, kept = await owned(store), await owned(store, "kept")
    copy = await copied(server)
    again = await store.claim(claim.record.id, "owner")
    assert again is not None
    lost = await store.create(counter("lost"))
    await restored(server, copy)
    with pytest.raises(StoreUnavailable, match="older data than it has confirmed; try again"):
        await committed(store, commit_of(again, 2))
    results = await store.commit([commit_of(again, 2), commit_of(kept, 2)])
    assert results == [CommitResult.FENCED, COMMITTED]
    assert await store.find_by_id(lost[0].id) is None
    assert len(said(caplog)) == 1
    assert f"as ?durability={durability} in its URL accepts" in said(caplog)[0]
    async with Redis(port=server.port, protocol=2) as redis:
        await redis.flushall()
    await refused(store, kept, "not there")
    await store.close()


async def test_a_commit_that_was_lost_alone_is_behind(
    store: RedisStore, server: RedisServer
) -> None:
    """Nothing but commits since the copy: the actor's own number tells."""
    claim = await owned(store)
    copy = await copied(server)
    assert await store.commit([commit_of(claim, 2)]) == [COMMITTED]
    await restored(server, copy)
    assert await store.commit([commit_of(claim, 3)]) == [CommitResult.BEHIND]


async def test_a_beat_shows_every_host_an_older_copy(
    store: RedisStore, server: RedisServer
) -> None:
    other = await opened(server)
    claim = await owned(other)
    assert await store.renew_lease("host", 1)
    copy = await copied(server)
    assert await store.renew_lease("host", 2)
    await restored(server, copy)
    with pytest.raises(StoreLostData):
        await store.renew_lease("host", 3)
    await refused(store, claim, "older")
    await other.close()


async def test_a_part_that_is_lost_is_refused_and_named_at_the_next_opening(
    store: RedisStore, server: RedisServer, redis: Redis, caplog: Any
) -> None:
    """As where a server evicts keys, or a node of a cluster came back empty."""
    claim, kept = await owned(store, "a"), await owned(store, "b")
    assert identity_of(claim) != identity_of(kept)
    await redis.delete(identity_of(claim))
    await refused(store, claim, "not there")
    assert await store.commit([commit_of(kept, 2)]) == [COMMITTED]
    fresh = await opened(server)
    assert f"has lost the data of 1 of {SHARDS} shards" in said(caplog, logging.ERROR)[0]
    assert await fresh.renew_lease("host", 1)  # Its first change, with which it accepts.
    await refused(store, claim, "older")
    await fresh.close()


async def test_a_part_that_another_store_took_is_refused(
    store: RedisStore, server: RedisServer, redis: Redis
) -> None:
    """Also by a process that found it empty."""
    claim = await owned(store)
    await redis.delete(identity_of(claim))
    fresh = await opened(server)
    name = {"v": 2, "store": "another", "changes": 9}
    await redis.hset(identity_of(claim), mapping=name)
    with pytest.raises(StoreLostData, match="newer store"):
        await fresh.find("default", "counter", ("a",))
    await fresh.close()


async def test_without_the_comparison_an_empty_server_is_used_silently(
    store: RedisStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above would see, were the guard of the scripts not there."""
    claim = await owned(store)
    for name in ("create", "claim", "commit"):
        source = getattr(scripts, name).source
        compared = b"if store ~= ARGV[1] then"
        assert source.count(compared) == 1
        gone = source.replace(compared, b"changes = ARGV[2]\nif false then")
        monkeypatch.setattr(scripts, name, scripts.Script(gone))
    await redis.flushall()
    assert await store.commit([commit_of(claim, 2)]) == [CommitResult.FENCED]
    record, created = await store.create(counter("a"))
    assert created
    assert record.id == claim.record.id


async def test_one_batch_may_hold_both(store: RedisStore, redis: Redis, caplog: Any) -> None:
    claim, kept = await owned(store, "a"), await owned(store, "b")
    await redis.delete(identity_of(claim))
    lost, done = await store.commit([commit_of(claim, 2), commit_of(kept, 2)])
    assert isinstance(lost, StoreLostData)
    assert done is COMMITTED
    for sequence in range(3, 6):
        await store.commit([commit_of(kept, sequence)])
        await refused(store, claim, "not there")
    assert len(said(caplog)) == 1, "it is said again whenever another shard is used"
    assert "again" not in "".join(said(caplog, logging.WARNING))


async def test_many_who_open_at_once_agree(server: RedisServer, redis: Redis) -> None:
    stores = await asyncio.gather(*(opened(server) for _ in range(8)))
    assert await redis.dbsize() == 0, "opening writes nothing"
    await asyncio.gather(*(owned(store, str(number)) for number, store in enumerate(stores)))
    names = {await redis.hget(f"rivet{{rr:{shard}}}:s", "store") for shard in range(SHARDS)}
    assert len(names) == 1
    for number, store in enumerate(stores):
        assert await store.find("default", "counter", (str(-number % 8),)) is not None
        await store.close()


async def test_an_opening_that_was_cut_short_is_finished_by_the_next(
    server: RedisServer, redis: Redis, caplog: Any
) -> None:
    await redis.hset("rivet{rr:0}:s", mapping={"v": 2, "store": "x", "changes": 0})
    store = await opened(server)
    await owned(store)
    assert await redis.hget("rivet{rr:1023}:s", "store") == b"x"
    assert said(caplog, logging.ERROR) == []
    await store.close()


async def test_who_only_reads_sees_a_store_that_another_begins(
    store: RedisStore, server: RedisServer
) -> None:
    assert await store.find("default", "counter", ("a",)) is None
    other = await opened(server)
    claim = await owned(other)
    assert await store.find("default", "counter", ("a",)) == claim.record
    assert await store.commit([commit_of(claim, 2)]) == [COMMITTED]
    await other.close()


async def test_prefixes_are_stores_of_their_own(
    store: RedisStore, server: RedisServer, redis: Redis
) -> None:
    other = await opened(server, "other")
    mine, theirs = await owned(store), await owned(other)
    keys = [key async for key in redis.scan_iter("other*")]
    await redis.delete(*keys)
    await refused(other, theirs, "not there")
    assert await store.commit([commit_of(mine, 2)]) == [COMMITTED]
    await other.close()


async def test_parts_of_two_stores_are_not_opened(
    store: RedisStore, server: RedisServer, redis: Redis
) -> None:
    await owned(store)
    await redis.hset("rivet{rr:7}:s", "store", "another")
    with pytest.raises(StoreError, match="parts of 2 stores"):
        await open_redis(server.url())


async def test_an_identity_of_a_later_format_is_refused(
    store: RedisStore, server: RedisServer, redis: Redis
) -> None:
    await redis.hset("rivet{rr:7}:s", "v", "3")
    before = await redis.hgetall("rivet{rr:7}:s")
    with pytest.raises(StoreError, match=r"format 3.*upgrade"):
        await open_redis(server.url())
    assert await redis.hgetall("rivet{rr:7}:s") == before
