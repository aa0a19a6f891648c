"""A connection that is cut again and again, and what must not come of it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from cut_actors import App, Counter
from road import Road

from rivet_ray.client import reconnecting

BEHIND = 100
"""Events that a client may lag behind; a host remembers 256."""


class Watch:
    """Everything that a connection tells."""

    def __init__(self, connection: Any) -> None:
        self.counts: list[int] = []
        self.life: list[str] = []
        connection.on(Counter.counted, self.counts.append)
        for name in ("connected", "disconnected", "reconnected", "resync"):
            connection.on(name, lambda name=name: self.life.append(name))
        connection.on("error", lambda error: self.life.append(error.code))

    def __repr__(self) -> str:
        return f"{len(self.counts)} counts, the last {self.counts[-3:]}; {self.life[-6:]}"


async def cut_anywhere(
    road: Road,
    beside: App,
    transport: Any,
    cuts: int,
    monkeypatch: pytest.MonkeyPatch,
    patience: float,
) -> set[int]:
    """At random bytes, the openings among them: no event is missed or comes twice.

    Returns the processes of the gateways that let the connection in. `beside` is a
    client that does not take the road, `patience` what a call of it may take.
    """
    monkeypatch.setattr(reconnecting, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(reconnecting, "LONGEST_PAUSE", 0.02)
    async with (
        App.client(road.url, transport=transport, timeout=patience) as client,
        client.counter.get_or_create(transport).connect(params="watched") as connection,
    ):
        watch = Watch(connection)
        await connection.actor.rename("ann")
        counter = beside.counter.get(transport)
        road.after = random.Random(cuts)
        road.cut()
        last = 0
        moved = time.monotonic()
        while road.cuts < cuts:
            # A client that is cut after a few events again and again falls far behind.
            if last - len(watch.counts) < BEHIND:
                last = await counter.increment()
                moved = time.monotonic()
            assert time.monotonic() - moved < patience, f"{last} events were told, {watch!r}"
            await asyncio.sleep(0.002)
        road.after = None
        road.cut()
        assert await connection.actor.whoami() == "ann"
        last = await counter.increment()
        for _ in range(int(patience * 200)):
            if len(watch.counts) >= last:
                break
            await asyncio.sleep(0.005)
        assert watch.counts == list(range(1, last + 1))
        assert set(watch.life) == {"disconnected", "reconnected"}, "no resync among them"
        assert await counter.hooks() == ["connect"]
        gateways = set(await counter.gateways())
    print(f"{road.cuts} cuts, {watch.life.count('reconnected')} reconnections, {last} events")
    return gateways
