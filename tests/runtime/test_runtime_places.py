"""Every place that keeps a value, with every kind of value: it reads back as it is, or is refused.

Through sleep, crash and restart, on each driver. Row B9 of the faults that were seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Any, Optional

import pytest
from redis_server import RedisServer
from runtime_worlds import Tap, quiet, started
from value_kinds import BY_NAME, KINDS, Kind, same

from rivet_ray import Actor, Event, Registry, action, use
from rivet_ray.client.interface import payload_decoder
from rivet_ray.errors import InvalidArgument, RivetError, UserError
from rivet_ray.protocol.port import Deliver, Failed, Reply
from rivet_ray.repeated_lines import RepeatedLines
from rivet_ray.testing import Setup, setup_test
from rivet_ray_drivers.memory import MemoryStore

NUMBERS = {kind.name: number for number, kind in enumerate(KINDS)}
Held: Any = make_dataclass(
    "Held",
    [
        *((f"f{number}", Optional[kind.type], None) for number, kind in enumerate(KINDS)),  # noqa: UP045
        ("loose", dict[str, Any], field(default_factory=dict)),
    ],
)
Held.__module__ = __name__


def put(held: Any, name: str, typed: bool) -> None:
    if typed:
        setattr(held, f"f{NUMBERS[name]}", BY_NAME[name].make())
    else:
        held.loose[name] = BY_NAME[name].make()


def wrong(held: Any) -> list[str]:
    """What is not as it was put there, or is there although it was refused."""
    found: list[str] = []
    for kind in KINDS:
        value = getattr(held, f"f{NUMBERS[kind.name]}")
        if not (same(value, kind.make()) if kind.typed else value is None):
            found.append(f"{kind.name}: {value!r}")
        loose = held.loose.get(kind.name)
        if not (same(loose, kind.make()) if kind.untyped else kind.name not in held.loose):
            found.append(f"{kind.name}, untyped: {loose!r}")
    return found


class Base(Actor[Held, Held, None, Any, None]):
    anonymous_keys = True

    def create_state(self, input: Any) -> Any:
        return Held()

    @action
    def keep(self, name: str, typed: bool) -> None:
        put(self.state, name, typed)

    @action
    async def keep_later(self, name: str, typed: bool) -> None:
        put(self.state, name, typed)

    @action
    def keep_on_connection(self, name: str, typed: bool) -> None:
        put(self.conn.state, name, typed)

    @action
    async def keep_on_connection_later(self, name: str, typed: bool) -> None:
        put(self.conn.state, name, typed)

    @action
    async def keep_and_wait(self, name: str) -> None:
        put(self.conn.state, name, True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    @action
    def on_connection(self, name: str) -> Any:
        return getattr(self.conns[0].state, f"f{NUMBERS[name]}")

    @action
    def wrong(self) -> list[str]:
        return wrong(self.state)

    @action
    def wrong_on_connection(self) -> list[str]:
        return wrong(self.conns[0].state)

    @action
    def plan(self, name: str, typed: bool) -> None:
        value = BY_NAME[name].make()
        if typed:
            self.schedule.after(5000, f"take{NUMBERS[name]}", value)
        else:
            self.schedule.after(5000, Base.take, name, value)

    @action
    def take(self, name: str, value: Any) -> None:
        self.state.loose[name] = same(value, BY_NAME[name].make())

    @action
    def taken(self) -> dict[str, bool]:
        found: dict[str, bool] = self.state.loose
        return found

    @action
    def tell(self, name: str, typed: bool) -> None:
        event = f"told{NUMBERS[name]}" if typed else "told"
        self.broadcast(event, BY_NAME[name].make())

    @action
    def give(self, name: str) -> Any:
        self.state.loose["given"] = self.state.loose.get("given", 0) + 1
        return BY_NAME[name].make()

    @action
    def given(self) -> Any:
        return self.state.loose["given"]

    @action
    def nap(self) -> None:
        self.sleep()


def _taking(kind: Kind) -> Any:
    def take(self: Any, value: Any) -> None:
        self.state.loose[kind.name + ", typed"] = same(value, kind.make())

    take.__annotations__ = {"value": kind.type, "return": None}
    take.__name__ = f"take{NUMBERS[kind.name]}"
    return action(take)


Keeper: Any = type(
    "Keeper",
    (Base,),
    {
        **{f"take{NUMBERS[kind.name]}": _taking(kind) for kind in KINDS},
        **{f"told{NUMBERS[kind.name]}": Event[kind.type](durable=True) for kind in KINDS},
        "told": Event(durable=True),
    },
)


class Fed(Base, Actor[Held, Held, None, Held, None]):
    @action
    def holds_input(self, name: str, typed: bool) -> bool:
        held: Any = self.input
        value = getattr(held, f"f{NUMBERS[name]}") if typed else held.loose[name]
        return same(value, BY_NAME[name].make())


class App(Registry):
    keeper = use(Keeper)
    fed = use(Fed)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


JSON = {
    **{
        (name, typed): False
        for name in ("bytes", "dict of int keys", "dict of tuple keys", "list of mixed")
        for typed in (True, False)
    },
    ("datetime in UTC", False): False,
    ("datetime with an offset", True): True,
}
"""Inputs travel as JSON, which has no bytes, but texts of offsets."""


@pytest.fixture(autouse=True)
def each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write lines of the log that repeat, too."""
    monkeypatch.setattr(RepeatedLines, "filter", lambda self, record: True)


