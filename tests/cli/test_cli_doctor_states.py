"""`rivet-ray doctor --registry` reads states, connections and schedules, and changes nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from rivet_ray import Actor, InternalError, Registry, action, use
from rivet_ray.cli import actor_checks
from rivet_ray.cli import doctor as doctor_module
from rivet_ray.cli.actor_checks import AT_ONCE, JUDGED, MOST_NAMED
from rivet_ray.cli.doctor import ActorsOf, examined
from rivet_ray.protocol import values
from rivet_ray.runtime.connection import Record
from rivet_ray.store import Claim, Commit, CommitResult, NewActor, Snapshot, Store
from rivet_ray.testing import ManualClock, setup_test
from rivet_ray_drivers.memory import MemoryStore


@dataclass
class Point:
    x: int = 1


@dataclass
class Board:
    points: list[Point] = field(default_factory=lambda: [Point()])


@dataclass
class TextPoint:
    x: str = ""


@dataclass
class TextBoard:
    points: list[TextPoint] = field(default_factory=list)


@dataclass
class FailingBoard:
    points: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.points:
            raise ZeroDivisionError("no luck")


@dataclass
class Told:
    text: str = ""


class Base(Actor[Board, None, None, Any, None]):
    @action
    def later(self, delay: int, name: str, argument: Any = None) -> None:
        self.schedule.after(delay, name, *(() if argument is None else (argument,)))

    @action
    def gone(self) -> None: ...

    @action
    def takes(self, size: int) -> None: ...


def _app(thing: Any) -> Any:
    return type("App", (Registry,), {"thing": use(thing)})


OLD = _app(Base)


def _typed(kind: Any, input: Any = Any, conn: Any = None) -> Any:
    class Thing(Actor[kind, conn, None, input, None]):
        @action
        def look(self) -> str:
            return repr(self.state)

        @action
        def takes(self, size: int) -> None: ...

    return _app(Thing)


def _migrating(migrate: Any, kind: Any = TextBoard) -> Any:
    class Thing(Actor[kind, None, None, Any, None]):
        state_version = 2

        @classmethod
        def migrate(cls, raw: dict[str, Any], version: int) -> dict[str, Any]:
            found: dict[str, Any] = migrate(raw, version)
            return found

        @action
        def look(self) -> str:
            return repr(self.state)

    return _app(Thing)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    store = MemoryStore()

    async def opened(*_: Any) -> Store:
        return store

    monkeypatch.setattr(doctor_module, "open_in_time", opened)
    return store


async def save(store: Store, *keys: str) -> None:
    async with setup_test(OLD, store=store) as test:
        for key in keys:
            await test.client.thing.get_or_create(key, {"a": 1}).gone()


async def put(store: Store, key: str, part: str, value: bytes) -> None:
    record = await store.find("default", "thing", (key,))
    assert record is not None
    claim = await store.claim(record.id, "t")
    assert isinstance(claim, Claim)
    commit = Commit(
        record.id, claim.fence, claim.sequence + 1, {part: value}, alarm=None, type=record.type
    )
    assert await store.commit([commit]) == [CommitResult.COMMITTED]


async def checked(app: Any, clock: Any = None, **options: Any) -> Any:
    """What programs are told."""
    actors = ActorsOf(app.definitions(), **options)
    report = await examined("memory://", clock or ManualClock(), actors)
    report.for_people()
    return json.loads(report.for_programs())


def misfits(told: Any) -> list[tuple[str, str]]:
    return [(misfit["part"], misfit["why"]) for misfit in told["actors"]["misfits"]]


# --- As a start would ----------------------------------------------------------------


def _raise(error: BaseException) -> Any:
    raise error


LOADS = [
    pytest.param(_typed(TextBoard), "state.points[0].x: Expected `str`, got `int`", id="field"),
    pytest.param(_typed(FailingBoard), "state: ZeroDivisionError: no luck", id="code of the type"),
    pytest.param(_typed(Board, list[int]), "input: Expected `array`, got `object`", id="input"),
    pytest.param(
        _migrating(lambda *_: _raise(KeyError("old"))),
        "migrate from state_version 1 to 2 failed: KeyError: 'old'",
        id="migrate raises",
    ),
    pytest.param(
        _migrating(lambda *_: _raise(SystemExit(3))),
        "migrate from state_version 1 to 2 failed: UserCodeFailed: ",
        id="migrate exits",
    ),
    pytest.param(
        _migrating(lambda raw, _: raw),
        "what migrate made of state_version 1 does not fit the state: ",
        id="migrate leaves it",
    ),
    pytest.param(
        _migrating(lambda *_: {"points": [{"x": object()}]}),
        "migrate from state_version 1 to 2 returned what cannot be saved in state.points: ",
        id="migrate makes what cannot be saved",
    ),
    pytest.param(_typed(Board), None, id="same"),
    pytest.param(_typed(Told), None, id="other fields"),
    pytest.param(
        _migrating(lambda raw, _: {"points": [{"x": str(p["x"])} for p in raw["points"]]}),
        None,
        id="migrate",
    ),
]


@pytest.mark.parametrize(("app", "why"), LOADS)
async def test_it_finds_what_a_start_finds(
    store: MemoryStore, caplog: pytest.LogCaptureFixture, app: Any, why: str | None
) -> None:
    """The same actors, with the same words; and nothing is claimed, saved or changed."""
    await save(store, "a", "b")
    ids = [record.id for record in await store.list_actors("default")]
    before = [await store.read(actor) for actor in ids]
    told = await checked(app)
    assert [await store.read(actor) for actor in ids] == before
    found = told["actors"]
    assert (found["looked_at"], found["complete"]) == (2, True)
    if why is None:
        assert found["misfits"] == []
        assert found["groups"]["cannot_be_loaded"] == 0
    else:
        assert found["groups"]["cannot_be_loaded"] == 2
        assert sorted(one["key"] for one in found["misfits"]) == [["a"], ["b"]]
        assert sorted(one["id"] for one in found["misfits"]) == sorted(ids)
        for part, text in misfits(told):
            assert part == "actor"
            assert text.startswith(why)
        subjects = {one["subject"] for one in told["findings"] if one["verdict"] == "problem"}
        assert subjects == {f"<thing '{one['key'][0]}' {one['id']}>" for one in found["misfits"]}
    async with setup_test(app, store=store) as test:
        looking = test.client.thing.get("a").look()
        if why is None:
            await looking
        else:
            with pytest.raises(InternalError):
                await looking
            (text,) = (one["why"] for one in found["misfits"] if one["key"] == ["a"])
            assert f"cannot be loaded by this code: {text}; nothing" in caplog.text


async def test_states_of_higher_versions_are_not_read(store: MemoryStore) -> None:
    async with setup_test(_migrating(lambda raw, _: raw, Board), store=store) as test:
        await test.client.thing.get_or_create("a").look()
    told = await checked(OLD)
    assert misfits(told) == [("actor", "saved with state_version 2, and the code has 1")]


# --- Beside the state ----------------------------------------------------------------


async def test_schedules_that_name_removed_actions_are_named(store: MemoryStore) -> None:
    """And those whose arguments no longer fit. They do not keep an actor from starting."""
    async with setup_test(OLD, store=store) as test:
        thing = test.client.thing.get_or_create("a")
        await thing.later(3_600_000, "gone")
        await thing.later(3_600_000, "takes", 5)
    assert misfits(await checked(OLD)) == []
    told = await checked(_typed(Board))
    ((part, text),) = misfits(told)
    assert part == "schedule"
    assert text.startswith("schedule/")
    assert text.endswith(": scheduled gone cannot run: this code has no action 'gone'")
    assert told["actors"]["groups"]["cannot_be_loaded"] == 0
    (finding,) = (one for one in told["findings"] if one["subject"].startswith("<"))
    assert (finding["verdict"], told["ok"]) == ("warning", False)

    class Thing(Actor[Board, None, None, Any, None]):
        @action
        def gone(self) -> None: ...

        @action
        def takes(self, size: str) -> None: ...

    ((_, text),) = misfits(await checked(_app(Thing)))
    assert "scheduled takes cannot run: its arguments do not fit this code" in text


async def test_states_of_connections_are_read(store: MemoryStore) -> None:
    await save(store, "a")
    record = Record("token", None, None, values.encode({"text": 5}), [])
    await put(store, "a", "conn/c1", msgspec.msgpack.encode(record))
    assert misfits(await checked(_typed(Board, conn=Any))) == []
    told = await checked(_typed(Board, conn=Told))
    assert misfits(told) == [("connection", "conn/c1: conn.state.text: Expected `str`, got `int`")]
    assert told["actors"]["groups"]["cannot_be_loaded"] == 0


@pytest.mark.parametrize("part", ["schedule/x", "key/x", "events", "event/1", "event/x"])
async def test_parts_of_the_runtime_that_are_damaged_are_found(
    store: MemoryStore, part: str
) -> None:
    await save(store, "a")
    await put(store, "a", part, b"\xc1")
    ((kind, _),) = misfits(await checked(_typed(Board)))
    assert kind == "actor"


# --- Bounds --------------------------------------------------------------------------


class Counting(MemoryStore):
    """Counts what is read at once."""

    def __init__(self) -> None:
        super().__init__()
        self.reading: list[int] = []
        self.most = 0
        self.largest = 0

    async def read(self, actor_id: str) -> Snapshot | None:
        size = self._living[actor_id].size
        self.reading.append(size)
        self.most = max(self.most, len(self.reading))
        if len(self.reading) > 1:
            self.largest = max(self.largest, sum(self.reading))
        for _ in range(3):
            await asyncio.sleep(0)
        self.reading.remove(size)
        return await super().read(actor_id)


async def test_what_is_read_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In actors and in bytes; what is larger is read alone."""
    store = Counting()

    async def opened(*_: Any) -> Store:
        return store

    monkeypatch.setattr(doctor_module, "open_in_time", opened)
    monkeypatch.setattr(actor_checks, "BYTES_AT_ONCE", 1000)
    for number in range(60):
        size = 5000 if number % 10 == 0 else 30 * (number % 7)
        await store.create(NewActor("default", "thing", (str(number),), values.encode("x" * size)))
    told = await checked(OLD)
    assert told["actors"]["groups"]["new"] == 60
    assert store.most <= AT_ONCE
    assert 500 < store.largest <= 1000


