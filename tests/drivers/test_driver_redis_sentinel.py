"""`redis+sentinel://`: the primary of the day, before and after a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from driver_leases import age_on_redis
from redis.asyncio import Redis
from redis_sentinels import SERVICE, Sentinels

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray.store import Claim, Commit, CommitResult, NewActor, Store
from rivet_ray.testing import DurableStoreConformance
from rivet_ray_drivers.redis import open_redis, sentinel

COMMITTED, ALREADY_DONE = CommitResult.COMMITTED, CommitResult.ALREADY_DONE


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    sentinels = Sentinels(tmp_path_factory.mktemp("sentinels"))
    try:
        yield sentinels.start()
    finally:
        sentinels.stop()


class TestRedisSentinel(DurableStoreConformance):
    @pytest.fixture(autouse=True)
    def _place(self, watched: Sentinels, request: pytest.FixtureRequest) -> None:
        self.url = watched.url(request.node.name)
        self.prefix, self.ports = request.node.name, [watched.primary_port()]

    async def open_store(self) -> Store:
        return await open_redis(self.url)

    async def age_leases(self, store: Store, seconds: float) -> None:
        await age_on_redis(self.ports, self.prefix, seconds)


async def owned(store: Store, key: str) -> Claim:
    record, _ = await store.create(NewActor("default", "counter", (key,)))
    claim = await store.claim(record.id, "owner")
    assert claim is not None
    return claim


def commit_of(claim: Claim, sequence: int) -> Commit:
    return Commit(
        claim.record.id, claim.fence, sequence, {f"{sequence}": b"1"}, type=claim.record.type
    )


async def test_a_service_that_no_sentinel_knows_is_an_error(watched: Sentinels) -> None:
    with pytest.raises(StoreError, match="knows no service 'other'") as caught:
        await open_redis(watched.url().replace(f"/{SERVICE}/", "/other/"))
    assert not isinstance(caught.value, StoreUnavailable)


async def test_one_sentinel_that_answers_is_enough(watched: Sentinels) -> None:
    url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{watched.ports[2]}/{SERVICE}"
    store = await open_redis(url)
    assert await store.next_alarm() is None
    await store.close()


async def test_no_sentinel_is_one_clear_line() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await open_redis("redis+sentinel://me:s3cr3t@127.0.0.1:1,127.0.0.1:2/main")
    assert str(caught.value) == "Redis at 127.0.0.1:1 does not answer: Connection refused."


async def test_service_returns_after_a_failover_without_a_restart(tmp_path: Path) -> None:
    """C2 as far as the replica has it: nothing acknowledged was lost, as both were idle."""
    watched = Sentinels(tmp_path)
    try:
        watched.start()
        store = await open_redis(watched.url())
        claims = [await owned(store, str(number)) for number in range(20)]
        assert await store.commit([commit_of(claim, 1) for claim in claims]) == [COMMITTED] * 20
        async with Redis(port=watched.servers[0].port) as client:
            assert await client.wait(1, 5000) == 1
        watched.servers[0].kill()
        batch = [commit_of(claim, 2) for claim in claims]
        results, failures = await repeated(store, batch)
        assert failures > 0
        assert results == [COMMITTED] * 20
        assert watched.primary_port() == watched.servers[1].port
        # The old primary comes back as what it was, and is made a replica.
        watched.servers[0].start()
        assert await store.commit(batch) == [ALREADY_DONE] * 20
        again = await open_redis(watched.url())
        found = await again.claim(claims[0].record.id, "other")
        assert found is not None
        assert (dict(found.parts), found.sequence) == ({"1": b"1", "2": b"1"}, 2)
        await again.close()
        await store.close()
    finally:
        watched.stop()


@pytest.mark.slow
@pytest.mark.parametrize("guard", ["min-replicas-to-write", "asking"])
async def test_a_deposed_primary_that_nobody_told_is_left(
    tmp_path: Path, guard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For some seconds it still takes writes, on connections that never broke."""
    monkeypatch.setattr(sentinel, "CHECK_EVERY", 1e9 if guard != "asking" else 0.05)
    watched = Sentinels(tmp_path)
    try:
        watched.start()
        store = await open_redis(watched.url())
        claim = await owned(store, "a")
        async with Redis(port=watched.servers[0].port) as primary:
            if guard != "asking":
                await primary.config_set(guard, 1)
            async with Redis(port=watched.ports[0]) as asked, asyncio.timeout(15):
                await asked.execute_command("SENTINEL FAILOVER", SERVICE)
                while watched.primary_port() == watched.servers[0].port:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert (await primary.execute_command("ROLE"))[0] == b"master"
        if guard == "asking":
            for _ in range(2):
                await store.find_by_id(claim.record.id)
                await asyncio.sleep(0.2)
        async with asyncio.timeout(4):  # sooner than the sentinels make it a replica
            results, _ = await repeated(store, [commit_of(claim, 1)])
        assert results == [COMMITTED]
        async with Redis(port=watched.servers[1].port) as successor:
            (actor,) = await successor.keys("rivet*:a:*")
            assert b"p:1" in await successor.hkeys(actor)
        await store.close()
    finally:
        watched.stop()


async def repeated(store: Store, batch: list[Commit]) -> tuple[list[CommitResult], int]:
    """As the runtime does it: the same commits until the store answers."""
    failures = 0
    async with asyncio.timeout(20):
        while True:
            try:
                return await store.commit(batch), failures
            except StoreUnavailable:
                failures += 1
                await asyncio.sleep(0.05)
