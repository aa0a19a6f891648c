"""Format 2 of the records, as bytes: every later version of the driver reads them.

A change that makes this test fail needs a new format, and the way from 2 to it
(see "Formats" in the package's docstring). That a later format is refused and
left alone is in `test_driver_redis_failures` and `test_driver_redis_lost`.
"""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis
from redis_server import RedisServer

from rivet_ray.errors import StoreError
from rivet_ray.store import (
    ActorRecord,
    ActorSize,
    Claimant,
    Commit,
    CommitResult,
    Fence,
    HostLease,
    IndexEntry,
    NewActor,
    Ownership,
    Snapshot,
    Stamp,
    TypeSize,
)
from rivet_ray_drivers.redis import open_redis

HASHES: dict[str, dict[str, bytes]] = {
    "rivet{rr:1016}:a:fe1ae08b8b82392c": {
        "v": b"2",
        "generation": b"2",
        "epoch": b"2",
        "created": b"1700000000.25",
        "place": b"default\x00\x01counter\x00\x01a\x00\x01b/c\x00\x01",
        "input": b"\x81\xa1x\x01",
        "region": b"eu",
        "token": b"token",
        "owner": b"host-1",
        "version": b"3",
        "code": b"5d41402abc4b2a76",
        "sequence": b"1",
        "d:1": b"1 2 token",
        "alarm": b"1700000060.5",
        "size": b"5",
        "i:2": b"\x80\x00\xff\x00\x01",
        "p:state/count": b"\x07",
        "p:created": b"",
    },
    "rivet{rr:524}:a:83117e213bb630e4": {
        "v": b"2",
        "generation": b"1",
        "epoch": b"1",
        "d:1": b"1 2 token",
    },
    "rivet{rr:1016}:k": {
        "n:default\x00\x01counter\x00\x01": b"1",
        "b:default\x00\x01counter\x00\x01": b"5",
    },
    "rivet{rr:524}:k": {
        "n:default\x00\x01counter\x00\x01": b"0",
        "b:default\x00\x01counter\x00\x01": b"0",
    },
    "rivet{rr:535}:l:host-1": {"v": b"2", "beat": b"7", "address": b"10.0.0.1:7000"},
}
SORTED: dict[str, dict[str | bytes, float]] = {
    "rivet:w": {"rivet{rr:1016}:w:default\x00\x01counter\x00\x01": 1700000060.5},
    "rivet{rr:1016}:n": {"fe1ae08b8b82392c-2": 0.0},
    "rivet{rr:1016}:i:0:default\x00\x01counter\x00\x01": {
        "a\x00\x01b/c\x00\x01\x00\x00fe1ae08b8b82392c-2": 0.0
    },
    "rivet{rr:1016}:i:2:default\x00\x01counter\x00\x01": {
        b"\x80\x00\xff\x00\x01a\x00\x01b/c\x00\x01\x00\x00fe1ae08b8b82392c-2": 0.0
    },
    "rivet{rr:1016}:w": {"default\x00\x01counter\x00\x01": 1700000060.5},
    "rivet{rr:1016}:w:default\x00\x01counter\x00\x01": {"fe1ae08b8b82392c-2": 1700000060.5},
}
LEASES = "rivet{rr:535}:l"
"""The index of leases of a shard; its scores are times."""
GONE = "83117e213bb630e4"
"""The id of a destroyed actor, with the key "gone"."""
STAMP = Stamp(3, "5d41402abc4b2a76")
PLACE = ("default", "counter", ("a", "b/c"))
RECORD = ActorRecord("fe1ae08b8b82392c-2", *PLACE, b"\x81\xa1x\x01", "eu", 1700000000.25)


