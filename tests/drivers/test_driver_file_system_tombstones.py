"""What a file keeps of destroyed actors, and until when."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from driver_tombstones import destroyed

from rivet_ray.ids import actor_id
from rivet_ray.store import TOMBSTONE_KEPT, TOMBSTONES, CommitResult, NewActor
from rivet_ray_drivers.file_system import open_directory
from rivet_ray_drivers.file_system.database import DATABASE_NAME

ALREADY_DONE, COMMITTED, FENCED = (
    CommitResult.ALREADY_DONE,
    CommitResult.COMMITTED,
    CommitResult.FENCED,
)


def tombstones(directory: Path) -> set[int]:
    """The rows of each table that has some of destroyed actors."""
    connection = sqlite3.connect(directory / DATABASE_NAME)
    try:
        dead = "SELECT id FROM actors WHERE living = 0"
        return {
            int(connection.execute(f"SELECT count(*) FROM ({statement})").fetchone()[0])
            for statement in (dead, f"SELECT 1 FROM owners WHERE actor IN ({dead})")
        }
    finally:
        connection.close()


async def test_those_of_the_last_lives_of_a_key_are_kept(tmp_path: Path) -> None:
    store = await open_directory(tmp_path)
    commits = [await destroyed(store, "k") for _ in range(3 * TOMBSTONES)]
    assert tombstones(tmp_path) == {TOMBSTONES}
    for _ in range(2):
        assert await store.commit(commits[-TOMBSTONES:]) == [ALREADY_DONE] * TOMBSTONES
        await store.close()
        store = await open_directory(tmp_path)
    assert await store.commit([commits[0]]) == [FENCED]
    await store.close()


async def test_old_ones_are_swept_by_whoever_creates(tmp_path: Path) -> None:
    store = await open_directory(tmp_path)
    now = 1.7e9
    store._ledger._tables._now = lambda: now
    for number in range(12):
        await destroyed(store, str(number))
    now += TOMBSTONE_KEPT - 1
    await destroyed(store, "a")
    assert tombstones(tmp_path) == {13}
    now += 2
    await destroyed(store, "b")
    assert tombstones(tmp_path) == {4}, "at most ten at once"
    await destroyed(store, "c")
    assert tombstones(tmp_path) == {3}
    record, created = await store.create(NewActor("default", "counter", ("0",)))
    assert (record.id, created) == (actor_id("default", "counter", ("0",)), True)
    await store.close()
