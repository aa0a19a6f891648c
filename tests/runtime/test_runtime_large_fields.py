"""Large texts beside what changes: saved when they are replaced, and only then."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime_worlds import Probe, Tap, part, quiet, started

from rivet_ray import Actor, Registry, action, use
from rivet_ray.errors import InternalError
from rivet_ray.protocol import values
from rivet_ray.testing import setup_test

LONG = 100_000


@dataclass
class State:
    count: int = 0
    text: str = "a" * LONG
    thing: Any = None


@dataclass
class Lists:
    count: int = 0
    items: list[str] = field(default_factory=lambda: ["x" * 100] * 9_000)
    thing: Any = None


class Document(Actor[State]):
    @action
    def count(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    def write(self, letter: str) -> None:
        self.state.text = letter * LONG

    @action
    def spoil(self, letter: str) -> None:
        self.state.text = letter * LONG
        self.state.thing = object()


class Shared(Actor[Lists]):
    """With a large field that changes, and a call that waits meanwhile."""

    def on_start(self) -> None:
        self.go = asyncio.Event()

    @action
    async def wait(self) -> None:
        self.state.items.append("from the call that waits")
        await self.go.wait()

    @action
    def open(self) -> None:
        self.go.set()

    @action
    def count(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    def spoil(self) -> None:
        self.state.count += 1
        self.state.thing = object()


class App(Registry):
    document = use(Document)
    shared = use(Shared)


async def test_each_text_is_saved_once() -> None:
    probe = Probe()
    async with setup_test(App, store=probe) as test:
        handle = test.client.document.get_or_create("k")
        actor = await started(test, handle)
        for letter in "bcc":
            await handle.write(letter)
            await handle.count()
            assert part(test, actor, "state/text") == letter * LONG
        written = [
            commit.put["state/text"] for commit in probe.commits if "state/text" in commit.put
        ]
        assert [data[-1:] for data in written] == [b"a", b"b", b"c"]
        assert await handle.count() == 4


async def test_a_text_that_is_undone_is_what_it_was() -> None:
    async with setup_test(App) as test:
        handle = test.client.document.get_or_create("k")
        actor = await started(test, handle)
        await handle.write("b")
        with pytest.raises(InternalError):
            await handle.spoil("c")
        await handle.count()
        text = part(test, actor, "state/text")
        await test.crash()
        assert await test.client.document.get("k").count() == 2
        assert part(test, actor, "state/text") == text


async def test_a_call_that_waits_makes_others_no_dearer(monkeypatch: pytest.MonkeyPatch) -> None:
    """E9: each plain action paid for a snapshot of the whole state, here 0.9 MB."""
    encode, encoded = values.encode, 0

    def counted(value: Any) -> bytes:
        nonlocal encoded
        data = encode(value)
        encoded += len(data)
        return data

    async with setup_test(App) as test:
        actor, tap = await started(test, test.client.shared.get_or_create("k")), Tap(test)
        tap.call(actor, "count")
        await quiet(test)
        tap.call(actor, "wait")
        await quiet(test)
        monkeypatch.setattr(values, "encode", counted)
        calls = [tap.call(actor, "count") for _ in range(50)]
        await quiet(test)
        assert tap.output(calls[-1]) == 51
        assert encoded < 10 * 900_000, "once for each tick, and not for each call"


async def test_an_action_that_fails_leaves_large_fields_to_the_others() -> None:
    async with setup_test(App) as test:
        actor, tap = await started(test, test.client.shared.get_or_create("k")), Tap(test)
        tap.call(actor, "count")
        await quiet(test)
        waits = tap.call(actor, "wait")
        await asyncio.sleep(0)
        spoilt = tap.call(actor, "spoil")
        await quiet(test)
        assert tap.error(spoilt).code == "internal_error"
        tap.call(actor, "open")
        await quiet(test)
        assert tap.output(waits) is None
        assert part(test, actor, "state/items")[-1] == "from the call that waits"
        assert part(test, actor, "state/thing") is None
