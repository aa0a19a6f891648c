"""The actions of one connection start in the order in which its client sent them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rivet_ray.gateway.connection import Connection
from rivet_ray.gateway.outgoing import Frames
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.gateway.statistics import GatewayStatistics
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

    def put(self, payload: bytes) -> None:
        self.send(payload)

    def deliver(self, message: Deliver) -> None:
        raise AssertionError(message)


async def test_nothing_overtakes_what_waits() -> None:
    """Two answers in one tick make room; what arrives before it is used stands behind."""
    backend: Any = Backend()
    record = ActorRecord("id", "default", "counter", ())
    frames = Frames(100, GatewayStatistics())
    client = Client(backend, GatewaySettings(max_in_flight=2), JSON, record, frames)
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
