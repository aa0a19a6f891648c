"""Compares what a killed writer was told with what its store holds.

Of each key, everything acknowledged must be there; the one operation that may
have been under way must be there wholly or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from rivet_ray.ids import actor_id, owner_token
from rivet_ray.store import ActorType, Commit, CommitResult, Fence, Store, TypeSize

NAME = "crash"
TYPE = ActorType("default", NAME)


@dataclass(frozen=True)
class Saved:
    """What a store holds of one key."""

    generation: int
    living: bool = True
    sequence: int = 0
    parts: dict[str, str] = field(default_factory=dict)
    alarm: float | None = None
    entries: dict[int, str] = field(default_factory=dict)


NOTHING = Saved(generation=0, living=False)


def after(saved: Saved, operation: dict[str, Any]) -> Saved:
    """`saved`, with the operation done."""
    match operation["do"]:
        case "create":
            return saved if saved.living else Saved(saved.generation + 1)
        case "commit":
            parts = {k: v for k, v in saved.parts.items() if k not in operation["delete"]}
            changed = {int(number): value for number, value in operation["entries"].items()}
            entries = saved.entries | changed
            return replace(
                saved,
                sequence=operation["sequence"],
                parts=parts | operation["put"],
                alarm=operation["alarm"],
                entries={number: value for number, value in entries.items() if value is not None},
            )
        case "destroy":
            return Saved(saved.generation, living=False)
        case _:
            return saved


class Checker:
    """Follows one store through any number of writers that were killed."""

    def __init__(self) -> None:
        self.saved: dict[str, Saved] = {}
        self.under_way: dict[str, dict[str, Any]] = {}
        self.fences: dict[str, Fence] = {}
        self.acknowledged = 0
        self.landed = 0
        """Operations that were not acknowledged and yet are there."""
        self.unknown = 0
        """Operations that were under way when the last writer ended."""
        self.killed: str | None = None
        """The step at which the last writer died by its own hand."""
        self.steps = 0

    def read(self, output: Iterable[bytes]) -> None:
        """Take in what a writer printed; a last line without end was never said."""
        self.killed = None
        for text in output:
            if not text.endswith(b"\n"):
                continue
            line = json.loads(text)
            if key := line.get("try"):
                self.under_way[key] = line
            elif key := line.get("done"):
                operation = self.under_way.pop(key)
                self.saved[key] = after(self.saved.get(key, NOTHING), operation)
                self.acknowledged += 1
                if "fence" in line:
                    fence = Fence(*line["fence"])
                    self._grew(key, fence)
                    self.fences[key] = fence
            else:
                self.killed = line.get("killed", self.killed)
                self.steps = line.get("steps", self.steps)

    def _grew(self, key: str, fence: Fence) -> None:
        before = self.fences.get(key)
        assert before is None or fence.epoch > before.epoch, f"{key}: the epoch went back"

    async def check(self, store: Store, crashed: bool) -> None:
        """Compare; from then on, what the store holds is what it has to hold."""
        self.unknown = len(self.under_way)
        seen: dict[str, Saved] = {}
        for key in self.saved.keys() | self.under_way.keys():
            saved = self.saved.get(key, NOTHING)
            operation = self.under_way.get(key)
            allowed = [saved] if operation is None else [saved, after(saved, operation)]
            if crashed:
                await self._fence_is_void(store, key, saved)
            seen[key] = await self._look(store, key, saved.generation)
            assert seen[key] in allowed, f"{key}: {seen[key]} is none of {allowed}"
            self.landed += seen[key] != saved
        living = {
            actor_id("default", NAME, [key], now.generation): now
            for key, now in seen.items()
            if now.living
        }
        listed = await store.list_actors("default", NAME)
        assert [record.id for record in listed] == sorted(living)
        await self._check_indexes(store, living)
        alarms = sorted((now.alarm, of) for of, now in living.items() if now.alarm is not None)
        assert await store.alarms_due(1e9) == alarms
        assert await store.alarms_due(1e9, types=[TYPE]) == alarms
        self.saved = seen
        self.under_way = {}

    async def _check_indexes(self, store: Store, living: dict[str, Saved]) -> None:
        """The entries and sizes are those of the actors that live, and of no others."""
        listed = [entry.id for entry in await store.list_index(TYPE)]
        assert sorted(listed) == sorted(living)
        for number in (1, 2):
            expected = [
                (now.entries[number], of) for of, now in living.items() if number in now.entries
            ]
            entries = await store.list_index(TYPE, number)
            assert sorted((entry.value.decode(), entry.id) for entry in entries) == sorted(expected)
            assert [entry.value for entry in entries] == sorted(entry.value for entry in entries)
        parts = sum(len(text) for now in living.values() for text in now.parts.values())
        size = TypeSize(TYPE, len(living), parts + len(living) * len("input"))
        sizes = await store.sizes()
        assert sizes == ([size] if living else []), f"{sizes}, and not {size}"

    async def _fence_is_void(self, store: Store, key: str, saved: Saved) -> None:
        """Nobody who owned the actor before the crash can write after it."""
        if saved.living and key in self.fences:
            identity = actor_id("default", NAME, [key], saved.generation)
            for sequence in (saved.sequence + 1, saved.sequence + 2):
                stale = Commit(
                    identity,
                    self.fences[key],
                    sequence,
                    {"a": b"stale"},
                    type=TYPE,
                )
                [result] = await store.commit([stale])
                # Done already: it is the one that was under way.
                assert result in (CommitResult.FENCED, CommitResult.ALREADY_DONE), result

    async def _look(self, store: Store, key: str, generation: int) -> Saved:
        record = await store.find("default", NAME, [key])
        if record is None:
            return Saved(generation, living=False)
        assert record.input == b"input"
        claim = await store.claim(record.id, owner_token())
        assert claim is not None
        self._grew(key, claim.fence)
        suffix = record.id.partition("-")[2]
        return Saved(
            int(suffix or 1),
            True,
            claim.sequence,
            {name: value.decode() for name, value in claim.parts.items()},
            claim.alarm,
            {number: value.decode() for number, value in claim.entries.items()},
        )
