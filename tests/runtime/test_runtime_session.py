"""A gateway's session never raises: what breaks one message fails that one alone (issue 14)."""

from __future__ import annotations

import math
from typing import Any

import pytest
from runtime_worlds import started

from rivet_ray import Actor, Registry, action, use
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import (
    Attach,
    Call,
    Cancel,
    Credit,
    Detach,
    Failed,
    Forward,
    Reply,
    Subscribe,
    Taken,
    ToGateway,
    ToHost,
    Want,
)
from rivet_ray.protocol.raw import RawArrived, RawData, RawEnd, RawOpen, RawRequest, RawTaken
from rivet_ray.runtime import Host
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle

GET = RawRequest("GET", b"/", b"", [], "http")
NOTHING = values.encode([])
ASKS: list[ToHost] = [
    Call(7, "a", "add", NOTHING),
    Attach(7, "a", "c", "token", Caller()),
    Forward(7, "a", "c", "token", Want("x", True)),
    RawOpen(7, "a", GET, Caller(), b"", False, None, []),
]
TELLS: list[ToHost] = [
    Cancel(7),
    Detach("c"),
    Subscribe("c", "x", True),
    Credit(1),
    Taken(7, True),
    RawData(7, b"x", True, True),
    RawTaken(7, 1),
    RawArrived(1),
    RawEnd(7, 1000, ""),
]


class Counter(Actor[dict[str, int]]):
    def create_state(self, input: None) -> dict[str, int]:
        return {"count": 0}

    @action
    def add(self) -> int:
        self.state["count"] += 1
        return self.state["count"]


class App(Registry):
    counter = use(Counter)


def breaks(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("a secret text")


@pytest.mark.parametrize("message", ASKS, ids=lambda message: type(message).__name__)
async def test_what_breaks_fails_alone(
    message: ToHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with setup_test(App) as test:
        answers: list[ToGateway] = []
        session = test.backend.host.open(answers.append)
        with monkeypatch.context() as broken:
            broken.setattr(Host, "running", breaks)
            broken.setattr(Host, "park", breaks)
            session.send(message)
        [failed] = answers
        assert isinstance(failed, Failed)
        assert failed.call == 7
        assert (failed.failure.code, failed.failure.outcome) == ("internal_error", "unknown")
        assert "secret" not in failed.failure.message
        assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("message", TELLS, ids=lambda message: type(message).__name__)
async def test_what_nobody_waits_for_is_nobody_told(message: ToHost) -> None:
    async with setup_test(App) as test:
        answers: list[ToGateway] = []
        session = test.backend.host.open(answers.append)
        for name in ("_connections", "_attaching", "_parked", "_running", "_outbox", "_handed"):
            setattr(session, name, None)  # Whatever is touched raises.
        for name in ("_exchanges", "_lane", "_arrivals"):
            setattr(session, name, None)
        session.send(message)
        assert not answers


@pytest.mark.parametrize("timeout", [math.nan, math.inf, -math.inf, 1e308, -1.0])
async def test_any_timeout(timeout: float) -> None:
    async with setup_test(App) as test:
        actor = await started(test, test.client.counter.get_or_create("k"))
        answers: list[ToGateway] = []
        session = test.backend.host.open(answers.append)
        session.send(Call(1, "f" * 16, "add", NOTHING, timeout=timeout))
        session.send(Call(2, actor, "add", NOTHING, timeout=timeout))
        session.send(Call(3, actor, "add", NOTHING))
        await settle()
        assert [answer for answer in answers if isinstance(answer, Reply) and answer.call == 3]
