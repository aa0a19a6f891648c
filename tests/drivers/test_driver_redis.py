"""`redis://` keeps every promise of the store port, on a real server.

And what is its own: shards, one script call for each, the index of alarms.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from driver_leases import age_on_redis
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis_server import RedisServer

from rivet_ray.errors import StoreError
from rivet_ray.ids import actor_id
from rivet_ray.store import (
    TOMBSTONE_KEPT,
    ActorType,
    Claim,
    Commit,
    CommitResult,
    Fence,
    NewActor,
    Store,
    Timekeeper,
)
from rivet_ray.testing import DurableStoreConformance
from rivet_ray_drivers.memory import MemoryStore
from rivet_ray_drivers.redis import RedisStore, open_redis
from rivet_ray_drivers.redis import store as store_module
from rivet_ray_drivers.redis.layout import SHARDS, actor_name, first_shard

COMMITTED = CommitResult.COMMITTED


class TestRedis(DurableStoreConformance):
    @pytest.fixture(autouse=True)
    def _place(self, server: RedisServer, request: pytest.FixtureRequest) -> None:
        self.url = server.url(request.node.name)
        self.prefix, self.ports = request.node.name, [server.port]

    async def open_store(self) -> Store:
        return await open_redis(self.url)

    async def age_leases(self, store: Store, seconds: float) -> None:
        await age_on_redis(self.ports, self.prefix, seconds)


def counter(key: str, input: bytes | None = None) -> NewActor:
    return NewActor("default", "counter", (key,), input)


async def owned(store: Store, key: str) -> Claim:
    record, _ = await store.create(counter(key))
    claim = await store.claim(record.id, "owner")
    assert claim is not None
    return claim


def commit_of(claim: Claim, sequence: int = 1, **change: Any) -> Commit:
    return Commit(claim.record.id, claim.fence, sequence, **change, type=claim.record.type)


# --- Shards ------------------------------------------------------------------

digits = st.text("0123456789abcdef", min_size=16, max_size=16)


@given(digits, st.integers(2, 10**14))
def test_an_id_is_taken_apart(first: str, generation: int) -> None:
    one, other = actor_name(first), actor_name(f"{first}-{generation}")
    assert one is not None
    assert other is not None
    assert (one.digits, one.generation, other.generation) == (first, 1, generation)
    assert 0 <= one.shard == other.shard < SHARDS


@given(digits, digits)
def test_shards_are_successive_ranges_of_ids(one: str, other: str) -> None:
    first, second = sorted((one, other))
    names = actor_name(first), actor_name(second)
    assert names[0] is not None
    assert names[1] is not None
    assert names[0].shard <= names[1].shard
    assert first_shard(first) == names[0].shard
    assert first_shard(f"{first}-2") == names[0].shard


@given(st.text(), digits)
def test_no_id_behind_a_text_is_in_an_earlier_shard(after: str, first: str) -> None:
    name = actor_name(first)
    assert name is not None
    assert first <= after or name.shard >= first_shard(after)


@pytest.mark.parametrize(
    "text",
    ["", "x", "0" * 15, "0" * 17, "0" * 16 + "-1", "0" * 16 + "-02", "A" * 16, "0" * 16 + "\n"],
)
def test_what_is_no_id_names_nothing(text: str) -> None:
    assert actor_name(text) is None


async def test_all_keys_of_an_actor_share_the_hash_tag_of_its_shard(
    store: RedisStore, redis: Redis
) -> None:
    claim = await owned(store, "a")
    name = actor_name(claim.record.id)
    assert name is not None
    await store.commit([commit_of(claim, put={"a": b"1"}, alarm=1.0)])
    shard = b"rivet{rr:%d}:" % name.shard
    actor = b"a:" + name.digits.encode()
    identities = {b"rivet{rr:%d}:s" % number for number in range(SHARDS)}
    of = b"default\x00\x01counter\x00\x01"
    keys = {shard + actor, shard + b"w", shard + b"w:" + of, b"rivet:w"}
    keys |= {shard + b"n", shard + b"i:0:" + of, shard + b"k"}
    assert set(await redis.keys()) == keys | identities
    await store.commit([commit_of(claim, 2, destroy=True)])
    assert set(await redis.keys()) == {shard + actor, shard + b"k"} | identities
    assert await redis.hgetall((shard + actor).decode()) == {
        b"v": b"2",
        b"generation": b"1",
        b"epoch": b"1",
        b"d:1": b"1 2 " + claim.fence.token.encode(),
    }
    assert 0 < await redis.ttl((shard + actor).decode()) <= TOMBSTONE_KEPT
    await owned(store, "a")
    assert await redis.ttl((shard + actor).decode()) == -1, "an actor that lives never expires"


async def test_commits_take_one_round_trip_and_one_script_call_for_each_shard(
    store: RedisStore, redis: Redis
) -> None:
    claims = [await owned(store, str(number)) for number in range(64)]
    names = [actor_name(claim.record.id) for claim in claims]
    await redis.config_resetstat()
    before = store.statistics().round_trips
    batch = [commit_of(claim, put={"a": b"1"}) for claim in claims]
    batch += [commit_of(claim, 2, put={"a": b"2"}) for claim in claims]
    assert await store.commit(batch) == [COMMITTED] * 128
    assert store.statistics().round_trips == before + 1
    calls = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert calls == len({name.shard for name in names if name})


async def test_what_no_actor_can_be_costs_no_round_trip(store: RedisStore) -> None:
    before = store.statistics().round_trips
    odd = "\ud800\x00\udfff"
    assert await store.find_by_id(odd) is None
    assert await store.claim(odd, odd) is None
    assert await store.commit(
        [Commit(odd, Fence(1, odd), 1, type=ActorType("default", "counter"))]
    ) == [CommitResult.FENCED]
    assert await store.alarms_due(1.0, 0) == []
    assert store.statistics().round_trips == before


async def test_prefixes_share_a_database_and_nothing_else(
    store: RedisStore, server: RedisServer
) -> None:
    other = await open_redis(server.url("other"))
    claim = await owned(store, "a")
    await store.commit([commit_of(claim, put={"a": b"1"}, alarm=1.0)])
    await store.renew_lease("host", 1)
    assert await other.find_by_id(claim.record.id) is None
    assert await other.list_actors("default") == []
    assert await other.next_alarm() is None
    assert await other.alarms_due(2.0) == []
    assert await other.find_lease("host") is None
    assert (await other.create(counter("a")))[1]
    await other.close()


async def test_any_text_can_be_kept_and_asked_for(store: RedisStore) -> None:
    """JavaScript strings may hold half a character, and zeros."""
    odd = "\ud800\x00\udfff"
    record, _ = await store.create(NewActor(odd, odd, (odd, odd), b"", odd))
    assert await store.find(odd, odd, (odd, odd)) == record
    assert await store.list_actors(odd, odd, (odd,)) == [record]
    assert await store.list_actors(odd, None, (odd,), after=odd[1:]) == [record]
    assert await store.list_actors(odd, after=odd) == []
    claim = await store.claim(record.id, odd)
    assert claim is not None
    assert await store.commit([commit_of(claim, put={odd: b"1"})]) == [COMMITTED]
    again = await store.claim(record.id, odd)
    assert again is not None
    assert (dict(again.parts), again.fence.token) == ({odd: b"1"}, odd)
    assert await store.renew_lease(odd, 1, odd)
    lease = await store.find_lease(odd)
    assert lease is not None
    assert lease.address == odd


async def test_more_parts_than_the_stack_of_a_script_holds(store: RedisStore) -> None:
    claim = await owned(store, "a")
    parts = {f"part {number}": b"%d" % number for number in range(12_000)}
    assert await store.commit([commit_of(claim, put=parts)]) == [COMMITTED]
    gone = frozenset(f"part {number}" for number in range(11_000))
    assert await store.commit([commit_of(claim, 2, delete=gone)]) == [COMMITTED]
    again = await store.claim(claim.record.id, "again")
    assert again is not None
    assert again.parts == {part: value for part, value in parts.items() if part not in gone}


async def test_a_long_list_is_read_in_short_calls(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis does nothing else while a script runs."""
    records = [(await store.create(counter(str(number))))[0] for number in range(20)]
    rare, _ = await store.create(NewActor("default", "rare", ()))
    for budget, most in ((10, 100), (100, 12), (5000, 1)):
        monkeypatch.setattr(store_module, "LIST_BUDGET", budget)
        before = store.statistics().round_trips
        assert await store.list_actors("default", "rare") == [rare]
        calls = store.statistics().round_trips - before
        assert most / 3 < calls <= most
        expected = sorted(record.id for record in [*records, rare])
        assert [found.id for found in await store.list_actors("default")] == expected


