"""What the tests of the runtime share: a store that misbehaves, and a raw end of the port."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rivet_ray.errors import RivetError, StoreError, StoreUnavailable
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import (
    Attach,
    Attached,
    Call,
    Cancel,
    Close,
    Deliver,
    Detach,
    Failed,
    Reply,
    Subscribe,
    ToGateway,
)
from rivet_ray.store import Commit, CommitResult, Store
from rivet_ray.testing import Setup
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore


class Probe:
    """A store around another one: it records commits, and holds or fails them when told."""

    def __init__(self, inner: Store | None = None) -> None:
        self.inner: Any = inner or MemoryStore()
        self.batches: list[list[Commit]] = []
        """What each call of `commit` was given."""
        self.failures: list[str] = []
        """For the next calls: `refused` (nothing is written), `lost` (the answer is), `twice`."""
        self.down = False
        self.result: CommitResult | StoreError | None = None
        """Answered to everything instead of writing it."""
        self.trouble: dict[str, StoreError] = {}
        """By actor: what becomes of its commits."""
        self.alone = True
        """Trouble is told for its actor alone, as some drivers can; otherwise it is raised."""
        self.before: Callable[[int], None] | None = None
        """Called with the number of each commit, before it is made; may raise."""
        self.after: Callable[[int], None] | None = None
        self._open = asyncio.Event()
        self._open.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    @property
    def commits(self) -> list[Commit]:
        return [commit for batch in self.batches for commit in batch]

    async def commit(self, commits: Sequence[Commit]) -> Sequence[CommitResult | StoreError]:
        self.batches.append(list(commits))
        number = len(self.batches)
        await self._open.wait()
        if self.before is not None:
            self.before(number)
        if self.down:
            raise StoreUnavailable("the store is down")
        if self.failures:
            kind = self.failures.pop(0)
            if kind == "twice":
                await self.inner.commit(commits)
                return await self.inner.commit(commits)
            if kind == "lost":
                await self.inner.commit(commits)
            raise StoreUnavailable("the store did not answer")
        if self.result is not None:
            return [self.result for _ in commits]
        good = [commit for commit in commits if commit.actor_id not in self.trouble]
        if not self.alone and len(good) < len(commits):
            raise next(iter(self.trouble.values()))
        results = iter(await self.inner.commit(good))
        if self.after is not None:
            self.after(number)
        return [self.trouble.get(commit.actor_id) or next(results) for commit in commits]


def part(test_or_store: Any, actor: str, name: str) -> Any:
    """A part of an actor as a memory store has it, decoded; None where there is none."""
    store = getattr(test_or_store, "store", test_or_store)
    store = getattr(store, "inner", store)
    stored = store._living.get(actor)
    data = None if stored is None else stored.parts.get(name)
    return None if data is None else values.decode(data)


def parts(test: Setup[Any], actor: str, prefix: str = "") -> list[str]:
    """The names of an actor's parts in a memory store."""
    store: Any = getattr(test.store, "inner", test.store)
    stored = store._living.get(actor)
    return [] if stored is None else [name for name in stored.parts if name.startswith(prefix)]


class Tap:
    """A gateway made of nothing: everything that the host gives it, in order."""

    def __init__(self, test: Setup[Any]) -> None:
        self.messages: list[ToGateway] = []
        self._session = test.backend.host.open(self.messages.append)
        self._number = 0

    def call(self, actor: str, action: str, *args: Any, **options: Any) -> int:
        self._number += 1
        self._session.send(Call(self._number, actor, action, values.encode(args), **options))
        return self._number

    def cancel(self, call: int) -> None:
        self._session.send(Cancel(call))

    async def attach(self, actor: str, connection: str, *events: str, params: Any = None) -> int:
        caller = Caller(None if params is None else values.encode(params))
        self._number += 1
        self._session.send(Attach(self._number, actor, connection, "token", caller))
        await settle()
        for event in events:
            self._session.send(Subscribe(connection, event, True))
        await settle()
        return self._number

    async def resume(
        self, actor: str, connection: str, *events: str, token: str = "token", seen: int = 0
    ) -> int:
        self._number += 1
        self._session.send(
            Attach(self._number, actor, connection, token, Caller(), True, list(events), seen)
        )
        await settle()
        return self._number

    async def claim(self, actor: str, connection: str, seen: int) -> int:
        """As a client does that comes back: it is known here what it wants."""
        self._number += 1
        self._session.send(
            Attach(self._number, actor, connection, "token", Caller(), True, [], seen, True)
        )
        await settle()
        return self._number

    def detach(self, connection: str, *, keep: bool = False) -> None:
        self._session.send(Detach(connection, keep))

    def close(self) -> None:
        self._session.close()

    def answer(self, call: int) -> Reply | Failed | Attached | None:
        found = [
            message
            for message in self.messages
            if isinstance(message, (Reply, Failed, Attached)) and message.call == call
        ]
        assert len(found) <= 1, f"call {call} was answered {len(found)} times"
        return found[0] if found else None

    def output(self, call: int) -> Any:
        answer = self.answer(call)
        assert isinstance(answer, Reply), answer
        return None if answer.output is None else values.decode(answer.output)

    def error(self, call: int) -> RivetError:
        answer = self.answer(call)
        assert isinstance(answer, Failed), answer
        return answer.failure.exception()

    def seen(self) -> list[Any]:
        """In order: outputs of replies, codes of failures, events, reasons of closes."""
        return [_short(message) for message in self.messages]


def _short(message: ToGateway) -> Any:
    match message:
        case Reply():
            return None if message.output is None else values.decode(message.output)
        case Failed():
            return message.failure.code
        case Attached():
            return "attached"
        case Deliver():
            return (message.event, *values.decode(message.arguments))
        case Close():
            return ("close", message.code, message.reason)


async def started(test: Setup[Any], handle: Any) -> str:
    """The id of a handle's actor, which is created and in memory."""
    actor = await handle.resolve()
    test.backend.host.park(actor, lambda _: None, lambda _: None, None)
    await quiet(test)
    return actor


async def quiet(test: Setup[Any]) -> None:
    """Until nothing is being written any more; for stores that use threads too."""
    for _ in range(500):
        await settle()
        checkpointer = test.backend.host.checkpointer
        if checkpointer._writer is None and not test.backend.host._starting:
            break
        await asyncio.sleep(0.002)
    await settle()


async def open_file(directory: Path) -> Store:
    from rivet_ray_drivers.file_system import open_file_system

    return await open_file_system(f"file://{directory}")


def logfmt(line: str) -> dict[str, str]:
    """A line of logfmt, as its fields."""
    found = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)', line)
    return {name: value.strip('"') for name, value in found}
