"""Random histories with crashes and a store that loses answers: what was told stays true.

Every reply, event and outcome that reached a caller is checked against what the
store has in the end (C2, C3, C4, C5, C8). The log of the actor only grows, so
whatever somebody read must be a prefix of it.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime_worlds import Probe, Tap, part, started

from rivet_ray import Actor, Event, Outcome, Registry, UserError, action, use
from rivet_ray.protocol import values
from rivet_ray.protocol.port import Deliver, Failed, Reply
from rivet_ray.runtime import HostSettings
from rivet_ray.runtime.gate import Gate
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle

KINDS = [
    *["append", "append_late", "append_late", "append_alone", "append_and_fail", "append_later"],
    *["spoil", "read", "peek", "peek", "peek_late", "keyed", "again"],
]


@dataclass
class State:
    log: list[str] = field(default_factory=list[str])
    free: Any = None


class Log(Actor[State]):
    appended = Event[list[str]]()

    def write(self, text: str) -> list[str]:
        self.state.log.append(text)
        self.broadcast(Log.appended, self.state.log)
        return self.state.log

    @action
    def append(self, text: str) -> list[str]:
        return self.write(text)

    @action
    async def append_late(self, text: str, before: int, after: int) -> list[str]:
        for _ in range(before):
            await asyncio.sleep(0)
        self.write(text)
        for _ in range(after):
            await asyncio.sleep(0)
        return self.state.log

    @action(exclusive=True)
    async def append_alone(self, text: str) -> list[str]:
        size = len(self.state.log)
        await asyncio.sleep(0)
        assert len(self.state.log) == size
        return self.write(text)

    @action
    def append_and_fail(self, text: str) -> None:
        self.write(text)
        raise UserError("after the change")

    @action
    def append_later(self, text: str) -> None:
        self.schedule.after(500, Log.append_once, text)

    @action
    def append_once(self, text: str) -> None:
        self.write(text)

    @action
    def spoil(self) -> None:
        self.state.free = object()

    @action
    def read(self) -> list[str]:
        return self.state.log

    @action(readonly=True)
    def peek(self) -> list[str]:
        return self.state.log

    @action(readonly=True)
    async def peek_late(self, rounds: int) -> list[str]:
        for _ in range(rounds):
            await asyncio.sleep(0)
        return self.state.log


class App(Registry):
    log = use(Log)


class History:
    """One run: what was asked, what was told, and whether it was true."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.asked: dict[tuple[int, int], tuple[str, str]] = {}
        self.taps: list[Tap] = []
        self.keys: list[tuple[str, str]] = []
        self.scheduled: set[str] = set()

    async def run(self) -> list[str]:
        store = Probe()
        settings = HostSettings(stop_grace=0.01)
        async with setup_test(App, store=store, settings=settings) as test:
            actor = await started(test, test.client.log.get_or_create("k"))
            try:
                for life in range(4):
                    tap = Tap(test)
                    self.taps.append(tap)
                    await tap.attach(actor, f"c{life}", "appended")
                    for step in range(self.random.randrange(5, 25)):
                        self.ask(tap, actor, f"{life}.{step}")
                        await self.disturb(store)
                    if life < 3:
                        await test.crash()
                    store.release()
                    store.failures.clear()
            finally:
                store.release()
            await test.clock.advance(2)
            await settle()
            log: list[str] = part(test, actor, "state/log")
        return log

    def ask(self, tap: Tap, actor: str, text: str) -> None:
        kind = self.random.choice(KINDS)
        args: list[Any] = [text]
        key = None
        if kind == "append_late":
            args += [self.random.randrange(6), self.random.randrange(6)]
        elif kind in ("spoil", "read", "peek"):
            args = []
        elif kind == "peek_late":
            args = [self.random.randrange(6)]
        elif kind == "keyed" or (kind == "again" and not self.keys):
            kind, key = "append", f"key of {text}"
            self.keys.append((key, text))
        elif kind == "again":
            kind, (key, text) = "append", self.random.choice(self.keys)
            args = [text]
        number = tap.call(actor, kind, *args, key=key)
        self.asked[len(self.taps), number] = (kind, text)

    async def disturb(self, store: Probe) -> None:
        what = self.random.randrange(8)
        if what == 0:
            store.hold()
        elif what == 1:
            store.release()
        elif what == 2:
            store.failures.append("twice")
        for _ in range(self.random.choice([0, 0, 1, 2, 5, 30])):
            await asyncio.sleep(0)

    def check(self, log: list[str]) -> int:
        """How much was told. Raises AssertionError where something of it is not true."""
        told = 0
        assert len(set(log)) == len(log), "an effect happened twice"
        for life, tap in enumerate(self.taps, start=1):
            for message in tap.messages:
                if isinstance(message, Deliver):
                    told += 1
                    [seen] = values.decode(message.arguments)
                    assert log[: len(seen)] == seen, "an event showed what was never saved"
                elif isinstance(message, (Reply, Failed)):
                    told += self.check_answer(log, *self.asked[life, message.call], message)
        return told

    def check_answer(self, log: list[str], kind: str, text: str, message: Reply | Failed) -> int:
        if isinstance(message, Reply):
            seen = None if message.output is None else values.decode(message.output)
            if seen is not None:
                assert log[: len(seen)] == seen, f"{kind} showed what was never saved"
            if kind.startswith("append"):
                assert text in log, f"acknowledged {kind} {text} is lost"
        elif kind.startswith("append"):
            outcome = message.failure.outcome
            if outcome == Outcome.TOOK_EFFECT.value:
                assert text in log, f"{kind} {text} took no effect"
            elif outcome == Outcome.NOT_STARTED.value:
                assert text not in log, f"{kind} {text} was started"
        return 1


@pytest.mark.parametrize("seed", range(60))
async def test_everything_that_was_told_is_true(seed: int) -> None:
    history = History(seed)
    assert history.check(await history.run()) > 5


async def test_checker_goes_red_without_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gate, "hold", lambda self, release, size=0: release(None))
    red = 0
    for seed in range(10):
        history = History(seed)
        log = await history.run()
        try:
            history.check(log)
        except AssertionError:
            red += 1
    assert red >= 3
