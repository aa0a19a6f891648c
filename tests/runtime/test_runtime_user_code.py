"""User code may raise anything, anywhere: it fails its own call and nobody else's."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pydantic
import pytest
from runtime_worlds import Tap, started
from starlette.websockets import WebSocket
from user_code_ends import Strange, raises, recurses
from websockets.exceptions import ConnectionClosed

from rivet_ray import Actor, Event, Outcome, Registry, action, use
from rivet_ray.errors import InternalError, RivetError, UserError
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle


def _parses_arguments() -> None:
    argparse.ArgumentParser().parse_args(["--nope"])


def _takes_a_cancelled_result() -> None:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gone.cancel()
    gone.result()


ENDS: dict[str, Callable[[], None]] = {
    "exit": lambda: sys.exit(3),
    "argparse": _parses_arguments,
    "cancelled": _takes_a_cancelled_result,
    "interrupt": raises(KeyboardInterrupt),
    "generator": raises(GeneratorExit),
    "strange": raises(Strange),
    "recursion": recurses,
}


@dataclass
class Picky:
    """A type of an argument, whose own code fails."""

    end: str = ""

    def __post_init__(self) -> None:
        if self.end == "zero":
            raise ZeroDivisionError
        if self.end:
            ENDS[self.end]()


class Model(pydantic.BaseModel):
    end: str = ""

    @pydantic.field_validator("end")
    @classmethod
    def judge(cls, end: str) -> str:
        if end.startswith("in "):
            ENDS[end.removeprefix("in ")]()
        return end

    @pydantic.field_serializer("end")
    def show(self, end: str) -> str:
        if end in ENDS:
            ENDS[end]()
        return end


@dataclass
class Count:
    count: int = 0
    thing: Any = None


class Reckless(Actor[Count, None, Any]):
    """Each hook and action ends as it is told."""

    where: ClassVar[str] = ""
    how: ClassVar[str] = ""
    reached: ClassVar[list[str]] = []
    told = Event[str]()

    def _at(self, place: str) -> None:
        Reckless.reached.append(place)
        if Reckless.where == place:
            ENDS[Reckless.how]()

    def on_create(self, input: Any) -> None:
        self._at("on_create")

    async def on_start(self) -> None:
        self._at("on_start")
        await asyncio.sleep(0)
        self._at("on_start later")

    async def on_stop(self) -> None:
        self._at("on_stop")

    def on_state_change(self, state: Count) -> None:
        self._at("on_state_change")

    async def on_before_action_response(self, name: str, args: Any, output: Any) -> Any:
        self._at("on_before_action_response")
        return output

    @action
    async def later(self, end: str) -> int:
        self.state.count += 1
        await asyncio.sleep(0)
        ENDS[end]()
        return 1

    @action
    async def in_a_task(self, end: str) -> None:
        async def work() -> None:
            await asyncio.sleep(0)
            ENDS[end]()

        await asyncio.create_task(work())

    @action
    def in_a_lost_task(self, end: str) -> None:
        async def work() -> None:
            ENDS[end]()

        self.task = asyncio.create_task(work())

    @action
    async def in_a_thread(self, end: str) -> None:
        await asyncio.to_thread(ENDS[end] if end != "cancelled" else raises(SystemExit))

    @action
    def plan(self, end: str) -> None:
        self.schedule.after(1_000, Reckless.later, end)

    @action
    def background(self, end: str) -> None:
        async def work() -> None:
            await asyncio.sleep(0)
            ENDS[end]()

        self.wait_until(work())

    @action
    def nap(self) -> None:
        self.sleep()

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count


class Plain(Actor[Count]):
    """No hooks: its plain actions run at once."""

    @action
    def now(self, end: str) -> int:
        self.state.count += 1
        ENDS[end]()
        return 1

    @action
    def take(self, value: Picky) -> str:
        return value.end

    @action
    def validate(self, value: Model) -> str:
        return value.end

    @action
    def give(self, end: str) -> Any:
        return Model.model_construct(end=end)

    @action
    def keep(self, end: str) -> None:
        self.state.thing = Model.model_construct(end=end)

    @action(readonly=True)
    def peek(self, end: str) -> int:
        self.state.thing = Model.model_construct(end=end)
        return 1

    @action
    def refuse(self, end: str) -> None:
        raise UserError("No.", metadata=Model.model_construct(end=end))

    @action
    def strange_error(self) -> None:
        error: Any = UserError("No.")
        error.outcome = "perhaps"
        raise error

    @action
    def strange_status(self) -> None:
        error: Any = UserError("No.")
        error.status = "many"
        raise error

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count


@dataclass
class Connected:
    ends: list[str] = field(default_factory=list[str])


class Host(Actor[None, Connected, Any]):
    """Hooks of connections."""

    where: ClassVar[str] = ""
    how: ClassVar[str] = ""

    def _at(self, place: str) -> None:
        if Host.where == place:
            ENDS[Host.how]()

    async def on_before_connect(self, request: Any, params: Any) -> None:
        self._at("on_before_connect")

    def create_conn_state(self, request: Any, params: Any) -> Connected:
        self._at("create_conn_state")
        return Connected()

    async def on_connect(self, conn: Any) -> None:
        await asyncio.sleep(0)
        self._at("on_connect")

    async def on_disconnect(self, conn: Any) -> None:
        self._at("on_disconnect")

    @action
    def number(self) -> int:
        return 1


class Raw(Actor[None]):
    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        ENDS[websocket.query_params["end"]]()

    @action
    def number(self) -> int:
        return 1


class App(Registry):
    raw = use(Raw)
    reckless = use(Reckless)
    plain = use(Plain)
    host = use(Host)


@pytest.fixture(autouse=True)
def calm() -> None:
    Reckless.where = Reckless.how = Host.where = Host.how = ""
    Reckless.reached = []


@pytest.fixture
async def test() -> Any:
    async with setup_test(App) as made:
        yield made


async def _fails(work: Any, outcome: Outcome) -> None:
    with pytest.raises(InternalError) as caught:
        await work
    assert caught.value.outcome is outcome


@pytest.mark.parametrize("end", ENDS)
async def test_an_action_fails_alone(test: Setup[App], end: str) -> None:
    """Plain or after an await: typed, the outcome told, and what it changed is kept."""
    plain = test.client.plain.get_or_create("k")
    reckless = test.client.reckless.get_or_create("k")
    waiting = asyncio.ensure_future(test.client.reckless.get_or_create("neighbour").add())
    await _fails(plain.now(end), Outcome.TOOK_EFFECT)
    await _fails(reckless.later(end), Outcome.TOOK_EFFECT)
    assert await waiting == 1
    assert await plain.add() == 2
    assert await reckless.add() == 2


@pytest.mark.parametrize("place", ["in_a_task", "in_a_thread"])
@pytest.mark.parametrize("end", ENDS)
async def test_a_task_or_thread_of_an_action_fails_alone(
    test: Setup[App], end: str, place: str
) -> None:
    reckless = test.client.reckless.get_or_create("k")
    await _fails(getattr(reckless, place)(end), Outcome.TOOK_EFFECT)
    assert await reckless.add() == 1


@pytest.mark.parametrize("end", ["exit", "argparse", "interrupt"])
async def test_a_task_that_nobody_awaits_fails_alone(
    test: Setup[App], end: str, caplog: pytest.LogCaptureFixture
) -> None:
    reckless = test.client.reckless.get_or_create("k")
    await reckless.in_a_lost_task(end)
    await settle()
    assert await reckless.add() == 1
    assert await test.client.plain.get_or_create("k").add() == 1


@pytest.mark.parametrize("end", ENDS)
async def test_an_idempotency_key_is_not_occupied(test: Setup[App], end: str) -> None:
    """C4: the failure is the call's answer, for who asks again too."""
    handles: dict[str, Any] = {"now": test.client.plain, "later": test.client.reckless}
    for name, handle in handles.items():
        keyed = handle.get_or_create("k").with_options(idempotency_key="once")
        await _fails(getattr(keyed, name)(end), Outcome.TOOK_EFFECT)
        await _fails(getattr(keyed, name)(end), Outcome.TOOK_EFFECT)
        assert await handle.get_or_create("k").add() == 2


