"""The actions of one connection start in the order in which its client sent them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway_wire import eventually

from rivet_ray.gateway.budgets import Budgets
from rivet_ray.gateway.connection import Connection
from rivet_ray.gateway.fanout import EventFrames
from rivet_ray.gateway.outgoing import Frames
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.gateway.statistics import GatewayStatistics
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.encodings import JSON
from rivet_ray.protocol.port import Ask, Deliver, Failed, Reply
from rivet_ray.store import ActorRecord


class Calls:
    """Keeps what was started, and answers when it is told to."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.answers: list[Callable[[Reply | Failed], None]] = []

    def start(self, actor: str, action: str, arguments: bytes, answer: Any, **more: Any) -> None:
        self.started.append(action)
        self.answers.append(answer)


class Backend:
    def __init__(self) -> None:
        self.calls = Calls()


class Client(Connection):
    async def read(self) -> None:
        raise AssertionError("nobody reads here")

    def refused(self, error: object) -> None:
        raise AssertionError(error)

    def frame(self, payload: bytes) -> bytes:
        return payload

    def frame_of(self, message: Deliver) -> bytes:
        raise AssertionError(message)


def client_of(settings: GatewaySettings) -> tuple[Client, Any]:
    backend: Any = Backend()
    record = ActorRecord("id", "default", "counter", ())
    budgets = Budgets(settings)
    share, statistics = budgets.of(Caller()), GatewayStatistics(budgets.gateway)
    frames = Frames(settings.max_queued_size, budgets, share.budget, statistics)
    events = EventFrames(budgets, statistics)
    return Client(backend, settings, JSON, record, frames, events, share), backend


async def test_answers_that_may_not_fit_are_asked_for_one_by_one() -> None:
    """Nobody knows how long an answer will be; those before say how long it may be.

    And all start in the end, since one that runs may wait for one that does not.
    """
    client, backend = client_of(GatewaySettings(max_queued_size=20_000))
    calls = backend.calls
    client.handed(Ask(0, "first", b"\x90"))
    calls.answers[0](Reply(0, values.encode("x" * 4_000)))
    for number in range(1, 10):
        client.handed(Ask(number, "next", b"\x90"))
    assert len(calls.started) == 1 + 3

    async def all_started() -> bool:
        return len(calls.started) == 1 + 9

    await eventually(all_started)
    assert not client.outgoing.slow


async def test_nothing_overtakes_what_waits() -> None:
    """Two answers in one tick make room; what arrives before it is used stands behind."""
    client, backend = client_of(GatewaySettings(max_in_flight=2))
    for name in ("one", "two", "three", "four"):
        client.handed(Ask(0, name, b"\x90"))
    assert backend.calls.started == ["one", "two"]
    for answer in backend.calls.answers[:2]:
        answer(Reply(0, None))
    client.handed(Ask(0, "five", b"\x90"))
    await asyncio.sleep(0)
    assert backend.calls.started == ["one", "two", "three", "four"]
    backend.calls.answers[2](Reply(0, None))
    await asyncio.sleep(0)
    assert backend.calls.started[4:] == ["five"]
