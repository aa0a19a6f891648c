"""What a Redis server's settings mean for our data, read from real servers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis_cluster import RedisCluster, running
from redis_sentinels import Sentinels
from redis_server import RedisServer

from rivet_ray.errors import StoreUnavailable
from rivet_ray.store import Finding, NewActor, Verdict
from rivet_ray_drivers.redis import RedisStore, open_redis
from rivet_ray_drivers.redis.examination import Server, findings
from rivet_ray_drivers.redis.location import Durability

OK, UNKNOWN, WARNING, PROBLEM = Verdict.OK, Verdict.UNKNOWN, Verdict.WARNING, Verdict.PROBLEM


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    servers: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        directory = tmp_path / str(len(servers))
        directory.mkdir()
        servers.append(RedisServer(directory, *options).start())
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStore]:
    store = await open_redis(url)
    assert isinstance(store, RedisStore)
    try:
        yield store
    finally:
        await store.close()


async def examined(url: str) -> dict[str, Finding]:
    async with opened(url) as store:
        return {finding.subject: finding for finding in await store.examine()}


@pytest.mark.parametrize(
    ("options", "demanded", "verdict", "words"),
    [
        ([], "", OK, "survives a kill of Redis and a loss of power"),
        ([], "always", OK, "appendfsync always"),
        (["--appendfsync", "everysec"], "", WARNING, "loses the last second or two"),
        (["--appendfsync", "everysec"], "everysec", OK, "appendfsync everysec"),
        (["--appendfsync", "everysec"], "none", OK, "appendfsync everysec"),
        (["--appendfsync", "everysec"], "always", PROBLEM, "appendfsync everysec"),
        (["--appendfsync", "no"], "everysec", PROBLEM, "loses what was acknowledged"),
        (["--appendonly", "no"], "", WARNING, "appendonly no: a kill of Redis"),
        (["--appendonly", "no"], "none", OK, "appendonly no"),
        (["--appendonly", "no", "--save", "60 1"], "always", PROBLEM, "snapshots by save 60 1"),
    ],
)
async def test_durability_is_named_and_compared_with_what_the_url_demands(
    start: Callable[..., RedisServer],
    caplog: pytest.LogCaptureFixture,
    options: list[str],
    demanded: str,
    verdict: Verdict,
    words: str,
) -> None:
    url = start(*options).url() + (f"&durability={demanded}" if demanded else "")
    finding = (await examined(url))["durability"]
    assert finding.verdict is verdict
    assert words in finding.found
    assert bool(finding.advice) == finding.alarming
    if finding.alarming:
        cure = demanded or "always"
        assert f"set appendonly yes and appendfsync {cure}." in finding.advice
    warned = [record for record in caplog.records if "demands" in record.message]
    assert len(warned) == (verdict is PROBLEM), "said at the opening too, where it is demanded"


async def test_a_good_server_has_nothing_to_mend(start: Callable[..., RedisServer]) -> None:
    found = await examined(start().url())
    assert {finding.verdict for finding in found.values()} == {OK}
    assert found["version"].found >= "7"
    assert "none yet" in found["store"].found


async def test_looking_writes_nothing(start: Callable[..., RedisServer]) -> None:
    """An empty server stays one: only who uses it begins a store there."""
    server = start()
    await examined(server.url())
    async with Redis(port=server.port) as redis:
        assert await redis.dbsize() == 0


async def test_settings_that_endanger_data_are_named(start: Callable[..., RedisServer]) -> None:
    primary = start(*("--maxmemory-policy", "allkeys-lru", "--no-appendfsync-on-rewrite", "yes"))
    replica = start("--replicaof", "127.0.0.1", str(primary.port))
    async with Redis(port=replica.port, decode_responses=True) as redis:
        for _ in range(500):
            if (await redis.info("replication"))["master_link_status"] == "up":
                break
            time.sleep(0.01)  # noqa: ASYNC251
    async with Redis(port=primary.port) as redis:
        await redis.config_set("maxmemory", 100_000)
    found = await examined(primary.url())
    assert found["eviction"].verdict is PROBLEM
    assert "maxmemory-policy noeviction" in found["eviction"].advice
    assert found["memory"].verdict is WARNING
    assert found["fsync while it rewrites"].verdict is WARNING
    assert found["replicas"].verdict is WARNING
    assert "min-replicas-to-write" in found["replicas"].advice
    with pytest.raises(StoreUnavailable, match="read-only replica"):
        await examined(replica.url())


async def test_what_a_managed_server_does_not_tell_is_unknown(
    start: Callable[..., RedisServer],
) -> None:
    server = start()
    async with Redis(port=server.port) as redis:
        await redis.execute_command(
            *("ACL", "SETUSER", "me", "on", ">s3cr3t", "~*", "&*", "+@all", "-config", "-time")
        )
    url = f"redis://me:s3cr3t@{server.address}/0"
    found = await examined(url)
    assert found["durability"].verdict is UNKNOWN
    assert found["clock"].verdict is UNKNOWN
    assert not any(finding.alarming for finding in found.values())
    demanded = (await examined(f"{url}?durability=always"))["durability"]
    assert demanded.verdict is WARNING
    assert "cannot be confirmed" in demanded.advice
    assert "s3cr3t" not in repr(found)


async def test_shards_that_lost_their_data_are_a_problem(start: Callable[..., RedisServer]) -> None:
    server = start()
    async with opened(server.url()) as store:
        await store.create(NewActor("default", "counter", ("a",)))
    async with Redis(port=server.port) as redis:
        await redis.delete("rivet{rr:5}:s", "rivet{rr:6}:s")
    found = (await examined(server.url()))["store"]
    assert found.verdict is PROBLEM
    assert "2 of 1024 shards" in found.found


async def test_each_primary_of_a_cluster_is_examined(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(RedisCluster(tmp_path)) as cluster:
        weak, away = cluster.nodes[:2]
        async with Redis(port=weak.port) as redis:
            await redis.config_set("appendfsync", "no")
        async with opened(f"{cluster.url()}&durability=always") as store:
            assert [r.message for r in caplog.records if "demands" in r.message] != []
            found = {finding.subject: finding for finding in await store.examine()}
            for node in cluster.nodes:
                expected = PROBLEM if node is weak else OK
                assert found[f"durability of {node.address}"].verdict is expected
            away.kill()
            found = {finding.subject: finding for finding in await store.examine()}
            assert found[f"server of {away.address}"].verdict is PROBLEM
            assert f"durability of {away.address}" not in found
            assert found[f"role of {weak.address}"].verdict is OK


async def test_the_primary_behind_sentinels_is_examined(tmp_path: Path) -> None:
    sentinels = Sentinels(tmp_path)
    try:
        found = await examined(sentinels.start().url())
    finally:
        sentinels.stop()
    assert "of the sentinels" in found["server"].found
    assert "primary 127.0.0.1:" in found["server"].found
    assert found["role"].found == "primary"


GOOD = Server({"redis_version": "7.2.4", "role": "master", "maxmemory_policy": "noeviction"}, {}, 0)


@pytest.mark.parametrize(
    ("subject", "change", "verdict"),
    [
        ("version", {"redis_version": "6.2.14"}, WARNING),
        ("version", {"redis_version": "10.0"}, OK),
        ("version", {"redis_version": "new"}, UNKNOWN),
        ("disk", {"aof_last_write_status": "err"}, PROBLEM),
        ("disk", {"rdb_last_bgsave_status": "err"}, PROBLEM),
        ("eviction", {"maxmemory_policy": "volatile-ttl"}, OK),
        ("role", {"role": "slave"}, PROBLEM),
        ("role", {"role": "sentinel"}, UNKNOWN),
        ("replicas", {"connected_slaves": "2"}, UNKNOWN),
    ],
)
def test_what_cannot_be_had_here_is_read_right(
    subject: str, change: dict[str, str], verdict: Verdict
) -> None:
    server = replace(GOOD, info={**GOOD.info, **change})
    found = {finding.subject: finding for finding in findings(server, None)}
    assert found[subject].verdict is verdict


@pytest.mark.parametrize(
    ("ahead", "verdict"), [(0.5, OK), (-0.5, OK), (3.0, WARNING), (-9, WARNING)]
)
def test_clocks_that_are_apart_are_told(ahead: float, verdict: Verdict) -> None:
    found = {f.subject: f for f in findings(replace(GOOD, clock_ahead=ahead), Durability.NONE)}
    assert found["clock"].verdict is verdict
