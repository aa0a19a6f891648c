"""`rivet-ray doctor`: what a store keeps, and what its operator should mend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap

from rivet_ray.cli.actor_checks import check_actors
from rivet_ray.cli.checks import check_store
from rivet_ray.definition import ActorDefinition
from rivet_ray.errors import StoreError
from rivet_ray.ids import DEFAULT_NAMESPACE
from rivet_ray.store import Finding, Verdict, examine, open_store

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
    findings = asyncio.run(_findings(url, actors))
    well = not any(finding.alarming for finding in findings)
    print(_for_programs(findings, well) if as_json else _for_people(findings, well))
    return well


async def _findings(url: str, actors: ActorsOf | None) -> list[Finding]:
    try:
        store = await open_store(url)
    except StoreError as error:
        return [Finding("opening", str(error), Verdict.PROBLEM)]
    try:
        found = await examine(store)
        if actors is not None:
            found += await check_actors(store, actors.definitions, actors.namespace, actors.most)
        return found
    except StoreError as error:
        return [Finding("looking", str(error), Verdict.PROBLEM)]
    finally:
        await store.close()


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
