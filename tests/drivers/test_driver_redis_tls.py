"""`rediss://`: a real server that speaks TLS alone, with a certificate made here."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_cluster import RedisCluster, running
from redis_server import RedisServer

from rivet_ray.errors import StoreUnavailable
from rivet_ray.store import Commit, CommitResult, NewActor, Store
from rivet_ray_drivers.redis import open_redis


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    made, key = directory / "server.crt", directory / "server.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(key), "-out", str(made), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return made, key


def options(certificate: tuple[Path, Path]) -> tuple[str, ...]:
    made, key = certificate
    return (
        *("--tls-cert-file", str(made), "--tls-key-file", str(key)),
        *("--tls-ca-cert-file", str(made), "--tls-auth-clients", "no"),
    )


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]
) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), *options(certificate), tls=True).start()
    yield server
    server.stop()


async def is_used(store: Store) -> None:
    record, _ = await store.create(NewActor("default", "counter", ("a",)))
    claim = await store.claim(record.id, "owner")
    assert claim is not None
    commit = Commit(record.id, claim.fence, 1, {"a": b"1"}, alarm=5.0, type=record.type)
    assert await store.commit([commit]) == [CommitResult.COMMITTED]
    assert await store.next_alarm() == 5.0


async def test_a_server_with_a_certificate_that_we_trust_is_used(
    server: RedisServer, certificate: tuple[Path, Path]
) -> None:
    store = await open_redis(f"rediss://{server.address}?ssl_ca_certs={certificate[0]}")
    await is_used(store)
    await store.close()


async def test_a_certificate_that_nobody_vouches_for_is_refused(server: RedisServer) -> None:
    with pytest.raises(StoreUnavailable, match=r"does not answer.*(certificate|SSL)"):
        await open_redis(f"rediss://:s3cr3t@{server.address}")


async def test_without_tls_it_does_not_answer(server: RedisServer) -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await open_redis(f"redis://{server.address}")


async def test_a_cluster_is_used_over_tls_from_node_to_node(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    with running(RedisCluster(tmp_path, 2, options(certificate), tls=True)) as cluster:
        store = await open_redis(f"{cluster.url()}&ssl_ca_certs={certificate[0]}")
        await is_used(store)
        await store.close()
