"""An actor that this code cannot load is named in the log, and nothing of it changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pydantic
import pytest
from runtime_worlds import quiet

from rivet_ray import Actor, InternalError, Registry, action, use
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import setup_test
from rivet_ray_drivers.memory import MemoryStore


@dataclass
class Point:
    x: int = 1


@dataclass
class Board:
    points: list[Point] = field(default_factory=lambda: [Point()])
    named: dict[str, Point] = field(default_factory=dict)


@dataclass
class TextPoint:
    x: str = ""


@dataclass
class TextBoard:
    points: list[TextPoint] = field(default_factory=list)


class ModelBoard(pydantic.BaseModel):
    points: str = ""


@dataclass
class FailingBoard:
    points: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.points:
            raise ZeroDivisionError("no luck")


def _app(kind: Any, input: Any = Any) -> Any:
    class Thing(Actor[kind, None, None, input, None]):
        @action
        def look(self) -> str:
            return repr(self.state)

        @action
        def look_later(self) -> None:
            self.schedule.after(1_000, "look")

    class App(Registry):
        thing = use(Thing)

    return App


@pytest.mark.parametrize(
    ("app", "told"),
    [
        (_app(TextBoard), "state.points[0].x: Expected `str`, got `int`"),
        (_app(ModelBoard), "state: points: Input should be a valid string"),
        (_app(FailingBoard), "state: ZeroDivisionError: no luck"),
        (_app(Board, list[int]), "input: Expected `array`, got `object`"),
    ],
    ids=["field in a field", "model", "code of the type", "input"],
)
async def test_it_is_named_with_type_key_and_path(
    app: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    async with setup_test(_app(Board), store=store) as test:
        for key in ("one", "two"):
            before = await test.client.thing.get_or_create(key, input={"a": 1}).look()
    saved = {actor: dict(stored.parts) for actor, stored in store._living.items()}
    async with setup_test(app, store=store) as test:
        for key in ("one", "two", "two"):
            with pytest.raises(InternalError):
                await test.client.thing.get(key).look()
    for key in ("one", "two"):  # Each once, though lines that repeat are counted only.
        lines = [
            record.getMessage()
            for record in caplog.records
            if record.getMessage().endswith("nothing of it is changed")
            and f"<thing '{key}' " in record.getMessage()
        ]
        assert len(lines) == 1
        assert f"cannot be loaded by this code: {told}" in lines[0]
    assert {actor: dict(stored.parts) for actor, stored in store._living.items()} == saved
    async with setup_test(_app(Board), store=store) as test:
        assert await test.client.thing.get("one").look() == before


@pytest.mark.parametrize("alone", [False, True])
async def test_its_alarm_is_looked_at_once_a_minute(
    alone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Before, it was claimed every five seconds, with a line in the log each time."""
    store = MemoryStore()
    async with setup_test(_app(Board), store=store) as test:
        await test.client.thing.get_or_create("k").look()
        await test.client.thing.get_or_create("k").look_later()
        actor = await test.client.thing.get("k").resolve()
    settings = HostSettings(alone=actor if alone else None)
    async with setup_test(_app(TextBoard), store=store, settings=settings) as test:
        before = await store.find_ownership(actor)
        for _ in range(60):
            await test.clock.advance(5)
            await quiet(test)
        after = await store.find_ownership(actor)
    assert before is not None
    assert after is not None
    assert 1 <= after.epoch - before.epoch <= 6
    assert not [line for line in caplog.messages if "could not be woken" in line]
    assert len([line for line in caplog.messages if "nothing of it is changed" in line]) == 1
    async with setup_test(_app(Board), store=store) as test:
        await test.clock.advance(10)
        await quiet(test)
        assert await store.next_alarm() is None, "code that can load it runs what was due"
