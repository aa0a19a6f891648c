"""`file://` keeps every promise of the store port, over closing and opening too.

And what is its own: groups that share one fsync, failures of the disk, a
bounded queue, claims that write nothing.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from driver_leases import age_in_memory
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray.store import ActorType, Claim, Commit, CommitResult, Fence, NewActor, Store
from rivet_ray.testing import DurableStoreConformance
from rivet_ray_drivers.file_system import (
    FileSystemStore,
    ledger,
    open_directory,
    open_file_system,
    writer,
)
from rivet_ray_drivers.file_system.packing import key_range, pack_key, unpack_key
from rivet_ray_drivers.memory import MemoryStore


class TestFileSystem(DurableStoreConformance):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.url = (tmp_path / "store").as_uri()

    async def open_store(self) -> Store:
        return await open_file_system(self.url)

    async def age_leases(self, store: Store, seconds: float) -> None:
        age_in_memory(store, seconds)


class TestFileSystemThatForgetsOwners(TestFileSystem):
    """The same when every owner is soon only in the database."""

    @pytest.fixture(autouse=True)
    def _forget(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ledger, "REMEMBERED", 1)
        monkeypatch.setattr(ledger, "RESERVED", 3)


class Disk:
    """Stands at the driver's steps: holds its thread, or fails it."""

    def __init__(self) -> None:
        self.going = threading.Event()
        self.going.set()
        self.holding = threading.Event()
        self.failing: list[Exception | None] = []
        """What becomes of the next COMMITs."""

    def __call__(self, step: str) -> None:
        if not self.going.is_set():
            self.holding.set()
            self.going.wait(10)
        if step == "before COMMIT" and self.failing and (failure := self.failing.pop(0)):
            raise failure

    async def hold(self, store: FileSystemStore) -> asyncio.Task[Any]:
        """Hold the thread in a write of its own, so that what follows is one group."""
        self.holding.clear()
        self.going.clear()
        held = asyncio.ensure_future(store.create(NewActor("default", "held", ("held",))))
        await asyncio.to_thread(self.holding.wait, 10)
        return held


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def store(tmp_path: Path, disk: Disk) -> AsyncIterator[FileSystemStore]:
    store = await open_directory(tmp_path / "store", disk)
    yield store
    disk.going.set()
    await store.close()


def counter(key: str, input: Any = None) -> NewActor:
    return NewActor("default", "counter", (key,), input)


async def owned(store: Store, key: str) -> Claim:
    record, _ = await store.create(counter(key))
    claim = await store.claim(record.id, "owner")
    assert claim is not None
    return claim


def commit_of(claim: Claim, sequence: int = 1, **change: Any) -> Commit:
    return Commit(claim.record.id, claim.fence, sequence, **change, type=claim.record.type)


# --- Groups ------------------------------------------------------------------


async def test_operations_that_wait_together_share_one_fsync(
    store: FileSystemStore, disk: Disk
) -> None:
    claims = [await owned(store, str(number)) for number in range(64)]
    held = await disk.hold(store)
    before = store.statistics()
    writes = [
        asyncio.ensure_future(store.commit([commit_of(claim, put={"a": b"1"})])) for claim in claims
    ]
    await asyncio.sleep(0)
    assert store.statistics().waiting == 65
    disk.going.set()
    assert await asyncio.gather(*writes) == [[CommitResult.COMMITTED]] * 64
    await held
    after = store.statistics()
    assert after.saves == before.saves + 2  # the held one, and all others
    assert after.groups == before.groups + 2
    assert after.waiting == 0


async def test_reads_and_claims_cost_no_fsync(store: FileSystemStore) -> None:
    claim = await owned(store, "a")
    saves = store.statistics().saves
    await store.find("default", "counter", ("a",))
    await store.find_by_id(claim.record.id)
    await store.list_actors("default", "counter", ("a",))
    await store.claim(claim.record.id, "again")
    await store.alarms_due(1e9)
    await store.next_alarm()
    await store.create(counter("a"))  # exists
    assert await store.commit([commit_of(claim)]) == [CommitResult.FENCED]
    assert store.statistics().saves - saves <= 1  # the empty transaction of the create


