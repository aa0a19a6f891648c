"""`rivet-ray doctor`: what a store keeps, and what its operator should mend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap

from rivet_ray.cli.actor_checks import check_actors
from rivet_ray.cli.checks import check_store
from rivet_ray.cli.looks import look
from rivet_ray.clock import Clock, SystemClock
from rivet_ray.definition import ActorDefinition
from rivet_ray.errors import StoreError
from rivet_ray.ids import DEFAULT_NAMESPACE
from rivet_ray.runtime.patience import close_store, open_in_time
from rivet_ray.store import Finding, Store, Verdict, examine

WIDTH = 100
MOST_ACTORS = 10_000


@dataclass(frozen=True, slots=True)
class ActorsOf:
    """The code whose actors are looked at, and how many of them at the most."""

    definitions: Mapping[str, ActorDefinition]
    namespace: str = DEFAULT_NAMESPACE
    most: int = MOST_ACTORS


def examine_store(url: str, *, as_json: bool, actors: ActorsOf | None = None) -> bool:
    """Print what was found; whether there is nothing to mend. Raises CommandError."""
    check_store(url)
    findings = asyncio.run(find(url, SystemClock(), actors))
    well = not any(finding.alarming for finding in findings)
    print(_for_programs(findings, well) if as_json else _for_people(findings, well))
    return well


async def find(url: str, clock: Clock, actors: ActorsOf | None = None) -> list[Finding]:
    """Open the store, look at it and close it. A store that stops answering is a finding.

    Ends within STORE_OPEN if the store cannot be opened, within LOOK and STORE_CLOSE after
    the last answer otherwise.
    """
    try:
        store = await open_in_time(clock, url)
    except StoreError as error:
        return [Finding("opening", str(error), Verdict.PROBLEM)]
    try:
        return await _looks(store, clock, actors)
    finally:
        await close_store(clock, store)


async def _looks(store: Store, clock: Clock, actors: ActorsOf | None) -> list[Finding]:
    found: list[Finding] = []
    try:
        found += await look(clock, examine(store))
        if actors is not None:
            found += await check_actors(
                store, clock, actors.definitions, actors.namespace, actors.most
            )
    except StoreError as error:
        found.append(Finding("looking", str(error), Verdict.PROBLEM))
    return found


def _for_programs(findings: Sequence[Finding], well: bool) -> str:
    return json.dumps({"ok": well, "findings": [asdict(finding) for finding in findings]})


def _for_people(findings: Sequence[Finding], well: bool) -> str:
    width = max(len(finding.subject) for finding in findings)
    lines: list[str] = []
    for finding in findings:
        start = f"{finding.verdict.value:8} {finding.subject:{width}}  "
        indent = " " * len(start)
        found = wrap(finding.found, WIDTH, initial_indent=start, subsequent_indent=indent)
        lines += [*found, *_indented(finding.advice, indent)]
    count = sum(finding.alarming for finding in findings)
    lines += ["", "Nothing to mend." if well else f"To mend: {count}."]
    return "\n".join(lines)


def _indented(text: str, indent: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
