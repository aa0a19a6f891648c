"""The SQLite file: how it comes to be, is checked, brought up to date and opened.

What is checked at opening: that the file is a database of ours, of a version
we know, as long as its header says (or its write-ahead log, which SQLite
recovers here), and that every table can be read. More means to read everything:
`quick_check` does so for files up to `CHECK_UP_TO` (0.1 s or so); beyond, a torn
page shows when it is read, as an error. What SQLite cannot see, damage inside a
value, the parts' own checksums show when they are read. Nothing is written
before the checks have passed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Generator
from pathlib import Path

from rivet_ray.errors import StoreError
from rivet_ray_drivers.file_system.privacy import DIRECTORY, create_private

DATABASE_NAME = "rivet.sqlite3"
APPLICATION_ID = 0x72766579
FILES = (
    DATABASE_NAME,
    *(f"{DATABASE_NAME}{end}" for end in ("-wal", "-shm", "-journal", ".new", ".new-journal")),
)
"""What may be in a directory beside the lock."""
CHECK_UP_TO = 64 * 1024 * 1024
OLDEST_SQLITE = (3, 24, 0)  # the first with ON CONFLICT DO UPDATE
BUSY_SECONDS = 5.0
"""How long a group waits while somebody's SQLite shell holds the database."""

CHECKPOINT_PAGES = 4000
"""The write-ahead log goes into the database each 16 MB or so."""

OLDEST = 2
"""Databases of earlier versions are refused: no release wrote them."""

MIGRATIONS = [
    # To version 2. Text is kept as bytes, see `packing`.
    """
    CREATE TABLE actors (
        id BLOB PRIMARY KEY,
        namespace BLOB NOT NULL,
        name BLOB NOT NULL,
        key BLOB NOT NULL,
        generation INTEGER NOT NULL,
        living INTEGER NOT NULL DEFAULT 1,      -- 0: a tombstone
        created_at REAL NOT NULL,
        destroyed_at REAL,                      -- of a tombstone, which is swept later
        region BLOB,
        input BLOB
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX actors_by_key ON actors (namespace, name, key, generation);
    CREATE INDEX actors_by_name ON actors (namespace, name) WHERE living = 1;
    CREATE INDEX tombstones ON actors (destroyed_at) WHERE living = 0;

    -- What changes with a commit, apart from what does not. No row: never committed.
    CREATE TABLE owners (
        actor BLOB PRIMARY KEY,
        epoch INTEGER NOT NULL,
        token BLOB,                             -- NULL: nobody claimed it yet
        sequence INTEGER NOT NULL,
        crashes INTEGER NOT NULL,               -- runs.crashes when this was written
        alarm REAL,
        owner BLOB NOT NULL,                    -- incarnation of the host; empty: none
        state_version INTEGER NOT NULL,         -- of the last writer; 0: never written
        fingerprint BLOB NOT NULL,              -- of the last writer
        type BLOB NOT NULL                      -- namespace and name of the actor, packed
    ) WITHOUT ROWID;
    CREATE INDEX owners_by_alarm ON owners (type, alarm) WHERE alarm IS NOT NULL;

    -- Values in the indexes of a type, from 1 on; index 0 is actors_by_key.
    CREATE TABLE entries (
        type BLOB NOT NULL,
        number INTEGER NOT NULL,
        value BLOB NOT NULL,
        key BLOB NOT NULL,
        actor BLOB NOT NULL,
        PRIMARY KEY (type, number, value, key, actor)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX entries_by_actor ON entries (actor, number);

    -- With rowids: in a table without, values of 1 to 4 KB would take a page each,
    -- three to five times the space and the time; small ones cost the same.
    CREATE TABLE parts (
        actor BLOB NOT NULL,
        name BLOB NOT NULL,
        value BLOB NOT NULL,
        checksum INTEGER NOT NULL,              -- CRC-32 of the value
        PRIMARY KEY (actor, name)
    );

    CREATE TABLE runs (
        crashes INTEGER NOT NULL,               -- openings that no close came before
        running INTEGER NOT NULL,
        doubts INTEGER NOT NULL                 -- see Tables.save
    );
    INSERT INTO runs VALUES (0, 0, 0);
    """,
]
"""One script for each version. To change the schema, append one; never edit one."""

