"""The hooks of connections: when they run, what they may refuse."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from gateway_wire import HIDDEN, Serve, eventually, get_or_create

from rivet_ray import Actor, Event, Unauthorized, UserError, action
from rivet_ray.runtime import HostSettings

A = get_or_create("actor", "a")
MAY_CONNECT = "may connect"
EVENTS: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def events() -> None:
    EVENTS.clear()


def event(name: str) -> asyncio.Event:
    return EVENTS.setdefault(name, asyncio.Event())


@dataclass
class Log:
    lines: list[str] = field(default_factory=list[str])


@dataclass
class Member:
    name: str = "nobody"
    seen: int = 0


class Recorder(Actor[Log, Member]):
    """Writes down what runs."""

    public = True

    joined = Event[str]()

    def on_before_connect(self, request: Any, params: Any) -> None:
        self.state.lines.append("on_before_connect")
        self.refuse("on_before_connect", params)

    async def create_conn_state(self, request: Any, params: Any) -> Member:
        await asyncio.sleep(0)
        self.state.lines.append("create_conn_state")
        self.refuse("create_conn_state", params)
        return Member(name=(params or {}).get("name", "nobody"))

    async def on_connect(self, conn: Any) -> None:
        if (conn.params or {}).get("slow"):
            event("on_connect runs").set()
            await event(MAY_CONNECT).wait()
        self.state.lines.append("on_connect")
        self.refuse("on_connect", conn.params)
        assert self.conn is conn
        conn.send("welcome", conn.state.name)
        self.broadcast(Recorder.joined, conn.state.name)

    def on_disconnect(self, conn: Any) -> None:
        self.state.lines.append(f"on_disconnect {conn.state.name} {conn.state.seen}")

    def refuse(self, hook: str, params: Any) -> None:
        match (params or {}).get(hook):
            case "user":
                raise UserError("Not like this.", code="not_like_this")
            case "unauthorized":
                raise Unauthorized
            case "boom":
                raise ValueError("the password is hunter2")

    @action
    def act(self) -> str:
        self.conn.state.seen += 1
        self.state.lines.append(f"act among {len(self.conns)}")
        return self.conn.state.name

    @action
    def fail(self) -> None:
        self.state.lines.append("fail")
        raise UserError("Failed.")

    @action
    def lines(self) -> list[str]:
        return list(self.state.lines)


ACTORS = {"actor": Recorder}
OPENING = ["on_before_connect", "create_conn_state", "on_connect"]


async def test_the_order_on_a_websocket(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A, {"name": "ann"}) as socket:
        assert await socket.next() == {"ev": {"n": "welcome", "a": ["ann"]}}
        assert await socket.ask(0, "act") == "ann"
        assert await socket.ask(1, "act") == "ann", "the connection's state is kept"
        assert await socket.ask(2, "lines") == [*OPENING, "act among 1", "act among 1"]


async def test_on_connect_ends_before_any_message_is_processed(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connecting(A, {"name": "ann", "slow": True}) as socket:
        await socket.call(0, "act")
        await socket.subscribe("joined")
        await event("on_connect runs").wait()
        for _ in range(3):  # uvicorn answers no ping while a message waits for the application
            await site.call(get_or_create("actor", "other"), "lines")
        await socket.silent()
        event(MAY_CONNECT).set()
        await socket.init()
        assert await socket.next() == {"ev": {"n": "welcome", "a": ["ann"]}}, "behind Init"
        assert await socket.answer(0) == "ann"
        assert await socket.ask(1, "lines") == [*OPENING, "act among 1"]


async def test_on_disconnect_runs_once(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A, {"name": "watcher"}) as watcher:
        await watcher.next()
        for number, politely in enumerate((True, False)):
            async with site.connect(A, {"name": f"ann{number}"}) as socket:
                await socket.next()
                assert await socket.ask(0, "act") == f"ann{number}"
                if not politely:
                    socket.abort()

            async def gone(last: str = f"on_disconnect ann{number} 1") -> bool:
                return last in await watcher.ask(0, "lines")

            await eventually(gone)
        lines = await watcher.ask(1, "lines")
        assert lines.count("on_disconnect ann0 1") == lines.count("on_disconnect ann1 1") == 1
        await watcher.call(2, "act")
        await watcher.next()
        assert (await watcher.ask(3, "lines"))[-1] == "act among 1"


@pytest.mark.parametrize("hook", ["on_before_connect", "create_conn_state", "on_connect"])
@pytest.mark.parametrize(
    ("how", "code", "status"),
    [
        ("user", "not_like_this", 400),
        ("unauthorized", "unauthorized", 401),
        ("boom", "internal_error", 500),
    ],
)
async def test_a_hook_that_refuses(
    serve: Serve, hook: str, how: str, code: str, status: int
) -> None:
    """1011 with the code, no Init; over HTTP the error, and the action does not run."""
    site = await serve(ACTORS)
    async with site.connecting(A, {"name": "ann", hook: how}) as socket:
        await socket.call(0, "act")
        number, reason, before = await socket.closed()
        assert (number, reason) == (1011, code)
        assert not any("i" in body or "ar" in body for body in before), before
    answer = await site.call(A, "act", params={hook: how})
    assert (answer.status, answer.code, answer.outcome) == (status, code, "not_started")
    if how == "boom":
        assert answer.body == {"c": "internal_error", "m": HIDDEN, "md": {}}

    async with site.connect(A, {"name": "watcher"}) as socket:
        await socket.next()
        lines = await socket.ask(0, "lines")
        assert "act" not in " ".join(lines)
        assert await socket.ask(1, "act") == "watcher"
        assert (await socket.ask(2, "lines"))[-1] == "act among 1", "nobody was left behind"
        if hook != "on_connect":
            assert not any(line.startswith("on_disconnect") for line in lines)


async def test_hooks_of_a_plain_action(serve: Serve) -> None:
    """A.7b: all four for each call, around the action; the connection is real."""
    site = await serve(ACTORS)
    assert (await site.call(A, "act", params={"name": "ann"})).output == "ann"
    answer = await site.call(A, "fail", params={"name": "bob"})
    assert (answer.code, answer.outcome) == ("user_error", "took_effect")
    assert (await site.call(A, "lines", params={"name": "cy"})).output == [
        *(*OPENING, "act among 1", "on_disconnect ann 1"),
        *(*OPENING, "fail", "on_disconnect bob 0"),
        *OPENING,
    ]


class OneHook(Actor[Log]):
    """Hooks run where they are overridden, and only those."""

    public = True

    async def on_disconnect(self, conn: Any) -> None:
        await asyncio.sleep(0)
        self.state.lines.append(f"on_disconnect {conn.id}")

    @action
    def me(self) -> tuple[str, int]:
        return self.conn.id, len(self.conns)

    @action
    def lines(self) -> list[str]:
        return list(self.state.lines)


class NoHook(Actor[Log]):
    public = True

    @action
    def me(self) -> tuple[str, int, bool]:
        return self.conn.id, len(self.conns), self.conn.request is not None

    @action
    def others(self) -> int:
        return len(self.conns)


async def test_only_hooks_that_are_overridden(serve: Serve) -> None:
    site = await serve({"actor": OneHook, "plain": NoHook})
    identity, among = (await site.call(A, "me")).output
    assert among == 1

    async def disconnected() -> bool:
        lines: list[str] = (await site.call(A, "lines")).output
        return lines[:1] == [f"on_disconnect {identity}"]

    await eventually(disconnected)
    plain = get_or_create("plain")
    first, second = (await site.call(plain, "me")).output, (await site.call(plain, "me")).output
    assert first[1:] == second[1:] == [1, True]
    assert first[0] != second[0]
    async with site.connect(plain) as socket:
        assert (await site.call(plain, "others")).output == 2
        assert await socket.ask(0, "others") == 1


class Doorman(Actor[Log]):
    public = True

    async def on_connect(self, conn: Any) -> None:
        self.state.lines.append("on_connect")
        await conn.disconnect("full")
        self.state.lines.append("it is closed")

    def on_disconnect(self, conn: Any) -> None:
        self.state.lines.append("on_disconnect")

    @action
    def lines(self) -> list[str]:
        return list(self.state.lines)


async def test_disconnect_in_on_connect(serve: Serve) -> None:
    """`disconnect` waits for the close, so the close must not wait for `on_connect`."""
    site = await serve({"actor": Doorman}, host_settings=HostSettings(hook_timeout=0.5))
    async with site.connecting(A) as socket:
        code, reason, before = await socket.closed()
        assert (code, reason) == (1000, "full")
        assert not any("ar" in body for body in before)


class Sleeper(Actor[Log]):
    public = True

    async def on_before_connect(self, request: Any, params: Any) -> None:
        await asyncio.Event().wait()

    @action
    def act(self) -> int:
        return 1


async def test_a_hook_that_never_ends(serve: Serve) -> None:
    """C9."""
    site = await serve({"actor": Sleeper}, host_settings=HostSettings(hook_timeout=0.05))
    async with site.connecting(A) as socket:
        code, reason, before = await socket.closed()
        assert (code, before) == (1011, [])
        assert reason
    answer = await site.call(A, "act")
    assert answer.status in (400, 500)
    assert answer.outcome == "not_started"