@pytest.mark.parametrize("seed", range(8))
async def test_groups_give_what_one_after_the_other_gives(tmp_path: Path, seed: int) -> None:
    """Random operations sent together have the results of the memory driver's, in order."""
    dice = random.Random(seed)
    memory = MemoryStore()
    store = await open_directory(tmp_path)
    known: list[tuple[str, Fence, int]] = [("none", Fence(0, ""), 1)]

    def choose() -> Callable[[Store], Awaitable[Any]]:
        name, key = dice.choice("xy"), tuple(dice.choices("ab", k=dice.randrange(3)))
        actor_id, fence, sequence = dice.choice(known[-12:])
        ahead = dice.choice([0, 1, 1, 1, 2])
        change = Commit(
            actor_id,
            fence,
            sequence + ahead,
            {part: dice.randbytes(3) for part in dice.sample("pqr", 2)},
            frozenset(dice.sample("pqr", 1)),
            dice.choice([None, 1.0, 2.0, 3.0]),
            dice.random() < 0.15,
            type=ActorType("default", "counter"),
        )
        token = str(dice.random())
        choices: list[Callable[[Store], Awaitable[Any]]] = [
            lambda s: s.create(NewActor("default", name, key, token.encode())),
            lambda s: s.claim(actor_id, token),
            lambda s: s.commit([change]),
            lambda s: s.commit([change, change]),
            lambda s: s.find("default", name, key),
            lambda s: s.find_by_id(actor_id),
            lambda s: s.list_actors("default", name, key[:1]),
            lambda s: s.list_actors("default", limit=2, after=actor_id),
            lambda s: s.alarms_due(2.0),
            lambda s: s.next_alarm(),
        ]
        return dice.choices(choices, [3, 3, 6, 1, 1, 1, 1, 1, 1, 1])[0]

    for _ in range(80):
        operations = [choose() for _ in range(dice.randrange(1, 8))]
        expected = [await operation(memory) for operation in operations]
        assert await asyncio.gather(*(operation(store) for operation in operations)) == expected
        for result in expected:
            if isinstance(result, Claim):
                known.append((result.record.id, result.fence, result.sequence))
            elif isinstance(result, tuple) and result[1] is True:
                known.append((result[0].id, Fence(0, ""), 0))
        if dice.random() < 0.1:
            await store.close()
            store = await open_directory(tmp_path)
    await store.close()


async def test_a_commit_reaches_the_disk(store: FileSystemStore) -> None:
    """A kill does not show a missing fsync, loss of power would (promise C2)."""
    connection = store._ledger._tables._connection
    settings = {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1, "checkpoint_fullfsync": 1}
    for name, value in settings.items():
        assert connection.execute(f"PRAGMA {name}").fetchone() == (value,)


# --- Failures ----------------------------------------------------------------


