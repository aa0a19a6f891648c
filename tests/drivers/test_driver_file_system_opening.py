"""Opening `file://`: which directory, one server at a time, and damaged files."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray.store import Commit, NewActor
from rivet_ray_drivers.file_system import (
    FileSystemStore,
    database,
    open_directory,
    open_file_system,
)
from rivet_ray_drivers.file_system.location import directory_of

# --- URLs --------------------------------------------------------------------

HERE = Path.cwd()


@pytest.mark.parametrize(
    ("url", "directory"),
    [
        ("file:///a/b", Path("/a/b")),
        ("file:///a/b/", Path("/a/b")),
        ("file:///a/../b", Path("/b")),
        ("file://localhost/a", Path("/a")),
        ("file://a", HERE / "a"),
        ("file://./.rivet", HERE / ".rivet"),
        ("file://../a", HERE.parent / "a"),
        ("file://.", HERE),
        ("file:///a%20b%25", Path("/a b%")),
        ("file:///a%3Fb%23", Path("/a?b#")),
        ("file:///%C3%A9", Path("/é")),
        ("file:///é", Path("/é")),
    ],
)
def test_a_url_names_a_directory(url: str, directory: Path) -> None:
    assert directory_of(url) == directory


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("file:/a", "absolute"),
        ("redis://a", "absolute"),
        ("file://", "names no directory"),
        ("file:///", "names no directory"),
        ("file:///a%00", "names no directory"),
        ("file:///a?x=1", "no options"),
        ("file:///a#b", "no options"),
        ("file:///a%2", "broken escape"),
        ("file:///100%", "broken escape"),
        ("file://~/a", "not expanded"),
    ],
)
async def test_nonsense_is_refused(url: str, problem: str) -> None:
    with pytest.raises(StoreError, match=problem):
        await open_file_system(url)


async def test_what_is_missing_is_created(tmp_path: Path) -> None:
    store = await open_file_system((tmp_path / "a b" / "c").as_uri())
    await store.close()
    assert sorted(os.listdir(tmp_path / "a b" / "c")) == ["lock", "rivet.sqlite3"]


async def test_a_file_is_no_directory(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("mine")
    for taken in (place, place / "below"):
        with pytest.raises(StoreError, match="cannot be used"):
            await open_directory(taken)
    assert place.read_text() == "mine"


# --- One server --------------------------------------------------------------

HOLD = """
import asyncio, os, sys, time
from rivet_ray_drivers.file_system import open_file_system
async def main():
    store = await open_file_system(sys.argv[1])
    if sys.argv[2:] == ["fork"]:
        child = os.fork()
        if child:
            print(child, flush=True)
            os._exit(0)
    else:
        print("open", flush=True)
    time.sleep(60)
