"""Old and new code take turns on the same actors, and nothing that either saved is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest
from runtime_worlds import Tap, parts, quiet, started

from rivet_ray import Actor, Registry, action, use
from rivet_ray.store import Store
from rivet_ray.testing import setup_test
from rivet_ray_drivers.memory import MemoryStore


@dataclass
class DataOne:
    count: int = 0


@dataclass
class DataTwo:
    count: int = 0
    colour: str = "none"


class StructOne(msgspec.Struct, forbid_unknown_fields=True):
    count: int = 0


class StructTwo(msgspec.Struct, forbid_unknown_fields=True):
    count: int = 0
    colour: str = "none"


class DictOne(TypedDict, total=False):
    count: int


class DictTwo(TypedDict, total=False):
    count: int
    colour: str


class ModelOne(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    count: int = 0


class ModelTwo(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    count: int = 0
    colour: str = "none"


def _registry(kind: Any) -> type[Registry]:
    def get(state: Any, name: str) -> Any:
        return state.get(name) if isinstance(state, dict) else getattr(state, name)

    def put(state: Any, name: str, value: Any) -> None:
        if isinstance(state, dict):
            state[name] = value
        else:
            setattr(state, name, value)

    class Thing(Actor[kind]):
        @action
        def add(self) -> int:
            put(self.state, "count", (get(self.state, "count") or 0) + 1)
            count: int = get(self.state, "count")
            return count

        @action
        def paint(self, colour: str) -> None:
            put(self.state, "colour", colour)

        @action(readonly=True)
        def look(self, name: str) -> Any:
            return get(self.state, name)

    class App(Registry):
        thing = use(Thing)

    return App


@asynccontextmanager
async def _running(kind: Any, store: Store) -> AsyncIterator[Any]:
    """The one actor of a release, whose host leaves in good order."""
    async with setup_test(_registry(kind), store=store) as test:
        client: Any = test.client
        yield client.thing.get_or_create("k")


RELEASES = {
    "dataclass": (DataOne, DataTwo),
    "struct": (StructOne, StructTwo),
    "typed dict": (DictOne, DictTwo),
    "model": (ModelOne, ModelTwo),
}


@pytest.mark.parametrize(("old", "new"), RELEASES.values(), ids=RELEASES)
@pytest.mark.parametrize("writes", [False, True], ids=["looks", "writes"])
async def test_a_field_that_older_code_does_not_know_is_kept(
    old: Any, new: Any, writes: bool
) -> None:
    """Row B7: one look with older code deleted what newer code had saved."""
    store = MemoryStore()
    async with _running(new, store) as thing:
        await thing.add()
        await thing.paint("red")
    for _ in range(2):  # Older code loads what it left behind, too.
        async with _running(old, store) as thing:
            assert await thing.look("count") >= 1
            if writes:
                await thing.add()
    async with _running(new, store) as thing:
        assert await thing.look("colour") == "red"
        assert await thing.look("count") == (3 if writes else 1)


async def test_a_renamed_field_is_still_there_for_the_code_that_knows_it() -> None:
    @dataclass
    class Renamed:
        total: int = 0

    store = MemoryStore()
    async with _running(DataTwo, store) as thing:
        await thing.add()
    async with _running(Renamed, store) as thing:
        assert await thing.look("total") == 0
    async with _running(DataTwo, store) as thing:
        assert await thing.look("count") == 1


# --- Fields inside fields -------------------------------------------------------------------


@dataclass
class PointOne:
    x: int = 0


@dataclass
class PointTwo:
    x: int = 0
    label: str = ""


@dataclass
class BoardOne:
    points: list[PointOne] = field(default_factory=list)
    named: dict[str, PointOne] = field(default_factory=dict)


@dataclass
class BoardTwo:
    points: list[PointTwo] = field(default_factory=list)
    named: dict[str, PointTwo] = field(default_factory=dict)


def _board(kind: Any, point: Any) -> type[Registry]:
    class Board(Actor[kind]):
        @action
        def draw(self, x: int, label: str) -> None:
            self.state.points.append(point(x, label))
            self.state.named[str(x)] = point(x, label)

        @action
        def move(self, index: int, x: int) -> None:
            self.state.points[index].x = x
            self.state.named[str(index)].x = x

        @action
        def append(self, x: int) -> None:
            self.state.points.append(point(x))

        @action
        def remove(self, index: int) -> None:
            del self.state.points[index]
            del self.state.named[str(index)]

        @action
        def labels(self) -> list[Any]:
            return [
                [[point.x, point.label] for point in self.state.points],
                {name: [point.x, point.label] for name, point in self.state.named.items()},
            ]

    class App(Registry):
        thing = use(Board)

    return App


@asynccontextmanager
async def _drawing(new: bool, store: Store) -> AsyncIterator[Any]:
    registry = _board(BoardTwo, PointTwo) if new else _board(BoardOne, PointOne)
    async with setup_test(registry, store=store) as test:
        client: Any = test.client
        yield client.thing.get_or_create("k")


async def test_fields_inside_a_field_survive_writers_of_older_code() -> None:
    store = MemoryStore()
    async with _drawing(True, store) as board:
        for x, label in enumerate("abc"):
            await board.draw(x, label)
    async with _drawing(False, store) as board:
        await board.move(1, 10)  # The index finds what has changed,
        await board.append(7)
    async with _drawing(False, store) as board:
        await board.remove(0)  # and what it was finds the rest.
    async with _drawing(True, store) as board:
        assert await board.labels() == [
            [[10, "b"], [2, "c"], [7, ""]],
            {"1": [10, "b"], "2": [2, "c"]},
        ]
        await board.move(1, 20)  # Who knows a field writes it.
        points, _ = await board.labels()
        assert points == [[10, "b"], [20, "c"], [7, ""]]


async def test_unknown_fields_are_handed_on_for_as_long_as_older_code_runs() -> None:
    store = MemoryStore()
    async with _drawing(True, store) as board:
        await board.draw(0, "a")
    async with _drawing(False, store) as board:
        for x in range(1, 4):
            await board.move(0, x)
    async with _drawing(True, store) as board:
        assert (await board.labels())[0] == [[3, "a"]]


# --- Connections ----------------------------------------------------------------------------


def _hall(kind: Any) -> type[Registry]:
    class Hall(Actor[None, kind]):
        @action
        def paint(self, name: str, value: Any) -> None:
            setattr(self.conn.state, name, value)

        @action
        def look(self, name: str) -> Any:
            return getattr(self.conns[0].state, name) if len(self.conns) > 1 else None

    class App(Registry):
        thing = use(Hall)

    return App


async def _paint(test: Any, tap: Tap, actor: str, name: str, value: Any) -> None:
    call = tap.call(actor, "paint", name, value, connection="c1")
    await quiet(test)
    tap.output(call)


@pytest.mark.parametrize(
    ("old", "new"),
    [RELEASES["dataclass"], RELEASES["struct"], RELEASES["model"]],
    ids=["dataclass", "struct", "model"],
)
async def test_what_newer_code_saved_in_a_connection_is_kept(old: Any, new: Any) -> None:
    store = MemoryStore()
    async with setup_test(_hall(new), store=store) as test:
        client: Any = test.client
        actor = await started(test, client.thing.get_or_create("k"))
        tap = Tap(test)
        await tap.attach(actor, "c1")
        for name, value in (("colour", "red"), ("count", 1)):
            await _paint(test, tap, actor, name, value)
        await test.crash()
    async with setup_test(_hall(old), store=store) as test:
        client = test.client
        await started(test, client.thing.get_or_create("k"))
        tap = Tap(test)
        await tap.resume(actor, "c1")
        assert tap.seen() == ["attached"]
        await _paint(test, tap, actor, "count", 2)
        await test.crash()
    async with setup_test(_hall(new), store=store) as test:
        client = test.client
        thing = client.thing.get_or_create("k")
        assert [await thing.look("colour"), await thing.look("count")] == ["red", 2]


async def test_a_connection_that_cannot_be_loaded_is_kept_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @dataclass
    class Retyped:
        count: str = ""

    store = MemoryStore()
    async with setup_test(_hall(DataOne), store=store) as test:
        client: Any = test.client
        actor = await started(test, client.thing.get_or_create("k"))
        tap = Tap(test)
        await tap.attach(actor, "c1")
        await _paint(test, tap, actor, "count", 7)
        await test.crash()
    async with setup_test(_hall(Retyped), store=store) as test:
        client = test.client
        assert await client.thing.get_or_create("k").look("count") is None
        assert "<thing 'k' " in caplog.text
        assert "connection c1 cannot be loaded" in caplog.text
        assert "conn.state.count" in caplog.text
        tap = Tap(test)
        await tap.resume(actor, "c1")
        assert tap.seen() == ["conn_not_found"]
        await test.crash()
    async with setup_test(_hall(DataOne), store=store) as test:
        client = test.client
        assert await client.thing.get_or_create("k").look("count") == 7
    async with setup_test(_hall(Retyped), store=store) as test:
        client = test.client
        await client.thing.get_or_create("k").look("count")
        await test.clock.advance(40)
        await quiet(test)
        assert parts(test, actor, "conn/") == []  # Its time is over.
