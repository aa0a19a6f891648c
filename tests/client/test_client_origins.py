"""A server that takes no requests of this origin, or by this name: that is final (D3)."""

from __future__ import annotations

from typing import Any

import pytest
from client_worlds import PATIENCE, WAYS, eventually, world

from rivet_ray import Actor, HostNotAllowed, OriginNotAllowed, Registry, action, use
from rivet_ray.client import reconnecting
from rivet_ray.errors import Outcome, RivetError
from rivet_ray.gateway.origins import Origins

REFUSALS = pytest.mark.parametrize("kind", [OriginNotAllowed, HostNotAllowed])


class Counter(Actor[int]):
    public = True

    @action
    def increment(self) -> int:
        self.state += 1
        return self.state


class App(Registry):
    counter = use(Counter)


class Gate:
    """Refuses everything while it is shut."""

    def __init__(self, kind: type[RivetError], monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind = kind
        self.shut = False
        self.asked = 0
        monkeypatch.setattr(Origins, "check_host", self.check_host)

    def check_host(self, scope: Any) -> None:
        self.asked += 1
        if self.shut:
            raise self.kind("Not from here.", outcome=Outcome.NOT_STARTED)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(reconnecting, "LONGEST_PAUSE", 0.01)


@WAYS
@REFUSALS
async def test_a_page_of_the_wrong_origin_is_told_once(
    transport: Any, kind: type[RivetError], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(kind, monkeypatch)
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        gate.shut = True
        with pytest.raises(kind) as caught:
            await client.counter.get_or_create("k").increment()
        assert caught.value.outcome is Outcome.NOT_STARTED
        with pytest.raises(kind):
            await client.counter.get_or_create("k").connect()
        seen: list[Any] = []
        connection = client.counter.get_or_create("k").connect()
        connection.on("error", seen.append)
        await eventually(lambda: seen)
        asked = gate.asked
        with pytest.raises(kind):
            await connection.actor.increment()
        assert [type(error) for error in seen] == [kind]
        assert gate.asked == asked, "it is not asked again"


@WAYS
@REFUSALS
async def test_who_is_no_longer_let_in_does_not_come_back(
    transport: Any, kind: type[RivetError], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(kind, monkeypatch)
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
    ):
        seen: list[Any] = []
        connection = client.counter.get_or_create("k").connect()
        connection.on("error", seen.append)
        async with connection:
            assert await connection.actor.increment() == 1
            gate.shut = True
            asked = gate.asked
            road.cut()
            await eventually(lambda: seen)
            with pytest.raises(kind):
                await connection.actor.increment()
            assert [type(error) for error in seen] == [kind]
            assert gate.asked == asked + 1