@pytest.mark.parametrize("end", ENDS)
async def test_a_scheduled_action_fails_alone(
    test: Setup[App], end: str, caplog: pytest.LogCaptureFixture
) -> None:
    reckless = test.client.reckless.get_or_create("k")
    await reckless.plan(end)
    await test.clock.advance(1)
    assert await reckless.add() == 2
    assert "scheduled later failed" in caplog.text
    await test.clock.advance(1)  # it is tried again
    assert await reckless.add() == 4


@pytest.mark.parametrize("end", ENDS)
async def test_work_in_the_background_fails_alone(
    test: Setup[App], end: str, caplog: pytest.LogCaptureFixture
) -> None:
    reckless = test.client.reckless.get_or_create("k")
    await reckless.background(end)
    await settle()
    assert "wait_until failed" in caplog.text
    assert await reckless.add() == 1


@pytest.mark.parametrize("place", ["on_create", "on_start", "on_start later"])
@pytest.mark.parametrize("end", ENDS)
async def test_a_start_fails_alone(
    test: Setup[App], place: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All that waited are told, and it is logged; the next start is another one."""
    Reckless.where, Reckless.how = place, end
    reckless = test.client.reckless.get_or_create("k")
    calls = [asyncio.ensure_future(reckless.add()) for _ in range(3)]
    for call in calls:
        await _fails(call, Outcome.NOT_STARTED)
    assert [record for record in caplog.records if record.levelno == logging.ERROR]
    Reckless.where = ""
    assert await reckless.add() == 1


@pytest.mark.parametrize("place", ["on_stop", "on_state_change", "on_before_action_response"])
@pytest.mark.parametrize("end", ENDS)
async def test_a_hook_whose_error_is_ignored_fails_alone(
    test: Setup[App], place: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    Reckless.where, Reckless.how = place, end
    reckless = test.client.reckless.get_or_create("k")
    assert await reckless.add() == 1
    await reckless.nap()
    await test.clock.advance(1)
    assert place in Reckless.reached
    assert f"{place} failed" in caplog.text
    assert await reckless.add() == 2


@pytest.mark.parametrize("place", ["on_before_connect", "create_conn_state", "on_connect"])
@pytest.mark.parametrize("end", ENDS)
async def test_a_hook_of_a_connection_fails_alone(test: Setup[App], place: str, end: str) -> None:
    """For a connection, and for a call on its own."""
    host = test.client.host.get_or_create("k")
    assert await host.number() == 1
    Host.where, Host.how = place, end
    await _fails(host.number(), Outcome.NOT_STARTED)
    with pytest.raises(InternalError):
        await host.connect().__aenter__()
    Host.where = ""
    async with host.connect() as connection:
        assert await connection.actor.number() == 1


@pytest.mark.parametrize("end", ENDS)
async def test_on_disconnect_fails_alone(
    test: Setup[App], end: str, caplog: pytest.LogCaptureFixture
) -> None:
    host = test.client.host.get_or_create("k")
    async with host.connect():
        Host.where, Host.how = "on_disconnect", end
    await settle()
    assert "on_disconnect failed" in caplog.text
    Host.where = ""
    assert await host.number() == 1


@pytest.mark.parametrize("end", ENDS)
async def test_a_raw_socket_fails_alone(test: Setup[App], end: str) -> None:
    raw = test.client.raw.get_or_create("k")
    async with raw.websocket(f"live?end={end}") as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1011, "internal_error")
    assert await raw.number() == 1


# --- Code of types: arguments, results, state -----------------------------------


@pytest.mark.parametrize("end", ["zero", *ENDS])
async def test_an_argument_whose_type_fails_is_refused_alone(test: Setup[App], end: str) -> None:
    """The first call of a cold actor, others parked behind it: they run."""
    actor = await test.client.plain.get_or_create("k").resolve()
    tap = Tap(test)
    bad = tap.call(actor, "take", {"end": end})
    good = [tap.call(actor, "add") for _ in range(3)]
    await settle()
    assert [tap.output(call) for call in good] == [1, 2, 3]
    assert isinstance(tap.error(bad), InternalError)
    assert tap.error(bad).outcome is Outcome.NOT_STARTED
    again = tap.call(actor, "take", {"end": end})
    await settle()
    assert isinstance(tap.error(again), InternalError)


@pytest.mark.parametrize("end", ENDS)
async def test_a_validator_that_fails_is_refused_alone(test: Setup[App], end: str) -> None:
    actor = await test.client.plain.get_or_create("k").resolve()
    tap = Tap(test)
    bad, good = tap.call(actor, "validate", {"end": f"in {end}"}), tap.call(actor, "add")
    await settle()
    assert tap.output(good) == 1
    assert tap.error(bad).outcome is Outcome.NOT_STARTED


@pytest.mark.parametrize("end", ENDS)
async def test_a_result_that_cannot_be_encoded(test: Setup[App], end: str) -> None:
    plain = test.client.plain.get_or_create("k")
    await _fails(plain.give(end), Outcome.TOOK_EFFECT)
    assert await plain.add() == 1


@pytest.mark.parametrize("name", ["keep", "peek"])
@pytest.mark.parametrize("end", ENDS)
async def test_a_state_that_cannot_be_encoded(test: Setup[App], end: str, name: str) -> None:
    """It goes back to what it was, and the actor stays."""
    plain = test.client.plain.get_or_create("k")
    assert await plain.add() == 1
    await _fails(getattr(plain, name)(end), Outcome.TOOK_EFFECT)
    assert await plain.add() == 2
    assert test.backend.host.resident == 1


@pytest.mark.parametrize("end", ENDS)
async def test_an_error_that_cannot_be_told(test: Setup[App], end: str) -> None:
    plain = test.client.plain.get_or_create("k")
    with pytest.raises(UserError) as caught:
        await plain.refuse(end)
    assert caught.value.metadata is None
    assert await plain.add() == 1


async def test_an_error_with_strange_attributes(test: Setup[App]) -> None:
    plain = test.client.plain.get_or_create("k")
    for work in (plain.strange_error(), plain.strange_status()):
        with pytest.raises(RivetError) as caught:
            await work
        assert caught.value.outcome is Outcome.TOOK_EFFECT
        assert caught.value.status in (400, 500)
    assert await plain.add() == 1


async def test_what_one_parked_call_breaks_spares_the_others(test: Setup[App]) -> None:
    host = test.backend.host
    actor = await test.client.plain.get_or_create("k").resolve()
    seen: list[str] = []

    def breaks(_: object) -> None:
        seen.append("broken")
        raise RuntimeError("a fault of the runtime")

    host.park(actor, breaks, lambda error: seen.append(repr(error)), None)
    host.park(actor, lambda _: seen.append("ran"), lambda _: None, None)
    await started(test, test.client.plain.get_or_create("k"))
    assert seen[0] == "broken"
    assert seen[-1] == "ran"
