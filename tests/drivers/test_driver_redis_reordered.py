"""Replies that come in another order than their commands ran in prove no loss (ADR 27).

What a reply proves depends on when its command ran. Each of these holds one reply back
until others, of commands that ran later, have come.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis_cluster import RedisCluster
from redis_sentinels import Sentinels
from redis_server import RedisServer

from rivet_ray.errors import StoreError, StoreLostData, StoreUnavailable
from rivet_ray.store import ActorRecord, Claim, Commit, CommitResult, NewActor, Store
from rivet_ray_drivers.redis import RedisStore, open_redis
from rivet_ray_drivers.redis.connection import Command, RedisConnection, Reply
from rivet_ray_drivers.redis.layout import SHARDS, actor_name

Answers = Callable[[Sequence[Command]], Awaitable[list[Reply | StoreError]]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, "--appendfsync", "no").start()
    yield server
    server.stop()


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis(port=server.port, protocol=2) as client:
        yield client


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    async with opened(server.url()) as store:
        yield store


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStore]:
    store = await open_redis(url)
    assert isinstance(store, RedisStore)
    try:
        yield store
    finally:
        await store.close()


def counter(key: str) -> NewActor:
    return NewActor("default", "counter", (key,))


async def claimed(store: Store, record: ActorRecord) -> Claim:
    claim = await store.claim(record.id, "owner")
    assert claim is not None
    return claim


def identity_of(record: ActorRecord) -> str:
    name = actor_name(record.id)
    assert name is not None
    return f"rivet{{rr:{name.shard}}}:s"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


class Held:
    """The replies to the next commands of a store: computed now, delivered later."""

    def __init__(self, store: RedisStore) -> None:
        self._connection: RedisConnection = store._connection
        self._answers: Answers = self._connection.answers
        self._computed = asyncio.Event()
        self._released = asyncio.Event()

    async def of(self, operation: Awaitable[Any]) -> asyncio.Future[Any]:
        """Begin an operation, and return when its first replies have been computed."""
        self._connection.answers = self._hold  # type: ignore[method-assign]
        running = asyncio.ensure_future(operation)
        await self._computed.wait()
        return running

    async def _hold(self, commands: Sequence[Command]) -> list[Reply | StoreError]:
        self._connection.answers = self._answers  # type: ignore[method-assign]
        replies = await self._answers(commands)
        self._computed.set()
        await self._released.wait()
        return replies

    def deliver(self) -> None:
        self._released.set()


async def test_a_read_that_ran_before_a_claim_and_comes_after_it(
    store: RedisStore, caplog: Any
) -> None:
    """Its count of changes is smaller than what is known by then: no loss."""
    record, _ = await store.create(counter("a"))
    held = Held(store)
    reading = await held.of(store.find_by_id(record.id))
    claim = await claimed(store, record)
    held.deliver()
    assert await reading == record
    assert said(caplog) == []
    commit = Commit(record.id, claim.fence, 1, type=record.type)
    assert await store.commit([commit]) == [CommitResult.COMMITTED]


async def test_a_read_that_is_sent_after_a_claim_still_shows_what_is_lost(
    store: RedisStore, redis: Redis
) -> None:
    record, _ = await store.create(counter("a"))
    early, late = Held(store), Held(store)
    first = await early.of(store.find_by_id(record.id))
    await claimed(store, record)
    await redis.hincrby(identity_of(record), "changes", -1)
    second = await late.of(store.find_by_id(record.id))
    early.deliver()
    assert await first == record
    late.deliver()
    with pytest.raises(StoreLostData, match="older data"):
        await second


async def test_a_read_that_ran_before_the_store_began(store: RedisStore, caplog: Any) -> None:
    """It has found no name where there is one now: it was not taken away."""
    held = Held(store)
    reading = await held.of(store.find("default", "counter", ("a",)))
    await store.create(counter("a"))
    held.deliver()
    assert await reading is None
    assert said(caplog) == []


async def test_a_store_that_another_process_begins_and_changes(
    store: RedisStore, server: RedisServer, caplog: Any
) -> None:
    """Its reader learns all shards anew, and each of them may have changed since its reply."""
    async with opened(server.url()) as other:
        record, _ = await other.create(counter("a"))
        held = Held(store)
        reading = await held.of(store.find_by_id(record.id))
        await claimed(other, record)
        held.deliver()
        assert await reading == record
    assert said(caplog) == []


async def test_a_reply_of_before_a_loss_does_not_say_that_it_is_over(
    store: RedisStore, redis: Redis, caplog: Any
) -> None:
    record, _ = await store.create(counter("a"))
    held = Held(store)
    reading = await held.of(store.find_by_id(record.id))
    await redis.delete(identity_of(record))
    with pytest.raises(StoreLostData):
        await store.claim(record.id, "owner")
    held.deliver()
    assert await reading == record
    with pytest.raises(StoreLostData):
        await store.claim(record.id, "owner")
    assert len(said(caplog)) == 1
    assert "again" not in caplog.text.replace("every process of rivet_ray again", "")


async def test_a_reply_of_before_a_loss_that_was_accepted(
    server: RedisServer, redis: Redis, caplog: Any
) -> None:
    """It must not become what the older data are held against."""
    async with opened(f"{server.url()}&durability=none") as store:
        record, _ = await store.create(counter("a"))
        caplog.clear()
        held = Held(store)
        claiming = await held.of(store.claim(record.id, "owner"))
        await redis.hset(identity_of(record), "changes", 0)
        with pytest.raises(StoreUnavailable, match="try again"):
            await store.find_by_id(record.id)
        held.deliver()
        assert await claiming is not None
        assert await store.find_by_id(record.id) == record
    assert len(said(caplog)) == 1


async def test_a_store_that_begins_while_its_shards_are_looked_at(
    store: RedisStore, server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """As on a cluster, whose nodes answer at different times: the first shard last."""
    answers = RedisConnection.answers

    async def piecemeal(
        connection: RedisConnection, commands: Sequence[Command]
    ) -> list[Reply | StoreError]:
        if len(commands) != SHARDS or connection is store._connection:
            return await answers(connection, commands)
        rest = await answers(connection, commands[1:])
        await store.create(counter("a"))
        return [*await answers(connection, commands[:1]), *rest]

    monkeypatch.setattr(RedisConnection, "answers", piecemeal)
    async with opened(server.url()) as other:
        assert other._identity.lost_shards == 0
        assert await other.find("default", "counter", ("a",)) is not None
    assert said(caplog) == []


# --- Many at once ---------------------------------------------------------------


@contextmanager
def one_server(directory: Path) -> Iterator[str]:
    server = RedisServer(directory, "--appendfsync", "no").start()
    try:
        yield server.url()
    finally:
        server.stop()


@contextmanager
def sentinels(directory: Path) -> Iterator[str]:
    watched = Sentinels(directory, "--appendfsync", "no")
    try:
        yield watched.start().url()
    finally:
        watched.stop()


@contextmanager
def cluster(directory: Path) -> Iterator[str]:
    nodes = RedisCluster(directory, options=("--appendfsync", "no"))
    try:
        yield nodes.start().url()
    finally:
        nodes.stop()


async def mixed(url: str, operations: int) -> None:
    """Reads, claims, commits, creations and beats of two processes, on all connections."""
    async with opened(url) as store, opened(url) as other:
        await _mixed([store, other], operations)


async def _mixed(stores: Sequence[RedisStore], operations: int) -> None:
    records = [(await stores[0].create(counter(str(number))))[0] for number in range(12)]
    numbers = iter(range(operations))
    await stores[0].renew_lease("host", 1)
    beats = count(2)

    async def work(store: RedisStore, dice: random.Random) -> None:
        for number in numbers:
            record = dice.choice(records)
            match dice.randrange(8):
                case 0 | 1 | 2:
                    assert await store.find_by_id(record.id) == record
                case 3:
                    assert await store.find("default", "counter", record.key) == record
                case 4:
                    assert not (await store.create(counter(record.key[0])))[1]
                case 5:
                    await store.renew_lease("host", next(beats))
                    assert await store.find_lease("host") is not None
                case 6:
                    claims = [await claimed(store, record), await claimed(store, records[0])]
                    changes = [
                        Commit(
                            claim.record.id, claim.fence, claim.sequence + 1, type=claim.record.type
                        )
                        for claim in claims
                    ]
                    for result in await store.commit(changes):
                        assert result in (CommitResult.COMMITTED, CommitResult.FENCED)
                case _ if number % 50 == 7:
                    assert len(await store.list_actors("default")) == len(records)
                case _:
                    await claimed(store, record)

    async with asyncio.TaskGroup() as group:
        for number in range(48):
            group.create_task(work(stores[number % 2], random.Random(number)))


KINDS = [one_server, sentinels, cluster]


@pytest.mark.parametrize("kind", KINDS)
async def test_no_false_alarm_in_two_thousand_operations(
    kind: Callable[[Path], Any], tmp_path: Path, caplog: Any
) -> None:
    """On as many connections as there are, each of which answers when it likes."""
    with kind(tmp_path) as url:
        await mixed(url, 2_000)
    assert said(caplog) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
async def test_no_false_alarm_in_a_million_operations(
    kind: Callable[[Path], Any], tmp_path: Path, caplog: Any
) -> None:
    with kind(tmp_path) as url:
        await mixed(url, 1_000_000)
    assert said(caplog) == []