async def test_a_failed_commit_fails_its_group_and_keeps_nothing(
    store: FileSystemStore, disk: Disk
) -> None:
    claim = await owned(store, "a")
    held = await disk.hold(store)
    disk.failing = [None, sqlite3.OperationalError("disk I/O error")]
    group = [
        asyncio.ensure_future(operation)
        for operation in (
            store.create(counter("b")),
            store.commit([commit_of(claim, put={"a": b"1"}, alarm=1.0)]),
            store.find("default", "counter", ("b",)),
        )
    ]
    await asyncio.sleep(0)
    disk.going.set()
    await held
    outcomes = await asyncio.gather(*group, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert await store.find("default", "counter", ("b",)) is None
    assert await store.next_alarm() is None
    # The same again, as the runtime repeats it.
    assert await store.commit([commit_of(claim, put={"a": b"1"})]) == [CommitResult.COMMITTED]


async def test_after_a_failed_commit_nobody_is_told_anything_before_a_write_succeeds(
    store: FileSystemStore, disk: Disk
) -> None:
    """What the failed write left in the log could come to light after a crash."""
    disk.failing = [sqlite3.OperationalError("disk I/O error")] * 2
    with pytest.raises(StoreUnavailable):
        await store.create(counter("a"))
    with pytest.raises(StoreUnavailable):
        await store.find("default", "counter", ("a",))
    saves = store.statistics().saves
    assert await store.find("default", "counter", ("a",)) is None
    assert await store.find("default", "counter", ("a",)) is None
    assert store.statistics().saves == saves + 1


async def test_a_full_disk_is_unavailable_and_recovers(store: FileSystemStore) -> None:
    claim = await owned(store, "a")
    connection = store._ledger._tables._connection

    def limit(pages: int) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    await store._writer.do(lambda: limit(1))  # as many as there are
    large = commit_of(claim, put={"a": bytes(1_000_000)}, alarm=1.0)
    with pytest.raises(StoreUnavailable, match="full"):
        await store.commit([large])
    assert await store.next_alarm() is None
    assert await store.find_by_id(claim.record.id) == claim.record
    await store._writer.do(lambda: limit(1_000_000))
    assert await store.commit([large]) == [CommitResult.COMMITTED]
    assert await store.next_alarm() == 1.0


async def test_an_operation_that_cannot_be_stored_fails_alone(
    store: FileSystemStore, disk: Disk
) -> None:
    held = await disk.hold(store)
    group = [
        asyncio.ensure_future(store.create(counter(key, value)))
        for key, value in (("a", b"1"), ("b", object()), ("c", b"3"))
    ]
    await asyncio.sleep(0)
    disk.going.set()
    await held
    good, bad, also_good = await asyncio.gather(*group, return_exceptions=True)
    assert isinstance(good, tuple)
    assert isinstance(also_good, tuple)
    assert isinstance(bad, StoreError)
    assert await store.find("default", "counter", ("b",)) is None
    assert await store.find("default", "counter", ("c",)) == also_good[0]


async def test_a_cancelled_caller_does_not_disturb_the_others(
    store: FileSystemStore, disk: Disk
) -> None:
    held = await disk.hold(store)
    cancelled = asyncio.ensure_future(store.create(counter("a")))
    other = asyncio.ensure_future(store.create(counter("b")))
    await asyncio.sleep(0)
    cancelled.cancel()
    held.cancel()
    disk.going.set()
    assert (await other)[1]
    assert cancelled.cancelled()
    assert await store.find("default", "counter", ("a",)) is not None  # it was under way
    assert store.statistics().waiting == 0


async def test_one_more_than_the_queue_holds_is_refused(
    store: FileSystemStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE_LIMIT", 3)
    held = await disk.hold(store)
    waiting = [asyncio.ensure_future(store.create(counter(key))) for key in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="overloaded"):
        await store.create(counter("c"))
    assert store.statistics().refused == 1
    disk.going.set()
    await asyncio.gather(held, *waiting)
    assert await store.find("default", "counter", ("c",)) is None
    assert (await store.create(counter("c")))[1]


async def test_the_loop_pauses_for_a_late_group_only(
    store: FileSystemStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    held = await disk.hold(store)
    async with asyncio.timeout(10):
        while len(pauses) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert set(pauses) == {writer.PAUSE}
    disk.going.set()
    await held
    await asyncio.sleep(5 * writer.LATE)
    pauses.clear()
    await asyncio.sleep(20 * writer.LATE)
    assert pauses == []


async def test_a_loop_that_never_rests_does_not_starve_the_store(store: FileSystemStore) -> None:
    """Without the pauses of `Writer._give_way` this can take minutes."""

    async def never_rest() -> None:
        while True:
            until = time.perf_counter() + 0.0002
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    claim = await owned(store, "a")
    restless = asyncio.ensure_future(never_rest())
    async with asyncio.timeout(10):
        for sequence in range(1, 101):
            await store.commit([commit_of(claim, sequence, put={"a": b"1"})])
    restless.cancel()


# --- Closing -----------------------------------------------------------------


async def test_closing_is_final_and_may_be_repeated(tmp_path: Path) -> None:
    store = await open_directory(tmp_path)
    await store.create(counter("a"))
    await asyncio.gather(store.close(), store.close())
    await store.close()
    for operation in (
        store.find("default", "counter", ("a",)),
        store.create(counter("b")),
        store.next_alarm(),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            await operation
    assert sorted(os.listdir(tmp_path)) == ["lock", "rivet.sqlite3"]  # no -wal
    assert not [thread for thread in threading.enumerate() if thread.name == "rivet-ray-store"]


async def test_a_store_that_is_not_closed_is_a_warning(tmp_path: Path) -> None:
    store = await open_directory(tmp_path)
    kept = store._writer
    with pytest.warns(ResourceWarning, match="not closed"):  # noqa: PT031
        del store
        gc.collect()
    await kept.close()


# --- Claims over crashes -----------------------------------------------------


async def crashed(store: FileSystemStore, place: Path) -> FileSystemStore:
    """What a server finds that starts after this one was killed now."""
    shutil.copytree(store.directory, place)
    return await open_directory(place)


async def test_epochs_grow_over_a_crash_that_forgets_claims(
    store: FileSystemStore, tmp_path: Path
) -> None:
    first = await owned(store, "a")
    last = commit_of(first, put={"a": b"1"})
    await store.commit([last])
    forgotten = await owned(store, "a")
    assert forgotten.fence.epoch == first.fence.epoch + 1
    again = await crashed(store, tmp_path / "crashed")
    # The fence before the forgotten one is no fence again.
    assert await again.commit([commit_of(first, 2)]) == [CommitResult.FENCED]
    assert await again.commit([commit_of(forgotten, 2)]) == [CommitResult.FENCED]
    assert await again.commit([last]) == [CommitResult.ALREADY_DONE]
    new = await owned(again, "a")
    assert new.fence.epoch > forgotten.fence.epoch
    assert dict(new.parts) == {"a": b"1"}
    assert await again.commit([commit_of(new, 2)]) == [CommitResult.COMMITTED]
    await again.close()


@pytest.mark.parametrize("claims", [1, 2, 3, 4, 5, 6, 7])
async def test_epochs_grow_over_a_crash_after_any_number_of_claims(
    store: FileSystemStore, tmp_path: Path, claims: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "RESERVED", 3)
    last = 0
    for number in range(claims):
        claim = await owned(store, "a")
        assert number == 0 or claim.fence.epoch == last + 1
        last = claim.fence.epoch
    for number in range(3):
        store = await crashed(store, tmp_path / f"crashed {number}")
        claim = await owned(store, "a")
        assert claim.fence.epoch > last
        last = claim.fence.epoch
        await store.close()


async def test_epochs_grow_over_a_destroy_and_a_crash(
    store: FileSystemStore, tmp_path: Path
) -> None:
    old = await owned(store, "a")
    await store.commit([commit_of(old, destroy=True)])
    new = await owned(store, "a")
    assert new.fence.epoch == old.fence.epoch + 1
    again = await crashed(store, tmp_path / "crashed")
    assert (await owned(again, "a")).fence.epoch > new.fence.epoch
    await again.close()


# --- Text and keys -----------------------------------------------------------

texts = st.text(st.characters(codec=None, categories=None), max_size=4)
keys = st.lists(st.one_of(texts, st.text("\x00\x01\x02\xff\ud800", max_size=3)), max_size=4)


@given(keys)
def test_a_key_comes_back_as_it_was(key: list[str]) -> None:
    assert unpack_key(pack_key(key)) == tuple(key)


@given(keys, keys)
def test_a_prefix_holds_exactly_its_keys(key: list[str], prefix: list[str]) -> None:
    start, end = key_range(prefix)
    assert (start <= pack_key(key) < end) == (key[: len(prefix)] == prefix)
    assert start <= pack_key([*prefix, *key]) < end


async def test_any_text_can_be_kept_and_asked_for(store: FileSystemStore) -> None:
    """JavaScript strings may hold half a character, and zeros."""
    odd = "\ud800\x00\udfff"
    record, _ = await store.create(NewActor(odd, odd, (odd, odd), b"", odd))
    assert await store.find(odd, odd, (odd, odd)) == record
    assert await store.list_actors(odd, odd, (odd,)) == [record]
    claim = await store.claim(record.id, odd)
    assert claim is not None
    assert await store.commit([commit_of(claim, put={odd: b"1"})]) == [CommitResult.COMMITTED]
    again = await store.claim(record.id, odd)
    assert again is not None
    assert (dict(again.parts), again.fence.token) == ({odd: b"1"}, odd)
    assert await store.find_by_id(odd) is None
    assert await store.claim(odd, odd) is None
    assert await store.commit(
        [Commit(odd, claim.fence, 1, type=ActorType("default", "counter"))]
    ) == [CommitResult.FENCED]
    assert await store.list_actors(odd, after=odd) == []
