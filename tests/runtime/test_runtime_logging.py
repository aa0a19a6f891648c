"""`self.log`: one line each on standard error, with the actor and the connection named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from runtime_worlds import Tap, logfmt, started

from rivet_ray import Actor, Registry, action, use
from rivet_ray.runtime import logging as runtime_logging
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle


@dataclass
class State:
    count: int = 0


class Chatty(Actor[State]):
    def create_state(self, input: None) -> State:
        self.log.info("create_state")
        return State()

    def on_create(self, input: None) -> None:
        self.log.info("on_create")

    def on_start(self) -> None:
        self.log.info("on_start")

    def on_stop(self) -> None:
        self.log.info("on_stop")

    def on_state_change(self, state: State) -> None:
        self.log.info("on_state_change")

    def on_before_connect(self, request: Any, params: Any) -> None:
        self.log.info("on_before_connect")

    def create_conn_state(self, request: Any, params: Any) -> Any:
        self.log.info("create_conn_state")

    def on_connect(self, conn: Any) -> None:
        self.log.info("on_connect")

    def on_disconnect(self, conn: Any) -> None:
        self.log.info("on_disconnect")

    def on_before_action_response(self, name: str, args: Any, output: Any) -> Any:
        self.log.info("on_before_action_response")
        return output

    @action
    def increment(self, count: int) -> None:
        self.state.count = count
        self.log.info("increment", count=count)

    @action
    def later(self) -> None:
        self.schedule.after(1_000, Chatty.scheduled)

    @action(private=True)
    def scheduled(self) -> None:
        self.log.info("scheduled")


class Quiet(Actor[State]):
    @action
    def increment(self, count: int) -> None:
        self.log.info("increment", count=count)

    @action
    def levels(self) -> None:
        for level in ("debug", "info", "warn", "warning", "error", "critical"):
            getattr(self.log, level)(f"at {level}")

    @action
    def odd(self) -> None:
        self.log.info('say "hi"', path="a b", nothing=None, listed=[1, 2], flag=True, text="x\ny")

    @action
    def level_as_field(self) -> None:
        self.log.info("taken", level="mine", msg="mine", actor="mine")

    @action
    def failing(self) -> None:
        try:
            raise ValueError("oh")
        except ValueError:
            self.log.error("caught", exc_info=True)


class App(Registry):
    chatty = use(Chatty)
    quiet = use(Quiet)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The logger reads its settings once for a process."""
    for name in (runtime_logging.FORMAT, runtime_logging.LEVEL):
        monkeypatch.delenv(name, raising=False)
    runtime_logging._logger.cache_clear()
    yield
    runtime_logging._logger.cache_clear()


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


async def test_line_is_logfmt_and_names_the_actor(capsys: pytest.CaptureFixture[str]) -> None:
    async with setup_test(App) as test:
        handle = test.client.quiet.get_or_create(["a", "b"])
        await handle.increment(456)
        actor = await handle.resolve()
        [line] = lines(capsys)
        assert line.startswith("level=INFO msg=increment ")
        assert logfmt(line) == {
            "level": "INFO",
            "msg": "increment",
            "count": "456",
            "actor": "quiet",
            "key": "a/b",
            "id": actor,
        }


async def test_connection_is_bound_in_its_turns(capsys: pytest.CaptureFixture[str]) -> None:
    async with setup_test(App) as test:
        actor, tap = await started(test, test.client.quiet.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1")
        tap.call(actor, "increment", 1, connection="c1")
        tap.call(actor, "increment", 2)
        await settle()
        assert [logfmt(line).get("connection") for line in lines(capsys)] == ["c1", None]
        tap.detach("c1")


async def test_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIVET_LOG_FORMAT", "json")
    async with setup_test(App) as test:
        handle = test.client.quiet.get_or_create("k")
        await handle.increment(456)
        [line] = lines(capsys)
        assert json.loads(line) == {
            "level": "INFO",
            "msg": "increment",
            "count": 456,
            "actor": "quiet",
            "key": "k",
            "id": await handle.resolve(),
        }


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        (None, ["INFO", "WARN", "WARN", "ERROR", "CRITICAL"]),
        ("debug", ["DEBUG", "INFO", "WARN", "WARN", "ERROR", "CRITICAL"]),
        ("error", ["ERROR", "CRITICAL"]),
        ("nonsense", ["INFO", "WARN", "WARN", "ERROR", "CRITICAL"]),
    ],
)
async def test_levels(
    level: str | None,
    seen: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if level is not None:
        monkeypatch.setenv("RIVET_LOG_LEVEL", level)
    async with setup_test(App) as test:
        await test.client.quiet.get_or_create("k").levels()
        assert [logfmt(line)["level"] for line in lines(capsys)] == seen


async def test_in_every_hook(capsys: pytest.CaptureFixture[str]) -> None:
    async with setup_test(App) as test:
        handle = test.client.chatty.get_or_create("k")
        async with handle.connect() as conn:
            await conn.actor.increment(1)
        await handle.later()
        await test.clock.advance(1)
        await settle()
        await test.restart()
        seen = {fields["msg"] for fields in map(logfmt, lines(capsys))}
        assert seen == {
            "create_state",
            "on_create",
            "on_start",
            "on_stop",
            "on_state_change",
            "on_before_connect",
            "create_conn_state",
            "on_connect",
            "on_disconnect",
            "on_before_action_response",
            "increment",
            "scheduled",
        }


async def test_odd_values_stay_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async with setup_test(App) as test:
        await test.client.quiet.get_or_create("k").odd()
        [line] = lines(capsys)
        fields = logfmt(line)
        assert fields["path"] == "a b"
        assert fields["flag"] == "true"
        assert "nothing" not in fields or fields["nothing"] == ""


async def test_fields_cannot_break_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    async with setup_test(App) as test:
        await test.client.quiet.get_or_create("k").level_as_field()
        [line] = lines(capsys)
        assert logfmt(line)["level"] == "INFO"


async def test_exceptions_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    async with setup_test(App) as test:
        await test.client.quiet.get_or_create("k").failing()
        assert "ValueError: oh" in capsys.readouterr().err
