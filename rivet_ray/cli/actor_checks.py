"""Actors of a store that the code of a registry cannot load; nothing is claimed or changed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from rivet_ray.cli.looks import look
from rivet_ray.clock import Clock
from rivet_ray.definition import ActorDefinition
from rivet_ray.errors import RivetError
from rivet_ray.store import ActorRecord, Finding, Ownership, Store, Verdict

PAGE = 100
"""Actors that are asked for at once."""
MOST_NAMED = 100


async def check_actors(
    store: Store,
    clock: Clock,
    definitions: Mapping[str, ActorDefinition],
    namespace: str,
    most: int,
) -> list[Finding]:
    """Look at up to `most` actors, page by page. Raises StoreError."""
    faults: list[Finding] = []
    seen: Counter[str] = Counter()
    last: str | None = None
    while seen.total() < most:
        limit = min(PAGE, most - seen.total())
        page = await look(clock, store.list_actors(namespace, after=last, limit=limit))
        owners = await look(
            clock, asyncio.gather(*(store.find_ownership(record.id) for record in page))
        )
        for record, owner in zip(page, owners, strict=True):
            if owner is None:
                continue  # It was destroyed meanwhile.
            definition = definitions.get(record.name)
            kind, why = _look_at(record, owner, definition)
            seen[kind] += 1
            if why:
                faults.append(Finding(str(record), why, Verdict.PROBLEM))
        if len(page) < limit:
            last = None
            break
        last = page[-1].id
    return [*_summary(seen, unlooked=last is not None), *_bounded(faults)]


SAME = "saved by this code"
OTHER = "saved by code with other state types"
NEW = "not saved yet"
UNFIT = "cannot be loaded"
FOREIGN = "of types that the registry lacks"


def _look_at(
    record: ActorRecord, owner: Ownership, definition: ActorDefinition | None
) -> tuple[str, str]:
    """Which group an actor belongs to, and why it cannot be loaded, if it cannot."""
    if definition is None:
        return FOREIGN, ""
    stamp = owner.stamp
    if stamp.state_version > definition.state_version:
        return UNFIT, (
            f"saved with state_version {stamp.state_version}, and the code has"
            f" {definition.state_version}"
        )
    if record.input is not None:
        try:
            definition.decode("Input", record.input)
        except RivetError as error:
            return UNFIT, str(error.__cause__ or error)
    if not stamp.fingerprint:
        return NEW, ""
    return (SAME if stamp.fingerprint == definition.fingerprint else OTHER), ""


def _summary(seen: Counter[str], *, unlooked: bool) -> list[Finding]:
    texts = [f"{seen[kind]} {kind}" for kind in (SAME, OTHER, NEW, FOREIGN, UNFIT) if seen[kind]]
    found = f"{seen.total()} looked at" + (": " + ", ".join(texts) if texts else "")
    advice: list[str] = []
    if seen[OTHER]:
        advice.append(
            "Whether a state of other code can be loaded is seen when its actor is; the log names"
            " those that cannot."
        )
    if unlooked:
        advice.append("There are more; look at them with a higher --actors.")
    unsure = seen[OTHER] > 0 or unlooked
    verdict = Verdict.UNKNOWN if unsure else Verdict.OK
    return [Finding("actors", found, verdict, " ".join(advice))]


def _bounded(faults: list[Finding]) -> list[Finding]:
    if len(faults) <= MOST_NAMED:
        return faults
    more = len(faults) - MOST_NAMED
    return [*faults[:MOST_NAMED], Finding("actors", f"{more} more like these", Verdict.PROBLEM)]