@pytest.mark.parametrize("named", [True, False], ids=["", "without identities"])
async def test_format_2_is_read(server: RedisServer, redis: Redis, named: bool) -> None:
    """Also from the days when shards had no identity: opening takes them in."""
    for key, fields in HASHES.items():
        await redis.hset(key, mapping=fields)
    for key, members in SORTED.items():
        await redis.zadd(key, members)
    await redis.zadd(LEASES, {"host-1": 1700000000})
    if named:
        for shard in range(1024):
            identity = {"v": "2", "store": "5b6773b520612a93", "changes": "4"}
            await redis.hset(f"rivet{{rr:{shard}}}:s", mapping=identity)
        await redis.hset("rivet{rr:0}:s", "complete", "1")
    store = await open_redis(server.url())
    assert await store.find(*PLACE) == RECORD
    assert await store.create(NewActor(*PLACE)) == (RECORD, False)
    assert await store.list_actors("default", "counter", ("a",)) == [RECORD]
    assert await store.list_sizes() == [ActorSize(RECORD.id, RECORD.type, RECORD.key, 5)]
    assert await store.alarms_due(1.8e9) == [(1700000060.5, RECORD.id)]
    assert await store.find_lease("host-1") == HostLease("host-1", 7, "10.0.0.1:7000")
    assert await store.list_hosts() == [HostLease("host-1", 7, "10.0.0.1:7000")]
    destroyed = Commit(GONE, Fence(1, "token"), 2, destroy=True, type=RECORD.type)
    assert await store.commit([destroyed]) == [CommitResult.ALREADY_DONE]
    last = Commit(RECORD.id, Fence(2, "token"), 1, type=RECORD.type)
    assert await store.commit([last]) == [CommitResult.ALREADY_DONE]
    assert await store.find_ownership(RECORD.id) == Ownership("host-1", 2, STAMP)
    read = await store.read(RECORD.id)
    claim = await store.claim(RECORD.id, "next")
    assert claim is not None
    assert (claim.record, claim.fence, claim.sequence) == (RECORD, Fence(3, "next"), 1)
    assert read == Snapshot(
        RECORD, Ownership("host-1", 2, STAMP), 1, claim.parts, claim.alarm, claim.entries
    )
    assert (claim.stamp, claim.entries) == (STAMP, {2: b"\x80\x00"})
    assert await store.list_index(RECORD.type) == [IndexEntry(b"", RECORD.key, RECORD.id)]
    assert await store.list_index(RECORD.type, 2) == [
        IndexEntry(b"\x80\x00", RECORD.key, RECORD.id)
    ]
    assert await store.sizes() == [TypeSize(RECORD.type, 1, 5)]
    assert (dict(claim.parts), claim.alarm) == (
        {"state/count": b"\x07", "created": b""},
        1700000060.5,
    )
    await store.close()


async def test_format_2_is_written(server: RedisServer, redis: Redis) -> None:
    store = await open_redis(server.url())
    for key in (("a", "b/c"), ("gone",)):
        for generation in (1, 2) if key == PLACE[2] else (1,):
            new = NewActor("default", "counter", key, b"\x81\xa1x\x01", "eu", 1700000000.25)
            record, _ = await store.create(new)
            claim = await store.claim(record.id, "token", Claimant("host-1"))
            assert claim is not None
            first = Commit(
                record.id,
                claim.fence,
                1,
                {"state/count": b"\x07", "created": b""},
                alarm=1700000060.5,
                stamp=STAMP,
                entries={2: b"\x80\x00"},
                type=record.type,
            )
            assert await store.commit([first]) == [CommitResult.COMMITTED]
            if generation == 1:
                last = Commit(
                    record.id,
                    claim.fence,
                    2,
                    destroy=True,
                    entries={2: None},
                    type=record.type,
                )
                assert await store.commit([last]) == [CommitResult.COMMITTED]
    await store.renew_lease("host-1", 1)
    await store.renew_lease("host-1", 7, "10.0.0.1:7000")
    await store.close()
    for key, fields in HASHES.items():
        found = await redis.hgetall(key)
        assert {name.decode(): value for name, value in found.items()} == fields
    for key, members in SORTED.items():
        found = await redis.zrange(key, 0, -1, withscores=True)
        named = {
            name.encode() if isinstance(name, str) else name: members[name] for name in members
        }
        assert dict(found) == named
    ((member, written),) = await redis.zrange(LEASES, 0, -1, withscores=True)
    assert (member, time.time() - written < 3600) == (b"host-1", True)
    keys = {key.decode() for key in await redis.keys()}
    assert {key for key in keys if not key.endswith(":s")} == {*HASHES, *SORTED, LEASES}


async def test_format_1_is_refused_and_left_as_it_is(server: RedisServer, redis: Redis) -> None:
    for shard in range(1024):
        identity = {"v": "1", "store": "5b6773b520612a93", "changes": "4"}
        await redis.hset(f"rivet{{rr:{shard}}}:s", mapping=identity)
    before = await redis.hgetall("rivet{rr:0}:s")
    with pytest.raises(StoreError, match=r"format 1.*knows format 2 only: it cannot read that"):
        await open_redis(server.url())
    assert await redis.hgetall("rivet{rr:0}:s") == before
