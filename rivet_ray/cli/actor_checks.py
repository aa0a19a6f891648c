"""Actors of a store that the code of a registry cannot load; nothing is claimed or changed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar, cast

from rivet_ray.cli.looks import look
from rivet_ray.cli.sizes import PAGE
from rivet_ray.clock import Clock
from rivet_ray.definition import ActorDefinition
from rivet_ray.runtime.deadline import ended
from rivet_ray.runtime.inspection import Misfit, Part, misfits_of
from rivet_ray.store import ActorRecord, ActorSize, Finding, Snapshot, Store, Verdict

T = TypeVar("T")

AT_ONCE = 16
"""Actors that are read at once."""
BYTES_AT_ONCE = 16_000_000
"""Bytes of those; a larger actor is read alone."""
MOST_NAMED = 100
JUDGED = 10.0
"""Seconds for the user's code that loads one actor."""

SAME = "saved by this code"
OTHER = "saved by code with other state types"
NEW = "not saved yet"
UNFIT = "cannot be loaded"
FOREIGN = "of types that the registry lacks"
GROUPS = {
    SAME: "same_code",
    OTHER: "other_code",
    NEW: "new",
    FOREIGN: "unknown_type",
    UNFIT: "cannot_be_loaded",
}
"""Their names for programs."""


class ActorMisfit(NamedTuple):
    record: ActorRecord
    misfit: Misfit


@dataclass(slots=True)
class ActorChecks:
    """The actors of a namespace, as far as the command has read them."""

    complete: bool = False
    """Whether all of them were looked at."""
    groups: Counter[str] = field(default_factory=Counter[str])
    misfits: list[ActorMisfit] = field(default_factory=list[ActorMisfit])
    """The first MOST_NAMED of them."""
    unnamed: int = 0
    """How many more there are."""

    def add(self, record: ActorRecord, group: str, misfits: Sequence[Misfit]) -> None:
        self.groups[group] += 1
        for misfit in misfits:
            if len(self.misfits) < MOST_NAMED:
                self.misfits.append(ActorMisfit(record, misfit))
            else:
                self.unnamed += 1

    def findings(self) -> list[Finding]:
        groups = [f"{self.groups[kind]} {kind}" for kind in GROUPS if self.groups[kind]]
        found = f"{self.groups.total()} looked at" + (": " + ", ".join(groups) if groups else "")
        verdict, advice = Verdict.OK, ""
        if not self.complete:
            verdict = Verdict.UNKNOWN
            advice = "There are more; look at them with a higher --actors."
        findings = [Finding("actors", found, verdict, advice)]
        for record, (part, why) in self.misfits:
            verdict = Verdict.PROBLEM if part is Part.ACTOR else Verdict.WARNING
            findings.append(Finding(str(record), why, verdict))
        if self.unnamed:
            findings.append(Finding("actors", f"{self.unnamed} more like these", Verdict.PROBLEM))
        return findings


async def check_actors(
    checks: ActorChecks,
    store: Store,
    clock: Clock,
    definitions: Mapping[str, ActorDefinition],
    namespace: str,
    most: int,
) -> None:
    """Look at up to `most` actors, page by page; `checks` takes it. Raises StoreError."""
    stuck: set[str] = set()
    last: str | None = None
    while most > 0:
        limit = min(PAGE, most)
        page = await look(clock, store.list_sizes(namespace, after=last, limit=limit))
        for batch in _batches([one for one in page if one.type.name in definitions]):
            reads = (look(clock, store.read(one.id)) for one in batch)
            for snapshot in await asyncio.gather(*reads):
                if snapshot is not None:  # It was destroyed meanwhile.
                    await _check(checks, snapshot, definitions, clock, stuck)
        foreign = sum(one.type.name not in definitions for one in page)
        if foreign:
            checks.groups[FOREIGN] += foreign
        if len(page) < limit:
            checks.complete = True
            return
        most -= limit
        last = page[-1].id
    checks.complete = not await look(clock, store.list_sizes(namespace, after=last, limit=1))


def _batches(sizes: Sequence[ActorSize]) -> Iterator[list[ActorSize]]:
    """AT_ONCE actors at the most, and BYTES_AT_ONCE or one actor."""
    batch: list[ActorSize] = []
    total = 0
    for size in sizes:
        if batch and (len(batch) == AT_ONCE or total + size.bytes > BYTES_AT_ONCE):
            yield batch
            batch, total = [], 0
        batch.append(size)
        total += size.bytes
    if batch:
        yield batch


async def _check(
    checks: ActorChecks,
    snapshot: Snapshot,
    definitions: Mapping[str, ActorDefinition],
    clock: Clock,
    stuck: set[str],
) -> None:
    record, stamp = snapshot.record, snapshot.ownership.stamp
    definition = definitions[record.name]
    try:
        if record.name in stuck:
            raise TimeoutError
        misfits = await _in_time(clock, lambda: misfits_of(definition, snapshot))
    except TimeoutError:
        stuck.add(record.name)
        why = f"state: the code that loads actors of this type did not end within {JUDGED:g} s"
        misfits = [Misfit(Part.ACTOR, why)]
    if any(misfit.part is Part.ACTOR for misfit in misfits):
        group = UNFIT
    elif not stamp.fingerprint:
        group = NEW
    else:
        group = SAME if stamp.fingerprint == definition.fingerprint else OTHER
    checks.add(record, group, misfits)


async def _in_time(clock: Clock, work: Callable[[], T]) -> T:
    """Do work that may never end in a thread that nobody waits for. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return  # It was given up.
        if error is None:
            done.set_result(cast("T", result))
        else:
            done.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # The loop has ended.
            loop.call_soon_threadsafe(deliver, result, error)

    threading.Thread(target=run, name="rivet-ray doctor", daemon=True).start()
    if await ended(clock, [done], JUDGED):
        done.cancel()
        raise TimeoutError
    return done.result()
