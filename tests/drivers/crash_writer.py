"""A process that writes to a store, tells what it did, and is killed, or its Redis is.

Each line on standard output is JSON: `{"try": key, ...}` before an operation,
`{"done": key, ...}` after the store has acknowledged it. `--kill-at N` makes it
send itself SIGKILL at the driver's N-th step of writing, `--kill-at=-N` at the
N-th step of closing. When its store is away it tells `{"away": true}` and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray.ids import owner_token
from rivet_ray.store import Claim, Claimant, Commit, CommitResult, NewActor, Store, open_store
from rivet_ray_drivers.file_system import open_directory
from rivet_ray_drivers.file_system.tables import Tables
from rivet_ray_drivers.file_system.writer import Job, Writer
from rivet_ray_drivers.redis import RedisStore

NAME = "crash"
PARTS = ["a", "b", "c", "d"]


def tell(line: dict[str, Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


class Steps:
    """Counts the driver's steps and dies at the chosen one."""

    def __init__(self, kill_at: int) -> None:
        self.count = 0
        self._kill_at = kill_at

    def closing(self) -> None:
        self._kill_at = self.count - self._kill_at if self._kill_at < 0 else 0

    def __call__(self, step: str) -> None:
        self.count += 1
        if self.count == self._kill_at:
            tell({"killed": step})
            time.sleep(0.01)  # what was told too early gets out, so that it is found out
            os.kill(os.getpid(), signal.SIGKILL)


class Actor:
    """One key and what is done to it, one operation after the other."""

    def __init__(self, store: Store, key: str, dice: random.Random) -> None:
        self.store = store
        self.key = key
        self.dice = dice
        self.claim: Claim | None = None
        self.sequence = 0
        self.indexed: list[int] = []
        """The indexes that it is in, beside index 0."""

    async def own(self) -> None:
        tell({"try": self.key, "do": "create"})
        record, _ = await self.store.create(NewActor("default", NAME, (self.key,), b"input"))
        tell({"done": self.key, "id": record.id})
        tell({"try": self.key, "do": "claim"})
        seen = await self.store.find_ownership(record.id)
        claim = await self.store.claim(record.id, owner_token(), Claimant("host"), expected=seen)
        assert isinstance(claim, Claim)
        self.claim = claim
        self.sequence = self.claim.sequence
        self.indexed = sorted(self.claim.entries)
        fence = [self.claim.fence.epoch, self.claim.fence.token]
        tell({"done": self.key, "fence": fence})

    def next(self) -> Commit:
        """A random commit that follows the last, told as tried."""
        assert self.claim is not None
        self.sequence += 1
        destroy = self.dice.random() < 0.1
        text = f"{self.sequence}" * (2000 if self.dice.random() < 0.2 else 3)
        put = {} if destroy else {name: text for name in PARTS if self.dice.random() < 0.7}
        delete = [] if destroy else [name for name in PARTS if self.dice.random() < 0.2]
        alarm = None if destroy or self.dice.random() < 0.5 else self.dice.random() * 100
        indexed = self.indexed if destroy else [1, 2] if self.dice.random() < 0.6 else []
        gone = destroy or self.dice.random() < 0.2
        entries = {number: None if gone else self.dice.choice("xyz") for number in indexed}
        self.indexed = sorted({*self.indexed, *indexed} - ({*indexed} if gone else set()))
        tell(
            {
                "try": self.key,
                "do": "destroy" if destroy else "commit",
                "sequence": self.sequence,
                "put": put,
                "delete": delete,
                "alarm": alarm,
                "entries": entries,
            }
        )
        return Commit(
            self.claim.record.id,
            self.claim.fence,
            self.sequence,
            {name: value.encode() for name, value in put.items()},
            frozenset(delete),
            alarm,
            destroy,
            entries={number: value and value.encode() for number, value in entries.items()},
            type=self.claim.record.type,
        )

    async def finish(self, commit: Commit, result: CommitResult | StoreError) -> None:
        if isinstance(result, StoreError):
            raise result
        assert result is CommitResult.COMMITTED, result
        tell({"done": self.key})
        if commit.destroy:
            await self.own()


async def together(actors: list[Actor], rounds: int) -> None:
    """Write all of `actors` with one call each time."""
    for actor in actors:
        await actor.own()
    for _ in range(rounds):
        commits = [actor.next() for actor in actors]
        results = await actors[0].store.commit(commits)
        for actor, commit, result in zip(actors, commits, results, strict=True):
            await actor.finish(commit, result)


async def write(place: str, seed: int, rounds: int, kill_at: int) -> None:
    steps = Steps(kill_at)
    store: Store
    if "://" in place:
        store = await open_store(place)
    else:
        store = await open_directory(Path(place), steps)

    def actors(keys: str) -> list[Actor]:
        return [Actor(store, key, random.Random(f"{seed}{key}")) for key in keys]

    try:
        await asyncio.gather(*(together(actors(keys), rounds) for keys in ("k", "mn")))
    except StoreUnavailable:
        tell({"away": True})
    steps.closing()
    await store.close()
    tell({"steps": steps.count})


def acknowledge_before_commit() -> None:
    """A fault to be found: results go out when the COMMIT is still to come."""

    def perform(writer: Writer, group: list[Job]) -> None:
        for job in group:
            job.result = job.operation()
        writer._tell(writer._deliver, group)
        writer._ledger.save()

    Writer._perform = perform  # type: ignore[method-assign]


def commit_each_statement() -> None:
    """A fault to be found: an operation is not one transaction."""
    original = Tables._write

    def write(tables: Tables, statement: str, values: Any = ()) -> Any:
        cursor = original(tables, statement, values)
        tables._connection.execute("COMMIT")
        return cursor

    Tables._write = write  # type: ignore[method-assign]


def acknowledge_before_sending() -> None:
    """A fault to be found: results go out before Redis has the commits."""
    original, sending, turn = RedisStore.commit, set[asyncio.Task[Any]](), asyncio.Lock()

    async def send(store: RedisStore, commits: Sequence[Commit]) -> Any:
        async with turn:
            return await original(store, commits)

    async def commit(store: RedisStore, commits: Sequence[Commit]) -> Any:
        task = asyncio.create_task(send(store, commits))
        if any(commit.destroy for commit in commits):  # The next life needs it done.
            return await task
        sending.add(task)
        return [CommitResult.COMMITTED] * len(commits)

    RedisStore.commit = commit  # type: ignore[method-assign]


FAULTS = {
    "early": acknowledge_before_commit,
    "torn": commit_each_statement,
    "unsent": acknowledge_before_sending,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", help="a directory, or the URL of a store")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--fault", choices=FAULTS)
    given = parser.parse_args()
    if given.fault:
        FAULTS[given.fault]()
    asyncio.run(write(given.place, given.seed, given.rounds, given.kill_at))


if __name__ == "__main__":
    main()
