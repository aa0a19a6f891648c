"""`rivet-ray doctor`, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_cluster import RedisCluster, running
from redis_server import RedisServer


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rivet_ray", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(
        tmp_path_factory.mktemp("redis"), "--appendfsync", "everysec", "--requirepass", "s3cr3t"
    ).start()
    yield server
    server.stop()


@pytest.fixture
def url(redis: RedisServer) -> str:
    return f"redis://:s3cr3t@{redis.address}/0"


def test_people_read_what_is_there_and_how_to_mend_it(url: str) -> None:
    result = doctor("--store", url)
    assert result.returncode == 1
    assert "warning  durability" in result.stdout
    assert "appendfsync always" in result.stdout
    assert result.stdout.endswith("To mend: 1.\n")
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "s3cr3t" not in result.stdout + result.stderr


def test_what_is_meant_so_is_well(url: str) -> None:
    result = doctor("--store", f"{url}?durability=everysec")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("Nothing to mend.\n")


def test_programs_read_json(url: str) -> None:
    for demand, ok in (("everysec", True), ("always", False)):
        result = doctor("--store", f"{url}?durability={demand}", "--json")
        assert result.returncode == (not ok)
        told = json.loads(result.stdout)
        assert told["ok"] is ok
        found = {finding["subject"]: finding["verdict"] for finding in told["findings"]}
        assert found["durability"] == ("ok" if ok else "problem")


def test_other_stores_answer_too(tmp_path: Path) -> None:
    file = doctor("--store", f"file://{tmp_path}/store")
    assert (file.returncode, "synchronous=FULL" in file.stdout) == (0, True)
    memory = doctor("--store", "memory://")
    assert (memory.returncode, "as long as its process" in memory.stdout) == (1, True)


def test_a_cluster_answers_with_each_of_its_primaries(tmp_path: Path) -> None:
    with running(RedisCluster(tmp_path)) as cluster:
        result = doctor("--store", cluster.url())
        assert (result.returncode, result.stderr) == (0, "")
        for node in cluster.nodes:
            assert f"durability of {node.address}" in result.stdout


def test_a_store_that_cannot_be_opened_is_one_problem() -> None:
    result = doctor("--store", "redis://:s3cr3t@127.0.0.1:1", "--json")
    assert (result.returncode, result.stderr) == (1, "")
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding["verdict"] == "problem"
    assert "does not answer" in finding["found"]
    assert "s3cr3t" not in result.stdout


def test_a_url_without_a_driver_is_one_line() -> None:
    result = doctor("--store", "nowhere://")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