asyncio.run(main())
"""


async def holder(url: str, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, url, *options, stdout=asyncio.subprocess.PIPE
    )


async def test_a_second_server_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    process = await holder(tmp_path.as_uri())
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    with pytest.raises(StoreError) as refused:
        await open_directory(tmp_path)
    process.kill()
    await process.wait()
    text = str(refused.value)
    assert str(tmp_path) in text
    assert f"process {process.pid}:" in text
    assert "\n" not in text
    await (await open_directory(tmp_path)).close()


async def test_a_second_opening_in_one_process_is_refused(tmp_path: Path) -> None:
    store = await open_directory(tmp_path)
    with pytest.raises(StoreError, match="in use by this process"):
        await open_directory(tmp_path)
    await store.create(NewActor("default", "counter", ("k",)))
    await store.close()
    await (await open_directory(tmp_path)).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
async def test_a_forked_child_does_not_keep_the_directory(tmp_path: Path) -> None:
    process = await holder(tmp_path.as_uri(), "fork")
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    try:
        # The child also holds the pipe: wait for the process alone.
        while process.returncode is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await (await open_directory(tmp_path)).close()
    finally:
        os.kill(child, 9)
        await process.communicate()


async def test_a_cancelled_opening_keeps_nothing(tmp_path: Path) -> None:
    opening = asyncio.ensure_future(open_directory(tmp_path))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    async with asyncio.timeout(10):
        while True:
            try:
                store = await open_directory(tmp_path)
            except StoreError:
                await asyncio.sleep(0.01)
            else:
                break
    await store.close()


async def test_a_failed_opening_keeps_nothing(tmp_path: Path) -> None:
    file = tmp_path / "rivet.sqlite3"
    file.write_bytes(b"nonsense")
    for _ in range(2):
        with pytest.raises(StoreError, match="damaged"):
            await open_directory(tmp_path)
    file.unlink()
    await (await open_directory(tmp_path)).close()


# --- Damage ------------------------------------------------------------------


async def fill(directory: Path, close: bool = True) -> Path:
    """A database of many pages; not closed, as a kill would leave it."""
    store = await open_directory(directory / "live")
    for number in range(60):
        record, _ = await store.create(NewActor("default", "counter", (str(number),)))
        claim = await store.claim(record.id, "owner")
        assert claim is not None
        await store.commit(
            [Commit(record.id, claim.fence, 1, {"a": bytes([number]) * 3000}, type=record.type)]
        )
    if close:
        await store.close()
    shutil.copytree(directory / "live", directory / "left")
    await store.close()
    return directory / "left" / "rivet.sqlite3"


def overwrite(start: int, length: int) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:start] + b"\xa5" * length + whole[start + length :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda whole: b"",
    "cut in the header": lambda whole: whole[:50],
    "cut after the header": lambda whole: whole[:100],
    "cut after the first page": lambda whole: whole[:4096],
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "last page lost": lambda whole: whole[:-4096],
    "last page torn": lambda whole: whole[:-1000],
    "header overwritten": overwrite(0, 16),
    "schema overwritten": overwrite(100, 3000),
    "first table overwritten": overwrite(4096, 4096),
    "a page overwritten": overwrite(20 * 4096, 4096),
    "half a page overwritten": overwrite(20 * 4096, 2048),
    "replaced by text": lambda whole: b"Dear diary, " * 1000,
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_database_is_refused_and_left_alone(tmp_path: Path, damage: str) -> None:
    file = await fill(tmp_path)
    damaged = DAMAGES[damage](file.read_bytes())
    file.write_bytes(damaged)
    with pytest.raises(StoreError, match="damaged") as refused:
        await open_directory(file.parent)
    assert not isinstance(refused.value, StoreUnavailable)
    assert str(file) in str(refused.value)
    assert file.read_bytes() == damaged


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_database_damaged_in_a_crash_is_left_alone_with_its_log(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 50)
    file = await fill(tmp_path, close=False)
    log = file.with_name(file.name + "-wal")
    assert log.stat().st_size > 0
    contents = (DAMAGES[damage](file.read_bytes()), log.read_bytes())
    file.write_bytes(contents[0])
    [outcome] = await asyncio.gather(open_directory(file.parent), return_exceptions=True)
    if isinstance(outcome, FileSystemStore):  # all of it was in the log
        assert len(await outcome.list_actors("default")) == 60
        await outcome.close()
    else:
        assert isinstance(outcome, StoreError)
        assert "damaged" in str(outcome)
        assert (file.read_bytes(), log.read_bytes()) == contents


async def test_a_database_that_is_gone_is_not_created_beside_its_log(tmp_path: Path) -> None:
    file = await fill(tmp_path, close=False)
    file.unlink()
    with pytest.raises(StoreError, match="missing"):
        await open_directory(file.parent)
    assert not file.exists()


async def test_a_large_database_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its torn pages show when they are read, as errors; a cut file shows at once."""
    monkeypatch.setattr(database, "CHECK_UP_TO", 0)
    file = await fill(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(DAMAGES["last page lost"](whole))
    with pytest.raises(StoreError, match="damaged"):
        await open_directory(file.parent)
    file.write_bytes(DAMAGES["a page overwritten"](whole))
    store = await open_directory(file.parent)
    assert 0 < len(await damaged_actors(store)) < 60
    await store.close()


async def test_damage_inside_a_value_is_found_when_it_is_read(tmp_path: Path) -> None:
    """SQLite sees nothing wrong with zeros where a value was; nobody else suffers."""
    file = await fill(tmp_path)
    whole = file.read_bytes()
    start = whole.index(bytes([7]) * 1000)
    file.write_bytes(whole[:start] + bytes(1000) + whole[start + 1000 :])
    store = await open_directory(file.parent)
    [name] = await damaged_actors(store)
    assert name == "7"
    await store.close()


async def damaged_actors(store: FileSystemStore) -> list[str]:
    """The keys of those that cannot be claimed, all tried at once."""
    records = await store.list_actors("default")
    outcomes = await asyncio.gather(
        *(store.claim(record.id, "t") for record in records), return_exceptions=True
    )
    failed: list[str] = []
    for record, outcome in zip(records, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            assert type(outcome) is StoreError
            assert "damaged" in str(outcome)
            failed.append(record.key[0])
        else:
            assert outcome is not None
            assert dict(outcome.parts) == {"a": bytes([int(record.key[0])]) * 3000}
    return failed


async def test_an_unfinished_creation_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "rivet.sqlite3.new").write_bytes(b"half")
    (tmp_path / "rivet.sqlite3.new-journal").write_bytes(b"half")
    await (await open_directory(tmp_path)).close()
    assert sorted(os.listdir(tmp_path)) == ["lock", "rivet.sqlite3"]


# --- Versions ----------------------------------------------------------------


def execute(file: Path, statement: str) -> None:
    connection = sqlite3.connect(file)
    connection.executescript(statement)
    connection.close()


async def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    file = await fill(tmp_path)
    execute(file, f"PRAGMA user_version = {database.VERSION + 1}")
    before = file.read_bytes()
    with pytest.raises(StoreError, match="upgrade rivet_ray"):
        await open_directory(file.parent)
    assert file.read_bytes() == before


async def test_a_database_of_format_1_is_refused(tmp_path: Path) -> None:
    """No release wrote it, so there is no way from it; it is left as it is."""
    file = await fill(tmp_path)
    execute(file, "PRAGMA user_version = 1")
    before = file.read_bytes()
    with pytest.raises(StoreError, match=r"has format 1, which this rivet_ray cannot read"):
        await open_directory(file.parent)
    assert file.read_bytes() == before


async def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rivet.sqlite3"
    execute(file, "CREATE TABLE theirs (a)")
    before = file.read_bytes()
    with pytest.raises(StoreError, match="not a database of rivet_ray"):
        await open_directory(tmp_path)
    assert file.read_bytes() == before


async def test_an_older_version_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await fill(tmp_path)
    scripts = [*database.MIGRATIONS, "CREATE TABLE later (a)", "INSERT INTO later VALUES (1)"]
    monkeypatch.setattr(database, "MIGRATIONS", scripts)
    monkeypatch.setattr(database, "VERSION", database.OLDEST - 1 + len(scripts))
    store = await open_directory(file.parent)
    assert len(await store.list_actors("default")) == 60
    await store.close()
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT a FROM later").fetchall() == [(1,)]
    assert connection.execute("PRAGMA user_version").fetchone() == (database.VERSION,)
    connection.close()


async def test_a_missing_table_is_damage(tmp_path: Path) -> None:
    file = await fill(tmp_path)
    execute(file, "DROP TABLE parts")
    with pytest.raises(StoreError, match="damaged: no such table"):
        await open_directory(file.parent)


# --- Who may read it -----------------------------------------------------------

posix = pytest.mark.skipif(sys.platform == "win32", reason="rights are those of POSIX")


def rights(path: Path) -> dict[str, int]:
    """Of a directory, under its own name, and of what is in it."""
    return {item.name: item.stat().st_mode & 0o777 for item in (path, *path.iterdir())}


PRIVATE = {
    "store": 0o700,
    **dict.fromkeys(("lock", "rivet.sqlite3", "rivet.sqlite3-wal", "rivet.sqlite3-shm"), 0o600),
}


@pytest.fixture
def loose() -> Iterator[None]:
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


@posix
@pytest.mark.usefixtures("loose")
async def test_a_new_directory_is_private_whatever_the_umask(tmp_path: Path) -> None:
    store = await open_directory(tmp_path / "store")
    await store.create(NewActor("default", "counter", ("a",)))
    assert rights(tmp_path / "store") == PRIVATE
    await store.close()


@posix
async def test_what_was_open_to_others_is_tightened(tmp_path: Path, caplog: Any) -> None:
    directory = tmp_path / "store"
    await (await open_directory(directory)).close()
    directory.chmod(0o755)
    for path in directory.iterdir():
        path.chmod(0o644)
    store = await open_directory(directory)
    await store.create(NewActor("default", "counter", ("a",)))
    assert rights(directory) == PRIVATE
    assert f"{directory} was open to other users" in caplog.text
    await store.close()


@posix
async def test_a_directory_with_other_things_is_left_as_it_is(tmp_path: Path, caplog: Any) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o755)
    (directory / "other").touch(0o644)
    store = await open_directory(directory)
    found = rights(directory)
    assert found.pop("shared") == 0o755
    assert found.pop("other") & 0o044 == 0o044
    assert set(found.values()) == {0o600}
    assert "holds more than a store" in caplog.text
    await store.close()