Lives = Callable[[], Any]


@pytest.fixture(params=["memory", "file", "redis"])
def lives(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisServer) -> Lives:
    """Begin another life of the server on the same store."""
    stores: dict[str, Any] = {
        "memory": MemoryStore(),
        "file": tmp_path.as_uri(),
        "redis": redis.url(tmp_path.name),
    }

    @asynccontextmanager
    async def life() -> AsyncIterator[Setup[Any]]:
        async with setup_test(App, store=stores[request.param]) as setup:
            yield setup

    return life


async def everything(
    do: Callable[[str, bool], Awaitable[bool]], unless: Mapping[tuple[str, bool], bool] = {}
) -> None:
    """Do it with each kind, typed and not; it tells whether the value was taken."""
    unlike = [
        f"{kind.name}{'' if typed else ', untyped'}: {'refused' if expected else 'taken'}"
        for kind in KINDS
        for typed, expected in ((True, kind.typed), (False, kind.untyped))
        if await do(kind.name, typed) is not unless.get((kind.name, typed), expected)
    ]
    assert unlike == []


def place(name: str, typed: bool) -> str:
    return f"f{NUMBERS[name]}" if typed else f"loose[{name!r}]"


LATER = pytest.mark.slow


@pytest.mark.parametrize("method", ["keep", pytest.param("keep_later", marks=LATER)])
async def test_state(lives: Lives, method: str, caplog: pytest.LogCaptureFixture) -> None:
    async with lives() as test:
        keeper = test.client.keeper.get_or_create("k")

        async def keep(name: str, typed: bool) -> bool:
            caplog.clear()
            try:
                await keeper.call(method, name, typed)
            except RivetError:
                assert f"state.{place(name, typed)}" in caplog.text
                return False
            return True

        await everything(keep)
        assert await keeper.wrong() == []
        await keeper.nap()
        await test.clock.advance(1)
        assert await keeper.wrong() == []
        await test.crash()
        assert await test.client.keeper.get_or_create("k").wrong() == []
    async with lives() as test:
        assert await test.client.keeper.get_or_create("k").wrong() == []


