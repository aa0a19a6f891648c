"""What type checkers know of actors, handles and connections.

Checked by mypy and pyright in `make check`; its functions are never run. What must
be refused is in `check_negative.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

import httpx
from fastapi import FastAPI
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket

from rivet_ray import (
    CORS,
    Action,
    Actor,
    Client,
    Conn,
    Event,
    Registry,
    Request,
    SyncClient,
    action,
    setup,
    use,
)
from rivet_ray.auth import JWT, APIKeys
from rivet_ray.client import (
    SyncConnection,
    SyncEventStream,
    SyncHandle,
    SyncResponse,
    SyncWebSocket,
)
from rivet_ray.definition import ActorAccessor, Connection, EventStream, Unsubscribe, Use
from rivet_ray.testing import Setup as TestSetup


@dataclass
class CounterState:
    count: int = 0


@dataclass
class Member:
    name: str = ""


@dataclass
class JoinParams:
    room: str


@dataclass
class Setup:
    start: int


@dataclass
class User:
    id: int


class Counter(Actor[CounterState]):
    new_count = Event[int]()
    moved = Event[str, int](name="playerMoved")
    over = Event[()]()

    @action
    def increment(self, amount: int = 1) -> int:
        assert_type(self.state, CounterState)
        self.state.count += amount
        self.broadcast(Counter.new_count, self.state.count)
        self.broadcast(Counter.moved, "ann", 1)
        self.broadcast(Counter.over)
        self.broadcast("anything", 1, "x", None)
        return self.state.count

    @action
    async def slowly(self, amount: int, note: str = "") -> str:
        assert_type(await self.increment(amount), int)
        assert_type(self.increment.local(amount), int)
        assert_type(await self.double.local(), float)
        await self.save()
        return note

    @action(name="wireName", timeout=timedelta(seconds=5))
    def named(self, first: str, /, *rest: int) -> list[str]:
        return [first]

    @action(timeout=2.5)
    async def double(self) -> float:
        return 2.0

    @action()
    def reset(self) -> None:
        self.state = CounterState()


class Full(Actor[CounterState, Member, JoinParams, Setup, User]):
    """Every type argument, every hook as a plain method."""

    public = True
    limit: int

    @classmethod
    def on_auth(cls, request: Request, params: JoinParams, intents: frozenset[str]) -> User:
        assert_type(request.headers, list[tuple[str, str]])
        return User(1)

    def create_state(self, input: Setup) -> CounterState:
        return CounterState(input.start)

    def on_create(self, input: Setup) -> None:
        assert_type(self.input, Setup)

    def on_start(self) -> None:
        self.limit = 5

    def on_before_connect(self, request: Request | None, params: JoinParams) -> None:
        assert_type(params.room, str)

    def create_conn_state(self, request: Request | None, params: JoinParams) -> Member:
        return Member(params.room)

    def on_connect(self, conn: Conn[Member, JoinParams, User]) -> None:
        assert_type(conn.state, Member)
        conn.send("welcome", conn.state.name)

    def on_disconnect(self, conn: Conn[Member, JoinParams, User]) -> None:
        assert_type(conn.id, str)

    def on_before_action_response(self, name: str, args: tuple[Any, ...], output: Any) -> Any:
        return output

    @action
    async def who(self) -> str:
        assert_type(self.conn, Conn[Member, JoinParams, User])
        assert_type(self.conn.state, Member)
        assert_type(self.conn.params, JoinParams)
        assert_type(self.conn.auth, User)
        assert_type(self.auth, User)
        assert_type(self.conn.request, Request | None)
        assert_type(self.conns, list[Conn[Member, JoinParams, User]])
        assert_type(self.input, Setup)
        assert_type((self.id, self.name, self.region), tuple[str, str, str])
        assert_type(self.key, tuple[str, ...])
        assert_type(self.limit, int)
        self.conn.state = Member("bob")
        self.conn.send(Counter.new_count, 5)
        await self.conn.disconnect("bye")
        return self.conn.state.name


class FullAsync(Actor[CounterState, Member, JoinParams, Setup, User]):
    """Every hook as an `async` method."""

    @classmethod
    async def on_auth(cls, request: Request, params: JoinParams, intents: frozenset[str]) -> User:
        return User(1)

    async def create_state(self, input: Setup) -> CounterState:
        return CounterState(input.start)

    async def on_create(self, input: Setup) -> None: ...

    async def on_start(self) -> None: ...

    async def on_before_connect(self, request: Request | None, params: JoinParams) -> None: ...

    async def create_conn_state(self, request: Request | None, params: JoinParams) -> Member:
        return Member(params.room)

    async def on_connect(self, conn: Conn[Member, JoinParams, User]) -> None: ...

    async def on_disconnect(self, conn: Conn[Member, JoinParams, User]) -> None: ...

    async def on_before_action_response(self, name: str, args: tuple[Any, ...], output: Any) -> Any:
        return output

    async def on_fetch(self, request: HttpRequest) -> Response:
        return StreamingResponse(request.stream())

    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()


class Application(Actor[None]):
    """A whole application answers."""

    async def on_fetch(self, request: HttpRequest) -> FastAPI:
        return FastAPI()


class Values(Actor[None]):
    """Values are answers too, from a plain method as well."""

    def on_fetch(self, request: HttpRequest) -> str | bytes | dict[str, int] | list[str]:
        return "text"


class Bare(Actor):
    """Without type arguments there is no state, and the rest is anything."""

    @action
    def look(self) -> None:
        assert_type(self.state, None)
        assert_type(self.conn, Conn[None, Any, Any])


class Child(Counter):
    @action
    async def more(self) -> int:
        return await self.increment(2)


class App(Registry):
    counter = use(Counter)
    full = use(Full, name="fullActor")
    child = use(Child)


# --- References -----------------------------------------------------------------------


def references() -> None:
    # What a reference is beyond its results, checkers print in their own ways.
    increment: Action[Counter, ..., int, int] = Counter.increment
    slowly: Action[Counter, ..., str, Coroutine[Any, Any, str]] = Counter.slowly
    named: Action[Counter, ..., list[str], list[str]] = Counter.named
    assert_type(increment.name, str)
    assert_type(slowly.timeout, float | None)
    assert_type(named.attribute, str)
    assert_type(Counter.new_count, Event[int])
    assert_type(Counter.moved, Event[str, int])
    assert_type(App.counter, Use[Counter])


# --- Handles --------------------------------------------------------------------------


async def handles() -> None:
    async with App.client("http://localhost:8080", encoding="json") as client:
        assert_type(client, App)
        assert_type(client.counter, ActorAccessor[Counter])
        handle = client.counter.get_or_create("k")
        assert_type(handle, Counter)
        assert_type(client.counter.get(["a", "b"], params=1), Counter)
        assert_type(client.counter.get_or_create(("a",), {"start": 1}, region="eu"), Counter)
        assert_type(await client.counter.create("k", input=Setup(1)), Counter)
        assert_type(client.counter.get_with_id("0123456789abcdef"), Counter)
        assert_type(client.full.get(), Full)

        assert_type(await handle.increment(5), int)
        assert_type(await handle.increment(), int)
        assert_type(await handle.increment(amount=5), int)
        assert_type(await handle.slowly(5, note="x"), str)
        assert_type(await handle.named("a", 1, 2), list[str])
        assert_type(await handle.double(), float)
        nothing: Coroutine[Any, Any, None] = handle.reset()
        await nothing
        assert_type(await handle.resolve(), str)
        assert_type(await handle.fetch("x", method="PUT", body=b"y"), httpx.Response)
        async with handle.websocket("x", protocols=["p"]) as socket:
            assert_type(await socket.recv(decode=True), str)
        assert_type(await client.child.get("k").increment(1), int)
        assert_type(await client.child.get("k").more(), int)
        assert_type(await client.full.get("k").who(), str)


# --- Connections ----------------------------------------------------------------------


def handle_count(count: int) -> None: ...


async def handle_count_later(count: int) -> None: ...


def handle_move(name: str, field: int) -> None: ...


def handle_over() -> None: ...


async def new_token() -> dict[str, str]:
    return {"token": "t"}


class TokenSource:
    async def __call__(self) -> JoinParams:
        return JoinParams("r")


async def parameters(client: App, blocking: SyncClient) -> None:
    client.counter.get("k", params=JoinParams("r"))
    client.counter.get("k", params=new_token)
    client.counter.get_or_create("k", params=TokenSource())
    client.counter.get_with_id("0123456789abcdef", params=lambda: {"token": "t"})
    await client.counter.create("k", params=["a", 1, None])
    client.counter.get("k").connect(params=new_token)
    Client().actor("counter", params=new_token).connect(params=lambda: None)
    blocking.get(Counter, "k", params=new_token).connect(params=lambda: "token")


def handle_anything(*values: Any) -> None: ...


async def connections(client: App) -> None:
    async with client.counter.get("k").connect(params={"a": 1}) as conn:
        assert_type(conn, Connection[Counter])
        assert_type(conn.actor, Counter)
        assert_type(await conn.actor.increment(5), int)
        assert_type(await conn.actor.slowly(5), str)
        assert_type((conn.actor_id, conn.connection_id), tuple[str, str])

        unsubscribe = conn.on(Counter.new_count, handle_count)
        assert_type(unsubscribe, Unsubscribe)
        unsubscribe()
        conn.on(Counter.new_count, handle_count_later)
        conn.on(Counter.new_count, print)
        conn.on(Counter.moved, handle_move)
        conn.on(Counter.over, handle_over)
        conn.on(Counter.moved, handle_anything)
        conn.on("any name", handle_anything)
        conn.on("disconnected", handle_over)
        assert_type(conn.once(Counter.moved, handle_move), Callable[[], None])
        conn.off(Counter.new_count, handle_count)
        conn.off(Counter.moved)
        conn.off()

        assert_type(conn.events(Counter.new_count), EventStream[int])
        async for count in conn.events(Counter.new_count):
            assert_type(count, int)
        async for move in conn.events(Counter.moved):
            assert_type(move, tuple[str, int])
            name, number = move
            assert_type(name, str)
            assert_type(number, int)
        async for anything in conn.events("any name"):
            assert_type(anything, Any)
        iterator: AsyncIterator[int] = conn.events(Counter.new_count).__aiter__()
        assert_type(await iterator.__anext__(), int)
        await conn.dispose()


# --- Without the registry ---------------------------------------------------------------


async def untyped() -> None:
    async with Client("http://localhost:8080") as client:
        handle = client.actor("counter", "k", input={"start": 1})
        assert_type(await handle.call(Counter.increment, 5), int)
        assert_type(await handle.call(Counter.increment, amount=5), int)
        assert_type(await handle.call(Counter.slowly, 5), str)
        assert_type(await handle.call(Counter.named, "a", 1), list[str])
        assert_type(await handle.call("increment", 5), Any)
        created = await client.create("counter", ["a"])
        assert_type(await created.resolve(), str)
        async with handle.connect() as conn:
            assert_type(await conn.actor.call(Counter.increment, 5), int)
            conn.on(Counter.new_count, handle_count)


# --- Blocking --------------------------------------------------------------------------


def blocking() -> None:
    with App.sync_client("http://localhost:8080", encoding="json") as client:
        assert_type(client, SyncClient)
        handle = client.get_or_create(Counter, "k", {"start": 1}, region="eu")
        assert_type(handle, SyncHandle[Counter])
        assert_type(client.get(Counter, ["a", "b"], params=1), SyncHandle[Counter])
        assert_type(client.create(Counter, "k", input=Setup(1)), SyncHandle[Counter])
        assert_type(client.get_with_id(Counter, "0123456789abcdef"), SyncHandle[Counter])
        assert_type(handle.call(Counter.increment, 5), int)
        assert_type(handle.call(Counter.increment, amount=5), int)
        assert_type(handle.call(Counter.slowly, 5, note="x"), str)
        assert_type(handle.call(Counter.named, "a", 1, 2), list[str])
        assert_type(handle.call("increment", 5), Any)
        assert_type(handle.resolve(), str)
        answer = handle.fetch("notes", method="PUT", body=[b"a", b"b"], stream=True)
        assert_type(answer, SyncResponse)
        assert_type((answer.status_code, answer.text), tuple[int, str])
        for piece in answer:
            assert_type(piece, bytes)
        with handle.websocket("live", protocols=["p"]) as socket:
            assert_type(socket, SyncWebSocket)
            socket.send("hello")
            assert_type(socket.receive(timeout=1), str | bytes)
        patient = handle.with_options(idempotency_key="x", timeout=5)
        assert_type(patient.call(Counter.increment, 5), int)
        child = client.get(Child, "k")
        assert_type(child.call(Child.more), int)
        assert_type(child.call(Child.increment, 1), int)
        assert_type(child.call(Counter.increment, 1), int)
        anything = client.get("counter", "k")
        assert_type(anything, SyncHandle[Any])
        assert_type(anything.call(Counter.increment, 5), int)
        with handle.connect(params={"a": 1}) as conn:
            assert_type(conn, SyncConnection[Counter])
            assert_type(conn.actor, SyncHandle[Counter])
            assert_type(conn.call(Counter.increment, 5), int)
            assert_type(conn.on(Counter.new_count, handle_count), Unsubscribe)
            conn.once(Counter.moved, handle_move)
            conn.on("disconnected", handle_over)
            conn.off(Counter.new_count, handle_count)
            assert_type(conn.events(Counter.new_count, timeout=5), SyncEventStream[int])
            for count in conn.events(Counter.new_count):
                assert_type(count, int)
            for name, number in conn.events(Counter.moved):
                assert_type((name, number), tuple[str, int])
            for found in conn.events("any name"):
                assert_type(found, Any)


async def by_mapping() -> None:
    registry = setup(use={"counter": Counter, "full": Full})
    assert_type(registry, type[Registry])
    async with registry.client() as client:
        assert_type(client, Registry)


def served() -> None:
    server = App.create_server(store="memory://")
    assert_type(server.client, App)
    assert_type(server.client.counter.get("k"), Counter)


async def auth(request: Request, test: TestSetup[App]) -> None:
    """What is known of callers keeps its type."""

    async def look_up(hashed: str) -> User | None:
        return None

    assert_type(await APIKeys({"sha256:0": User(1)}).authenticate(request), User)
    assert_type(await APIKeys(look_up).verify("rk_x"), User)
    assert_type(await JWT("secret", algorithms=["HS256"]).verify("a.b.c"), dict[str, Any])
    assert_type(test.client_as(User(1)), App)


async def is_ours(origin: str) -> bool:
    return True


class Shared(Registry, cors=CORS(is_ours, allow_headers=("Authorization",))):
    full = use(Full)


def shared() -> None:
    Shared.create_server(cors=CORS(lambda origin: origin))
    setup(use={"full": Full}, cors=CORS("*"))
