"""Every hook: when it runs, in which order, plain and async, and what its faults do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime_worlds import Probe, Tap, part, started

from rivet_ray import Actor, Forbidden, InternalError, Outcome, Registry, UserError, action, use
from rivet_ray.errors import InvalidArgument, NoConnection
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle

CALLED: list[str] = []


@dataclass
class State:
    count: int = 0
    changes: int = 0
    log: list[str] = field(default_factory=list[str])


@dataclass
class ConnState:
    name: str = "default"


@dataclass
class Params:
    name: str


class Plain(Actor[State, ConnState, Params | None, int | None]):
    def create_state(self, input: int | None) -> State:
        CALLED.append(f"create_state {input}")
        return State(input or 0)

    def on_create(self, input: int | None) -> None:
        CALLED.append(f"on_create {input} {self.state.count} {self.input}")

    def on_start(self) -> None:
        CALLED.append("on_start")

    def on_stop(self) -> None:
        CALLED.append("on_stop")

    def on_state_change(self, state: State) -> None:
        CALLED.append(f"on_state_change {state.count}")

    def on_before_connect(self, request: Any, params: Params | None) -> None:
        CALLED.append(f"on_before_connect {params and params.name}")

    def create_conn_state(self, request: Any, params: Params | None) -> ConnState:
        CALLED.append("create_conn_state")
        return ConnState(params.name if params else "nobody")

    def on_connect(self, conn: Any) -> None:
        assert self.conn is conn
        CALLED.append(f"on_connect {conn.state.name}")

    def on_disconnect(self, conn: Any) -> None:
        assert self.conn is conn
        CALLED.append(f"on_disconnect {conn.state.name}")

    def on_before_action_response(self, name: str, args: tuple[Any, ...], output: Any) -> Any:
        CALLED.append(f"on_before_action_response {name} {args} {output}")
        return output * 10

    @action
    def add(self, amount: int) -> int:
        CALLED.append("add")
        self.state.count += amount
        return self.state.count


class Async(Plain):
    async def create_state(self, input: int | None) -> State:
        await asyncio.sleep(0)
        return super().create_state(input)

    async def on_create(self, input: int | None) -> None:
        await asyncio.sleep(0)
        super().on_create(input)

    async def on_start(self) -> None:
        await asyncio.sleep(0)
        super().on_start()

    async def on_stop(self) -> None:
        await asyncio.sleep(0)
        super().on_stop()

    async def on_before_connect(self, request: Any, params: Params | None) -> None:
        await asyncio.sleep(0)
        super().on_before_connect(request, params)

    async def create_conn_state(self, request: Any, params: Params | None) -> ConnState:
        await asyncio.sleep(0)
        return super().create_conn_state(request, params)

    async def on_connect(self, conn: Any) -> None:
        await asyncio.sleep(0)
        super().on_connect(conn)

    async def on_disconnect(self, conn: Any) -> None:
        await asyncio.sleep(0)
        super().on_disconnect(conn)

    async def on_before_action_response(self, name: str, args: tuple[Any, ...], output: Any) -> Any:
        await asyncio.sleep(0)
        return super().on_before_action_response(name, args, output)


class Watcher(Actor[State]):
    """Its hook changes the state and broadcasts."""

    def on_state_change(self, state: State) -> None:
        self.state.changes += 1
        self.broadcast("changed", state.count)

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    def get(self) -> int:
        return self.state.changes


class AsyncWatcher(Watcher):
    async def on_state_change(self, state: State) -> None:
        await asyncio.sleep(0)
        self.broadcast("changed", state.count)


class BrokenWatcher(Watcher):
    def on_state_change(self, state: State) -> None:
        raise ValueError("broken")


class Faulty(Actor[State, None, str | None]):
    def on_before_connect(self, request: Any, params: str | None) -> None:
        if params == "forbidden":
            raise Forbidden("Not you.")

    def on_connect(self, conn: Any) -> None:
        if conn.params == "on_connect":
            self.state.count += 1
            raise UserError("Not today.", "not_today")
        if conn.params == "hidden":
            raise ValueError("the password is hunter2")

    def on_before_action_response(self, name: str, args: tuple[Any, ...], output: Any) -> Any:
        raise ValueError("broken")

    @action
    def get(self) -> int:
        return self.state.count

    @action
    def clients(self) -> int:
        return len(self.conns)


class SlowHooks(Actor[State, None, str | None]):
    async def on_connect(self, conn: Any) -> None:
        if conn.params is not None:
            await asyncio.Event().wait()

    @action
    def get(self) -> int:
        return self.state.count


class Sync(Actor[State]):
    def on_start(self) -> None:
        with pytest.raises(NoConnection):
            _ = self.conn
        assert self.conns == []

    @action
    def ping(self) -> None:
        assert self.conn is not None


class App(Registry):
    plain = use(Plain)
    async_ = use(Async)
    watcher = use(Watcher)
    async_watcher = use(AsyncWatcher)
    broken_watcher = use(BrokenWatcher)
    faulty = use(Faulty)
    slow_hooks = use(SlowHooks)
    sync = use(Sync)


@pytest.fixture(autouse=True)
def _nothing_called() -> None:
    CALLED.clear()


# --- Order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "async_"])
async def test_every_hook_in_its_order(name: str) -> None:
    async with setup_test(App) as test:
        handle = getattr(test.client, name).get_or_create("k", 5)
        async with handle.connect(params=Params("ann")) as conn:
            assert await conn.actor.add(2) == 70
        await settle()
        await test.restart()
        assert [item for item in CALLED if not item.startswith("on_state")] == [
            "create_state 5",
            "on_create 5 5 5",
            "on_start",
            "on_before_connect ann",
            "create_conn_state",
            "on_connect ann",
            "add",
            "on_before_action_response add (2,) 7",
            "on_disconnect ann",
            "on_stop",
        ]
        CALLED.clear()
        await started(test, getattr(test.client, name).get_or_create("k", 99))
        assert CALLED == ["on_start"]


@pytest.mark.parametrize("name", ["plain", "async_"])
async def test_plain_call_has_the_hooks_of_a_connection(name: str) -> None:
    async with setup_test(App) as test:
        handle = getattr(test.client, name).get_or_create("k", params=Params("bob"))
        await started(test, handle)
        CALLED.clear()
        assert await handle.add(1) == 10
        await settle()
        assert [item for item in CALLED if not item.startswith("on_state")] == [
            "on_before_connect bob",
            "create_conn_state",
            "on_connect bob",
            "add",
            "on_before_action_response add (1,) 1",
            "on_disconnect bob",
        ]


async def test_conn_exists_in_turns_of_a_connection_only() -> None:
    async with setup_test(App) as test:
        await test.client.sync.get_or_create("k").ping()


# --- Creation ----------------------------------------------------------------------------------


async def test_input_that_does_not_fit_creates_nothing() -> None:
    async with setup_test(App) as test:
        for make in (
            test.client.plain.get_or_create("k", "five").add(1),
            test.client.plain.create("k", "five"),
        ):
            with pytest.raises((InvalidArgument, UserError)) as caught:
                await make
            assert caught.value.outcome is Outcome.NOT_STARTED
        assert await test.store.find("default", "plain", ["k"]) is None
        assert CALLED == []


# --- on_state_change -----------------------------------------------------------------------------


async def test_state_change_runs_once_for_many_changes_and_not_for_its_own() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.watcher.get_or_create("k")), Tap(test)
        for _ in range(10):
            tap.call(actor, "add")
        await settle()
        assert part(test, actor, "state/changes") == 1
        await test.client.watcher.get_or_create("k").get()
        assert part(test, actor, "state/changes") == 1
        await test.client.watcher.get_or_create("k").add()
        assert part(test, actor, "state/changes") == 2


@pytest.mark.parametrize("name", ["watcher", "async_watcher"])
async def test_what_it_broadcasts_waits_for_the_write(name: str) -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor = await started(test, getattr(test.client, name).get_or_create("k"))
        tap = Tap(test)
        await tap.attach(actor, "c1", "changed")
        tap.messages.clear()
        store.hold()
        tap.call(actor, "add")
        await settle()
        assert tap.seen() == []
        store.release()
        await settle()
        assert sorted(map(str, tap.seen())) == ["('changed', 1)", "1"]
        tap.detach("c1")


async def test_fault_in_it_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async with setup_test(App) as test:
        handle = test.client.broken_watcher.get_or_create("k")
        assert [await handle.add(), await handle.add()] == [1, 2]
        assert "on_state_change failed" in caplog.text
        assert part(test, await handle.resolve(), "state/count") == 2


# --- Faults on connections --------------------------------------------------


@pytest.mark.parametrize(
    ("params", "code"),
    [("forbidden", "forbidden"), ("on_connect", "not_today"), ("hidden", "internal_error")],
)
async def test_refused_connection_says_why(params: str, code: str) -> None:
    async with setup_test(App) as test:
        handle = test.client.faulty.get_or_create("k")
        with pytest.raises((Forbidden, UserError, InternalError)) as caught:
            async with handle.connect(params=params):
                pass
        assert caught.value.code == code
        assert "hunter2" not in str(caught.value)
        await settle()
        assert await handle.clients() == 1
        assert await handle.get() == (1 if params == "on_connect" else 0)


async def test_params_that_do_not_fit_are_refused() -> None:
    async with setup_test(App) as test:
        handle = test.client.plain.get_or_create("k")
        with pytest.raises(Exception, match="params") as caught:
            async with handle.connect(params={"nom": "ann"}):
                pass
        assert getattr(caught.value, "code", "") == "invalid_params"


async def test_fault_of_the_response_hook_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    async with setup_test(App) as test:
        assert await test.client.faulty.get_or_create("k").get() == 0
        assert "on_before_action_response failed" in caplog.text


async def test_hook_of_a_connection_has_a_deadline() -> None:
    async with setup_test(App, settings=HostSettings(stop_grace=0.01)) as test:
        actor, tap = await started(test, test.client.slow_hooks.get_or_create("k")), Tap(test)
        call = await tap.attach(actor, "c1", params="slow")
        await test.clock.advance(4.9)
        assert tap.answer(call) is None
        await test.clock.advance(0.2)
        assert tap.error(call) is not None


async def test_refusal_that_reveals_a_change_waits_for_its_write() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.faulty.get_or_create("k")), Tap(test)
        store.hold()
        call = await tap.attach(actor, "c1", params="on_connect")
        assert tap.answer(call) is None
        store.release()
        await settle()
        assert tap.error(call).code == "not_today"
