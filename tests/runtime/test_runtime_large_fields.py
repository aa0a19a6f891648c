"""Large texts beside what changes: saved when they are replaced, and only then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from runtime_worlds import Probe, part, started

from rivet_ray import Actor, Registry, action, use
from rivet_ray.errors import InternalError
from rivet_ray.testing import setup_test

LONG = 100_000


@dataclass
class State:
    count: int = 0
    text: str = "a" * LONG
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


class App(Registry):
    document = use(Document)


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