async def test_misfits_are_named_up_to_a_bound(store: MemoryStore) -> None:
    count = MOST_NAMED + 3
    for number in range(count):
        await store.create(NewActor("default", "thing", (str(number),), b"\xa1x"))
    told = await checked(_typed(Board, list[int]))
    assert len(told["actors"]["misfits"]) == MOST_NAMED
    assert told["actors"]["more_misfits"] == 3
    assert told["actors"]["groups"]["cannot_be_loaded"] == count
    assert told["findings"][-1]["found"] == "3 more like these"


@pytest.mark.parametrize(("most", "complete"), [(1, False), (3, True), (4, True)])
async def test_so_many_actors_are_looked_at(store: MemoryStore, most: int, complete: bool) -> None:
    await save(store, "a", "b", "c")
    found = (await checked(OLD, most=most))["actors"]
    assert (found["looked_at"], found["complete"]) == (min(most, 3), complete)


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def test_code_that_does_not_end_is_given_up(
    store: MemoryStore, hanging: threading.Event
) -> None:
    """Once for each type, so that the command ends."""
    await save(store, "a", "b", "c")
    app = _migrating(lambda *_: hanging.wait() and {})
    clock = ManualClock()
    told = await clock.until(checked(app, clock))
    assert JUDGED <= clock.monotonic() < 2 * JUDGED
    why = f"state: the code that loads actors of this type did not end within {JUDGED:g} s"
    assert misfits(told) == [("actor", why)] * 3
