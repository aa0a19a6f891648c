"""`rivet-ray doctor`: what a store keeps, and what its operator should mend."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from rivet_ray.cli.actor_checks import ActorChecks, check_actors
from rivet_ray.cli.checks import check_store
from rivet_ray.cli.looks import look
from rivet_ray.cli.report import Report
from rivet_ray.cli.sizes import growth_since, largest, sizes_of
from rivet_ray.clock import Clock, SystemClock
from rivet_ray.definition import ActorDefinition
from rivet_ray.errors import StoreError
from rivet_ray.ids import DEFAULT_NAMESPACE
from rivet_ray.runtime.patience import close_store, open_in_time
from rivet_ray.store import Finding, Store, Timekeeper, Verdict, examine

MOST_ACTORS = 10_000
GROWTH = 5.0
"""Seconds between two looks at the sizes, if nobody says."""
NOBODY_ELSE = (
    "Growth was not measured: a store without a clock of its own has one user at a time, which is"
    " doctor now. Use --growth to measure it all the same."
)


@dataclass(frozen=True, slots=True)
class ActorsOf:
    """The code whose actors are looked at, and how many of them at the most."""

    definitions: Mapping[str, ActorDefinition]
    namespace: str = DEFAULT_NAMESPACE
    most: int = MOST_ACTORS


def examine_store(
    url: str,
    *,
    as_json: bool,
    actors: ActorsOf | None = None,
    growth: float | None = None,
    most: int = MOST_ACTORS,
) -> bool:
    """Print what was found; whether there is nothing to mend. Raises CommandError.

    `growth` is the seconds between two looks at the sizes, 0 for one look; None decides by
    the store. `most` is the number of actors among which the largest are looked for.
    """
    check_store(url)
    report = asyncio.run(examined(url, SystemClock(), actors, growth, most))
    print(report.for_programs() if as_json else report.for_people())
    return report.well


async def examined(
    url: str,
    clock: Clock,
    actors: ActorsOf | None = None,
    growth: float | None = None,
    most: int = MOST_ACTORS,
) -> Report:
    """Open the store, look at it and close it. A store that stops answering is a finding.

    Ends within STORE_OPEN if the store cannot be opened. Otherwise it ends within LOOK and
    STORE_CLOSE after the last answer, and after the time for growth.
    """
    report = Report()
    try:
        store = await open_in_time(clock, url)
    except StoreError as error:
        report.findings.append(Finding("opening", str(error), Verdict.PROBLEM))
        return report
    try:
        await _look(report, store, clock, actors, growth, most)
    except StoreError as error:
        report.findings.append(Finding("looking", str(error), Verdict.PROBLEM))
    finally:
        await close_store(clock, store)
    return report


async def _look(
    report: Report,
    store: Store,
    clock: Clock,
    actors: ActorsOf | None,
    growth: float | None,
    most: int,
) -> None:
    if growth is None:
        growth = GROWTH if isinstance(store, Timekeeper) else 0.0
        report.growth_left_out = "" if growth else NOBODY_ELSE
    report.findings += await look(clock, examine(store))
    report.sizes = await sizes_of(store, clock)
    report.hosts = await look(clock, store.list_hosts())
    report.largest = await largest(store, clock, most)
    if actors is not None:
        checks = report.actors = ActorChecks()
        await check_actors(checks, store, clock, actors.definitions, actors.namespace, actors.most)
    if growth:
        report.growth = await growth_since(report.sizes, growth, store, clock)