@pytest.mark.parametrize(
    "method", ["keep_on_connection", pytest.param("keep_on_connection_later", marks=LATER)]
)
async def test_the_state_of_a_connection(
    lives: Lives, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with lives() as test:
        keeper = test.client.keeper.get_or_create("k")
        actor = await started(test, keeper)
        tap = Tap(test)
        await tap.attach(actor, "c1")

        async def keep(name: str, typed: bool) -> bool:
            caplog.clear()
            call = tap.call(actor, method, name, typed, connection="c1")
            await quiet(test)
            if isinstance(tap.answer(call), Failed):
                assert f"conn.state.{place(name, typed)}" in caplog.text
                return False
            return True

        await everything(keep)
        assert await keeper.wrong_on_connection() == []
        tap.close()
        await keeper.nap()
        await test.clock.advance(1)
        assert await keeper.wrong_on_connection() == []
        await test.crash()
        assert await test.client.keeper.get_or_create("k").wrong_on_connection() == []
    async with lives() as test:
        assert await test.client.keeper.get_or_create("k").wrong_on_connection() == []


async def test_input(lives: Lives) -> None:
    taken: list[tuple[str, bool]] = []
    told: list[tuple[str, str]] = []
    async with lives() as test:

        async def create(name: str, typed: bool) -> bool:
            held = Held()
            put(held, name, typed)
            try:
                fed = test.client.fed.get_or_create([name, str(typed)], input=held)
                await fed.nap()
            except InvalidArgument as error:
                told.append((f".{place(name, typed)}", str(error)))
                return False
            taken.append((name, typed))
            return True

        await everything(create, JSON)
        assert [text for where, text in told if where not in text] == []
        await test.clock.advance(1)
        await test.crash()
    async with lives() as test:
        for name, typed in taken:
            assert await test.client.fed.get([name, str(typed)]).holds_input(name, typed), name


async def test_arguments_of_a_schedule(lives: Lives, caplog: pytest.LogCaptureFixture) -> None:
    async with lives() as test:
        keeper = test.client.keeper.get_or_create("k")

        async def plan(name: str, typed: bool) -> bool:
            try:
                await keeper.plan(name, typed)
            except UserError as error:
                return not str(error).startswith("value: ")
            return True

        await everything(plan)
        await keeper.nap()
        await test.clock.advance(1)
        await test.crash()
        wanted = {kind.name for kind in KINDS if kind.untyped}
        wanted |= {f"{kind.name}, typed" for kind in KINDS if kind.typed}
        taken: dict[str, bool] = {}
        for _ in range(100):  # The store answers in its own time.
            await test.clock.advance(1)
            await quiet(test)
            taken = await test.client.keeper.get_or_create("k").taken()
            if len(taken) == len(wanted):
                break
    assert taken == dict.fromkeys(wanted, True)


async def test_events(lives: Lives, caplog: pytest.LogCaptureFixture) -> None:
    names = ["told", *(f"told{number}" for number in NUMBERS.values())]
    async with lives() as test:
        keeper = test.client.keeper.get_or_create("k")
        actor = await started(test, keeper)
        tap = Tap(test)
        await tap.attach(actor, "c1", *names)

        async def tell(name: str, typed: bool) -> bool:
            caplog.clear()
            try:
                await keeper.tell(name, typed)
            except RivetError:
                event = f"told{NUMBERS[name]}" if typed else "told"
                assert f"event {event!r} cannot be sent: [0]" in caplog.text
                return False
            return True

        await everything(tell)
        wanted = [
            (name, kind)
            for kind in KINDS
            for name, taken in ((f"told{NUMBERS[kind.name]}", kind.typed), ("told", kind.untyped))
            if taken
        ]
        await test.crash()
        await started(test, test.client.keeper.get("k"))
        again = Tap(test)
        await again.resume(actor, "c1", *names)
        await quiet(test)
    for seen in (tap, again):
        given = [message for message in seen.messages if isinstance(message, Deliver)]
        assert [message.event for message in given] == [name for name, _ in wanted]
        for message, (name, kind) in zip(given, wanted, strict=True):
            event = getattr(Keeper, name) if name != "told" else "told"
            (value,) = payload_decoder(event)(message.arguments)
            assert same(value, kind.make()), name


async def test_an_answer_that_is_kept_is_the_same_answer(lives: Lives) -> None:
    answers: dict[str, list[Any]] = {}

    async def ask_all(test: Setup[Any]) -> None:
        tap = Tap(test)
        actor = await test.client.keeper.get_or_create("k").resolve()
        for kind in KINDS:
            call = tap.call(actor, "give", kind.name, key=kind.name)
            await quiet(test)
            answer = tap.answer(call)
            assert isinstance(answer, (Reply, Failed))
            told = answer.output if isinstance(answer, Reply) else answer.failure
            answers.setdefault(kind.name, []).append(told)

    async with lives() as test:
        await ask_all(test)
        await ask_all(test)
        await test.crash()
        await ask_all(test)
    async with lives() as test:
        await ask_all(test)
        assert await test.client.keeper.get_or_create("k").given() == len(KINDS)
    assert all(found.count(found[0]) == 4 for found in answers.values())


async def test_a_bad_value_on_a_connection_fails_nobody_else() -> None:
    async with setup_test(App) as test:
        actor = await started(test, test.client.keeper.get_or_create("k"))
        tap = Tap(test)
        await tap.attach(actor, "c1")
        good = tap.call(actor, "keep_on_connection", "int", True, connection="c1")
        waits = tap.call(actor, "keep_and_wait", "Counter", connection="c1")
        await quiet(test)
        fine = tap.call(actor, "keep_on_connection", "float", True, connection="c1")
        await quiet(test)
        assert [tap.output(good), tap.output(fine)] == [None, None]
        assert tap.error(waits).code == "internal_error"
        assert await test.client.keeper.get("k").on_connection("int") == 3
        assert await test.client.keeper.get("k").on_connection("Counter") is None