# --- Like memory -------------------------------------------------------------


def keys_of_one_shard(name: str, count: int) -> list[tuple[str, str]]:
    keys = (("a", str(number)) for number in itertools.count())
    found = (key for key in keys if actor_id("default", name, key) < "004")
    return list(itertools.islice(found, count))


@pytest.mark.parametrize("seed", range(4))
async def test_random_operations_give_what_the_memory_driver_gives(
    store: RedisStore, redis: Redis, seed: int
) -> None:
    """The index of alarms is right after each step, over generations too."""
    dice = random.Random(seed)
    memory = MemoryStore()
    crowd = {name: keys_of_one_shard(name, 3) for name in "xy"}
    known: list[tuple[str, Fence, int]] = [("none", Fence(0, ""), 1)]

    def choose() -> Callable[[Store], Awaitable[Any]]:
        name, key = dice.choice("xy"), tuple(dice.choices("ab", k=dice.randrange(3)))
        if dice.random() < 0.6:
            key = dice.choice(crowd[name])
        chosen, token, time = (
            dice.sample(known[-12:], min(4, len(known[-12:]))),
            str(dice.random()),
            dice.choice([0.5, 1.0, 2.0, 2.5]),
        )
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
            lambda s: s.find_by_id(identity),
            lambda s: s.list_actors("default", name, key[:1]),
            lambda s: s.list_actors("default", None, key[:1]),
            lambda s: s.list_actors("default", limit=2, after=identity),
            lambda s: s.alarms_due(time),
            lambda s: s.alarms_due(time, 2),
            lambda s: s.next_alarm(),
            lambda s: s.next_alarm(time),
        ]
        return dice.choices(choices, [3, 3, 8, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2])[0]

    for _ in range(200):
        operation = choose()
        expected = await operation(memory)
        assert await operation(store) == expected
        if isinstance(expected, Claim):
            known.append((expected.record.id, expected.fence, expected.sequence))
        elif isinstance(expected, tuple) and expected[1] is True:
            known.append((expected[0].id, Fence(0, ""), 0))
    truth = {
        key: first[0][1]
        for key in await redis.keys("rivet{*}:w")
        if (first := await redis.zrange(key, 0, 0, withscores=True))
    }
    assert dict(await redis.zrange("rivet:w", 0, -1, withscores=True)) == truth