VERSION = OLDEST - 1 + len(MIGRATIONS)
TABLES = ("actors", "owners", "entries", "parts", "runs")


def open_database(directory: Path) -> tuple[sqlite3.Connection, int]:
    """Open the database under `directory`, which this process has locked.

    Notes that a run begins, and also gives how many runs before it crashed.
    Raises StoreError, and leaves the file as it is, when it is damaged, of a
    newer version or not ours.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: 3.24 is needed.")
    path = directory / DATABASE_NAME
    with _errors(path):
        if not path.exists():
            _create(path)
        _check(path)
        connection = _connect(path)
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").fetchall()
            _migrate(connection)
            connection.execute("UPDATE runs SET crashes = crashes + running, running = 1")
            return connection, int(connection.execute("SELECT crashes FROM runs").fetchone()[0])
        except BaseException:
            connection.close()
            raise


def _connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    # C2: a transaction is on the disk when COMMIT returns, on macOS too.
    for pragma in ("synchronous = FULL", "fullfsync = ON", "checkpoint_fullfsync = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _create(path: Path) -> None:
    """Make the database under another name, so that a crash leaves all of it or nothing."""
    if path.with_name(path.name + "-wal").exists():
        raise StoreError(
            f"{path} is missing and its -wal is there: restore the file, or remove the -wal."
        )
    unfinished = path.with_name(path.name + ".new")
    for leftover in (unfinished, unfinished.with_name(unfinished.name + "-journal")):
        leftover.unlink(missing_ok=True)
    create_private(unfinished)  # SQLite gives its journals the rights of the file.
    connection = _connect(unfinished)
    try:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _migrate(connection)
    finally:
        connection.close()
    os.replace(unfinished, path)
    sync_directory(path.parent)


def _migrate(connection: sqlite3.Connection) -> None:
    found = _pragma(connection, "user_version")
    for version, script in enumerate(MIGRATIONS, OLDEST):
        if version > found:
            connection.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {version}; COMMIT;"
            )


def _check(path: Path) -> None:
    # SQLite would take an empty file for a new database.
    if path.stat().st_size == 0:
        raise StoreError(f"The database {path} is damaged: it is empty. Restore it from a backup.")
    log = path.with_name(path.name + "-wal")
    recovering = log.exists() and log.stat().st_size > 0
    # Read only: closing a connection that may write moves the log into the file.
    connection = _connect(path, "ro")
    try:
        if _pragma(connection, "application_id") != APPLICATION_ID:
            raise StoreError(f"{path} is not a database of rivet_ray: choose another directory.")
        version = _pragma(connection, "user_version")
        if 0 < version < OLDEST:
            raise StoreError(
                f"The database {path} has format {version}, which this rivet_ray cannot read"
                f" (it reads {OLDEST} to {VERSION}): choose another directory, or remove it."
            )
        if not 0 < version <= VERSION:
            raise StoreError(
                f"The database {path} has version {version}, this rivet_ray knows {VERSION}:"
                " upgrade rivet_ray."
            )
        for table in TABLES if version == VERSION else ():
            connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()
        size = path.stat().st_size
        # SQLite sees by itself that whole pages are missing. While the log is not in the
        # file yet, its end may be torn: what belongs there is in the log.
        if size % _pragma(connection, "page_size") and not recovering:
            raise sqlite3.DatabaseError("its last page is torn")
        if size <= CHECK_UP_TO:
            finding = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            if finding != "ok":
                raise sqlite3.DatabaseError(finding)
    finally:
        connection.close()


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextlib.contextmanager
def _errors(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        missing = "no such" in str(error)
        problem = "is damaged" if missing else "cannot be opened"
        raise StoreError(f"The database {path} {problem}: {error}.") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"The database {path} is damaged: {error}. It was left as it is;"
            " restore it from a backup."
        ) from error


def make_directory(directory: Path) -> None:
    """Create `directory` and what is above it, so that loss of power keeps it."""
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=DIRECTORY, exist_ok=True)
    for place in missing:
        sync_directory(place.parent)


def sync_directory(directory: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
