"""Concurrent callers of one counter, and the account of what they were told."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field

from counted_actors import App

from rivet_ray import RivetError
from rivet_ray.errors import Outcome

CALLERS = 50


@dataclass
class Told:
    """What the callers were told."""

    acknowledged: int = 0
    unknown: int = 0
    faults: list[RivetError] = field(default_factory=list[RivetError])
    keyed: int = 0
    pauses: list[float] = field(default_factory=list[float])
    values: list[int] = field(default_factory=list[int])

    def check(self, count: int) -> None:
        """Nothing acknowledged is lost; what is unknown may or may not be there."""
        assert not self.faults
        assert self.acknowledged <= count <= self.acknowledged + self.unknown
        assert len(set(self.values)) == len(self.values), "two calls had one increment"
        assert self.keyed > CALLERS

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {self.unknown} unknown, "
            f"longest pause {max(self.pauses):.2f} s"
        )


async def load(client: App, name: str, told: Told, until: asyncio.Event, number: int) -> None:
    """Increments, every other caller with a key for each, until it is told to stop."""
    counter = client.counter.get_or_create(name)
    for turn in itertools.count():
        if until.is_set():
            return
        handle = counter.with_options(idempotency_key=f"{number}-{turn}") if number % 2 else counter
        begun = time.monotonic()
        try:
            value = await handle.increment()
        except RivetError as error:
            if error.outcome is Outcome.UNKNOWN and not number % 2:
                told.unknown += 1
            else:
                # Calls wait for the host, and keyed ones are asked again.
                told.faults.append(error)
        else:
            told.acknowledged += 1
            told.keyed += number % 2
            told.values.append(value)
        told.pauses.append(time.monotonic() - begun)
