"""`rivet-ray doctor`: actors and bytes by type, the largest actors, growth."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer

from rivet_ray.cli import doctor as doctor_module
from rivet_ray.cli.doctor import NOBODY_ELSE, examined
from rivet_ray.cli.report import WIDTH, Report, readable
from rivet_ray.cli.sizes import LARGEST, Growth, Sizes
from rivet_ray.store import (
    ActorType,
    Claim,
    Commit,
    CommitResult,
    NewActor,
    Store,
    TypeSize,
    open_store,
)
from rivet_ray.testing import ManualClock
from rivet_ray_drivers.memory import MemoryStore


async def put(store: Store, name: str, key: str, size: int, namespace: str = "default") -> str:
    record, _ = await store.create(NewActor(namespace, name, (key,), b"x" * min(size, 10)))
    claim = await store.claim(record.id, "t")
    assert isinstance(claim, Claim)
    commit = Commit(record.id, claim.fence, 1, {"a": b"x" * max(0, size - 10)}, type=record.type)
    assert await store.commit([commit]) == [CommitResult.COMMITTED]
    return record.id


async def destroy(store: Store, actor: str, of: ActorType) -> None:
    claim = await store.claim(actor, "t")
    assert isinstance(claim, Claim)
    (result,) = await store.commit(
        [Commit(actor, claim.fence, claim.sequence + 1, destroy=True, type=of)]
    )
    assert result is CommitResult.COMMITTED


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    store = MemoryStore()

    async def opened(*_: Any) -> Store:
        return store

    monkeypatch.setattr(doctor_module, "open_in_time", opened)
    return store


def of_programs(report: Report) -> Any:
    return json.loads(report.for_programs())


# --- Sizes -------------------------------------------------------------------------


async def test_actors_and_bytes_are_told_by_type(store: MemoryStore) -> None:
    for number in range(3):
        await put(store, "room", str(number), 1_000_000)
    await put(store, "user", "a", 7, "other")
    report = await examined("memory://", ManualClock(5.0))
    told = of_programs(report)
    assert told["sizes"] == {
        "at": 5.0,
        "actors": 4,
        "bytes": 3_000_007,
        "types": [
            {"namespace": "default", "name": "room", "actors": 3, "bytes": 3_000_000},
            {"namespace": "other", "name": "user", "actors": 1, "bytes": 7},
        ],
    }
    assert told["growth"] is None
    lines = report.for_people().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("type"))
    assert [line.split() for line in lines[start : start + 4]] == [
        ["type", "actors", "bytes"],
        ["default/room", "3", "3.0", "MB"],
        ["other/user", "1", "7", "B"],
        ["all", "types", "(2)", "4", "3.0", "MB"],
    ]


async def test_an_empty_store_has_no_table(store: MemoryStore) -> None:
    report = await examined("memory://", ManualClock())
    assert "The store holds no actors." in report.for_people()
    told = of_programs(report)
    assert told["sizes"]["types"] == told["largest"]["actors"] == []


async def test_the_largest_actors_are_named(store: MemoryStore) -> None:
    ids = {size: await put(store, "room", f"k{size}", size) for size in range(100, 125)}
    report = await examined("memory://", ManualClock())
    largest = of_programs(report)["largest"]
    assert (largest["looked_at"], largest["complete"]) == (25, True)
    assert largest["actors"] == [
        {
            "id": ids[size],
            "namespace": "default",
            "name": "room",
            "key": [f"k{size}"],
            "bytes": size,
        }
        for size in range(124, 124 - LARGEST, -1)
    ]
    text = report.for_people()
    assert "The largest actors of the 25 looked at:" in text
    assert f"124 B  default/room  'k124'  {ids[124]}" in text


@pytest.mark.parametrize(("most", "complete"), [(1, False), (24, False), (25, True), (26, True)])
async def test_only_so_many_actors_are_looked_at(
    store: MemoryStore, most: int, complete: bool
) -> None:
    for number in range(25):
        await put(store, "room", str(number), number)
    report = await examined("memory://", ManualClock(), most=most)
    largest = of_programs(report)["largest"]
    assert (largest["looked_at"], largest["complete"]) == (min(most, 25), complete)
    assert ("higher --actors" in report.for_people()) is not complete


def test_long_and_odd_names_stay_in_their_lines() -> None:
    types = [
        TypeSize(ActorType("n" * 90, "m" * 90), 10**9, 10**15),
        TypeSize(ActorType("a\nb", "\ud800\x1b[31m"), 1, 10**12),
    ]
    report = Report(
        sizes=Sizes(0, 0, types), growth=Growth(0.5, [TypeSize(types[1].type, 5, 10**6)])
    )
    text = report.for_people()
    assert max(map(len, text.splitlines())) <= WIDTH + 20  # numbers are never cut
    assert "\x1b" not in text
    assert "a\nb" not in text
    text.encode()


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (-1500, "-1.5 kB"),
        (12_345_678, "12.3 MB"),
        (5 * 10**9, "5.0 GB"),
        (7 * 10**12, "7.0 TB"),
        (10**16, "10,000 TB"),
    ],
)
def test_bytes_are_readable(size: int, text: str) -> None:
    assert readable(size) == text


# --- Growth ------------------------------------------------------------------------


async def test_growth_is_what_two_looks_differ_by(store: MemoryStore) -> None:
    """For each type, shrinking and new ones too; a short look says that it is one."""
    gone = await put(store, "gone", "a", 50)
    await put(store, "room", "a", 100)
    clock = ManualClock()
    looking = asyncio.ensure_future(examined("memory://", clock, growth=10.0))
    await clock.advance(9.9)
    await put(store, "room", "b", 500)
    await put(store, "new", "a", 30)
    await destroy(store, gone, ActorType("default", "gone"))
    assert not looking.done()
    await clock.advance(0.2)
    report = await looking
    told = of_programs(report)
    assert told["sizes"]["actors"] == 2, "the first look"
    assert told["growth"] == {
        "seconds": 10.0,
        "actors": 1,
        "bytes": 480,
        "types": [
            {"namespace": "default", "name": "gone", "actors": -1, "bytes": -50},
            {"namespace": "default", "name": "new", "actors": 1, "bytes": 30},
            {"namespace": "default", "name": "room", "actors": 1, "bytes": 500},
        ],
    }
    text = report.for_people()
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert rows["default/room"] == ["1", "100", "B", "+1", "+500", "B", "+8,640", "+4.3", "MB"]
    assert rows["default/gone"] == ["1", "50", "B", "-1", "-50", "B", "-8,640", "-432.0", "kB"]
    assert rows["default/new"] == ["0", "0", "B", "+1", "+30", "B", "+8,640", "+259.2", "kB"]
    assert "in 10.0 s" in text
    assert "A look of 10.0 s says little of a day." in text


async def test_a_long_look_does_not_excuse_itself(store: MemoryStore) -> None:
    clock = ManualClock()
    await put(store, "room", "a", 100)
    looking = asyncio.ensure_future(examined("memory://", clock, growth=7200.0))
    await clock.advance(7200.1)
    assert "says little" not in (await looking).for_people()


@pytest.mark.parametrize(("growth", "said"), [(None, True), (0.0, False)])
async def test_a_store_of_one_user_is_not_waited_for(
    store: MemoryStore, growth: float | None, said: bool
) -> None:
    await put(store, "room", "a", 100)
    report = await examined("memory://", ManualClock(), growth=growth)
    assert of_programs(report)["growth"] is None
    assert (" ".join(NOBODY_ELSE.split()[:4]) in report.for_people()) is said


# --- As a user runs it -------------------------------------------------------------


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.mark.parametrize("kind", ["redis", "file"])
async def test_it_is_printed(kind: str, redis: RedisServer, tmp_path: Path) -> None:
    url = redis.url() if kind == "redis" else tmp_path.as_uri()
    store = await open_store(url)
    large = await put(store, "room", "large", 5000)
    await put(store, "room", "small", 50)
    await store.close()

    async def run(*arguments: str) -> str:
        result = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "rivet_ray", "doctor", "--store", url, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.stderr == ""
        return result.stdout

    told = json.loads(await run("--json", "--growth", "0.2"))
    (of,) = told["sizes"]["types"]
    assert (of["actors"], of["bytes"]) == (2, 5050)
    assert told["growth"]["seconds"] >= 0.2
    assert next((one["id"], one["bytes"]) for one in told["largest"]["actors"]) == (large, 5000)
    text = await run("--growth", "0", "--actors", "1")
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "default/room" in text
    assert "of the 1 looked at; there are more" in text
