"""`redis://` URLs, and what opening says when there is nothing to open."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis_server import RedisServer, free_port

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray_drivers.redis import connection, open_redis
from rivet_ray_drivers.redis.location import Durability, Kind, Location, location_of

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("redis://", Location()),
        ("redis://cache", Location("cache")),
        ("redis://cache:1/", Location("cache", 1)),
        ("redis://[::1]:1/7", Location("::1", 1, 7)),
        ("redis://:p%40ss@cache", Location("cache", password="p@ss")),
        ("redis://me:p%2Fss@cache/1", Location("cache", 6379, 1, "me", "p/ss")),
        ("redis://cache?prefix=my%20app", Location("cache", prefix="my app")),
        ("redis://cache?durability=always", Location("cache", durability=Durability.ALWAYS)),
        ("rediss://cache", Location("cache", tls=True)),
        (
            "rediss://cache?ssl_ca_certs=/ca.pem&prefix=x",
            Location("cache", prefix="x", tls=True, tls_files={"ssl_ca_certs": "/ca.pem"}),
        ),
        (
            "redis+sentinel://me:x@a,[::1]:7/main/3?prefix=x&sentinel_password=y",
            Location(
                "a",
                26379,
                3,
                "me",
                "x",
                "x",
                kind=Kind.SENTINELS,
                others=(("::1", 7),),
                service="main",
                sentinel_password="y",
            ),
        ),
        (
            "rediss+sentinel://a/my%20service",
            Location("a", 26379, kind=Kind.SENTINELS, service="my service", tls=True),
        ),
        (
            "redis+cluster://:p%2C%40@a:1,b/?prefix=x",
            Location("a", 1, 0, None, "p,@", "x", kind=Kind.CLUSTER, others=(("b", 6379),)),
        ),
        ("rediss+cluster://a/0", Location("a", kind=Kind.CLUSTER, tls=True)),
    ],
)
def test_a_url_names_a_server(url: str, location: Location) -> None:
    assert location_of(url) == location


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@cache",
        f"redis://:x{SECRET}#y@cache",
        f"redis://:x/{SECRET}@cache",
        f"redis://me:{SECRET}@cache:none",
        f"redis://me:{SECRET}@[cache",
        f"redis://me:{SECRET}@cache/zero",
        f"redis://me:{SECRET}@cache/0/1",
        f"redis://me:{SECRET}@cache?retry=1",
        f"redis://me:{SECRET}@cache?prefix=a&prefix=b",
        f"redis://me:{SECRET}@cache?prefix=",
        f"redis://me:{SECRET}@cache?durability=some",
        f"redis://me:{SECRET}@cache?prefix=a{{b}}",
        f"redis://me:{SECRET}@cache?ssl_ca_certs=/ca.pem",
        f"redis://me:{SECRET}@a,b",
        f"redis://me:{SECRET}@cache?sentinel_password=x",
        f"redis+sentinel://me:{SECRET}@a,b",
        f"redis+sentinel://me:{SECRET}@a,b/service/x",
        f"redis+sentinel://me:{SECRET}@a,b:c/service",
        f"redis+sentinel://a/service?sentinel_pasword={SECRET}",
        f"redis+cluster://me:{SECRET}@a,b/1",
        f"redis+cluster://me:{SECRET}@a,b/service",
        f"redis+cluster://me:{SECRET}@a?sentinel_password={SECRET}",
        f"redis+other://me:{SECRET}@a",
    ],
)
def test_a_url_that_cannot_be_used_is_not_shown(url: str) -> None:
    with pytest.raises(StoreError, match=r"write redis(\+(cluster|sentinel))?://\[user") as caught:
        location_of(url)
    assert not isinstance(caught.value, StoreUnavailable)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_location_does_not_show_its_password() -> None:
    location = location_of(f"redis://me:{SECRET}@[::1]:7")
    assert str(location) == "[::1]:7"
    assert SECRET not in repr(location)
    hidden = f"redis+sentinel://me:{SECRET}@a,b:1/main?sentinel_password={SECRET}"
    assert str(location_of(hidden)) == "main (of the sentinels a:26379, b:1)"
    assert SECRET not in repr(location_of(hidden))
    cluster = location_of(f"redis+cluster://me:{SECRET}@a,b:1")
    assert str(cluster) == "a:6379, b:1 (a cluster)"
    assert str(cluster.at(("c", 2))) == "c:2"


async def test_no_server_is_one_clear_line() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await open_redis(f"redis://me:{SECRET}@127.0.0.1:1")
    assert str(caught.value) == "Redis at 127.0.0.1:1 does not answer: Connection refused."


async def test_a_host_that_is_not_known_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match=r"Redis at no-such-host\.invalid:6379 does not"):
        await open_redis("redis://no-such-host.invalid")


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path, "--requirepass", SECRET).start()
    yield server
    server.stop()


async def test_a_password_is_needed_and_never_shown(guarded: RedisServer) -> None:
    for credentials in ("", ":wr0ng@", "me:wr0ng@"):
        with pytest.raises(StoreUnavailable, match="refuses our user or password") as caught:
            await open_redis(f"redis://{credentials}{guarded.address}")
        assert "wr0ng" not in str(caught.value)
    store = await open_redis(f"redis://:{SECRET}@{guarded.address}")
    assert await store.next_alarm() is None
    await store.close()


async def test_a_server_without_tls_is_no_rediss(
    guarded: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 0.3)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await open_redis(f"rediss://:{SECRET}@{guarded.address}")


async def test_a_cluster_without_slots_is_unavailable(tmp_path: Path) -> None:
    bus = str(free_port())
    server = RedisServer(tmp_path, "--cluster-enabled", "yes", "--cluster-port", bus).start()
    try:
        with pytest.raises(StoreUnavailable, match="knows no owner of any slot"):
            await open_redis(server.url())
    finally:
        server.stop()


async def test_another_database_is_another_store(tmp_path: Path) -> None:
    server = RedisServer(tmp_path).start()
    try:
        one = await open_redis(f"redis://{server.address}/0")
        two = await open_redis(f"redis://{server.address}/5")
        await one.renew_lease("host", 1)
        assert await two.find_lease("host") is None
        await one.close()
        await two.close()
    finally:
        server.stop()


def test_a_missing_server_program_fails_and_tells_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(pytest.fail.Exception, match="apt-get install redis-server"):
        RedisServer(tmp_path).start()