async def test_the_earliest_alarms_of_many_are_chosen(store: RedisStore) -> None:
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


async def test_a_lost_index_of_alarms_is_built_at_opening(
    store: RedisStore, redis: Redis, server: RedisServer
) -> None:
    claim, other = await owned(store, "a"), await owned(store, "b")
    await store.commit([commit_of(claim, alarm=5.0), commit_of(other, alarm=6.0)])
    await redis.delete("rivet:w")
    again = await open_redis(server.url())
    assert await again.next_alarm() == 5.0
    assert await again.alarms_due(9.0) == [(5.0, claim.record.id), (6.0, other.record.id)]
    await again.close()


# --- Ownership over stores -----------------------------------------------------


async def test_of_two_stores_the_later_claim_owns(store: RedisStore, server: RedisServer) -> None:
    """C1: a write from a deposed owner is refused, whoever's connection it is."""
    other = await open_redis(server.url())
    first = await owned(store, "a")
    assert await store.commit([commit_of(first, put={"a": b"1"})]) == [COMMITTED]
    second = await other.claim(first.record.id, "other")
    assert second is not None
    assert second.fence.epoch == first.fence.epoch + 1
    assert await store.commit([commit_of(first, 2, put={"a": b"2"})]) == [CommitResult.FENCED]
    assert await store.commit([commit_of(first, 2, destroy=True)]) == [CommitResult.FENCED]
    assert await other.commit([commit_of(second, 2, put={"a": b"3"})]) == [COMMITTED]
    third = await owned(store, "a")
    assert (dict(third.parts), third.sequence) == ({"a": b"3"}, 2)
    await other.close()


async def test_large_numbers_are_exact(store: RedisStore, redis: Redis) -> None:
    """Lua's numbers are doubles; nothing here comes near where they lose units."""
    claim = await owned(store, "a")
    name = actor_name(claim.record.id)
    assert name is not None
    actor = f"rivet{{rr:{name.shard}}}:a:{name.digits}"
    large = 2**52
    await redis.hset(actor, mapping={"epoch": large, "sequence": large})
    again = await store.claim(claim.record.id, "t")
    assert again is not None
    assert (again.fence.epoch, again.sequence) == (large + 1, large)
    assert await store.commit([commit_of(again, large + 1)]) == [COMMITTED]
    assert await store.commit([commit_of(again, large + 3)]) == [CommitResult.BEHIND]
    with pytest.raises(StoreError, match="below 2"):
        await store.commit([commit_of(again, 2**53)])


async def test_an_alarm_that_is_no_number_is_refused(store: RedisStore) -> None:
    claim = await owned(store, "a")
    with pytest.raises(StoreError, match="NaN"):
        await store.commit([commit_of(claim, alarm=float("nan"))])
    assert await store.commit([commit_of(claim, alarm=float("inf"))]) == [COMMITTED]
    assert await store.next_alarm() == float("inf")


async def test_the_id_of_another_key_is_no_answer(store: RedisStore, redis: Redis) -> None:
    """Two keys with the same 64 bits can be made on purpose; they never share an actor."""
    claim = await owned(store, "a")
    name, other = actor_name(claim.record.id), actor_name(actor_id("default", "counter", ["b"]))
    assert name is not None
    assert other is not None
    await redis.rename(
        f"rivet{{rr:{name.shard}}}:a:{name.digits}", f"rivet{{rr:{other.shard}}}:a:{other.digits}"
    )
    assert await store.find("default", "counter", ["b"]) is None
    with pytest.raises(StoreError, match="id of another"):
        await store.create(counter("b"))


async def test_its_clock_is_that_of_the_server(store: RedisStore, redis: Redis) -> None:
    seconds, microseconds = await redis.time()
    found = await store.now()
    assert 0 <= found - (seconds + microseconds / 1e6) < 1
    assert isinstance(store, Timekeeper)
