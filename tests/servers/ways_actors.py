"""The actors of the suite that runs over every way to them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocket

from rivet_ray import Actor, Event, Forbidden, Registry, Unauthorized, UserError, action, use


@dataclass
class Point:
    x: int
    y: float = 0.5
    label: str | None = None


class Echo(Actor[None]):
    """Values in and out, and errors."""

    public = True

    @action
    def echo(self, value: Any) -> Any:
        return value

    @action
    def add(self, first: int, second: int = 1) -> int:
        return first + second

    @action
    def several(self, *values: Any) -> list[Any]:
        return list(values)

    @action(name="movedTo")
    def moved(self, point: Point, by: float = 1.0) -> Point:
        return Point(point.x, point.y + by, point.label)

    @action
    async def nothing(self) -> None:
        return None

    @action
    def fail(self, metadata: Any) -> None:
        raise UserError("As you wish.", code="wished", metadata=metadata)

    @action
    def boom(self) -> None:
        raise ValueError("the password is hunter2")

    @action(private=True)
    def for_itself(self) -> int:
        return 1

    def helper(self) -> int:
        return 1


@dataclass
class Count:
    count: int = 0


class Counter(Actor[Count, None, None, int | None]):
    """State, keys, and what was given at creation."""

    public = True
    anonymous_keys = True

    def create_state(self, input: int | None) -> Count:
        return Count(input or 0)

    @action
    def increment(self, by: int = 1) -> int:
        self.state.count += by
        return self.state.count

    @action(readonly=True)
    def read(self) -> int:
        return self.state.count

    @action(readonly=True)
    def where(self) -> tuple[str, list[str]]:
        return self.id, list(self.key)

    @action
    def add_then_fail(self, by: int) -> None:
        self.state.count += by
        raise UserError("Too much.", code="too_much")

    @action
    async def increment_other(self, key: str) -> int:
        return await self.client(App).counter.get_or_create(key).increment()


class Porter(Actor[None, None, str | None]):
    """Greets who comes in, and lets others greet them before they are in."""

    public = True
    greeted = Event[str, str]()
    deepened = Event[str, Any]()

    def on_start(self) -> None:
        self._go: asyncio.Event | None = None

    async def on_connect(self, conn: Any) -> None:
        if conn.params is None:
            return  # a plain call
        self.broadcast(Porter.greeted, "all", "somebody comes")
        conn.send(Porter.greeted, conn.params, "first")
        if conn.params == "slow":
            self._go = asyncio.Event()
            await self._go.wait()
        conn.send(Porter.greeted, conn.params, "second")

    @action
    def greet_deep(self, levels: int, alone: bool) -> None:
        deep: Any = "deep"
        for _ in range(levels):
            deep = [deep]
        if alone:
            for conn in self.conns:
                conn.send("deepened", "all", deep)
        self.broadcast("deepened", "all", deep)

    @action
    def deep(self, levels: int) -> Any:
        deep: Any = "deep"
        for _ in range(levels):
            deep = [deep]
        return deep

    @action
    def waits(self) -> bool:
        return self._go is not None

    @action
    def greet_all(self) -> None:
        """While one of them is not in yet."""
        for conn in self.conns:
            if conn.params is not None:
                conn.send(Porter.greeted, conn.params, "meanwhile")

    @action
    def let_in(self) -> None:
        assert self._go is not None
        self._go.set()


@dataclass
class Gone:
    names: list[str] = field(default_factory=list[str])


class Room(Actor[Gone, None, str | None]):
    """Connections, and events to them."""

    public = True
    said = Event[str]()
    moved = Event[str, Point]()
    done = Event[()]()

    def on_disconnect(self, conn: Any) -> None:
        if conn.params is not None:  # not of a plain call
            self.state.names.append(conn.params)

    @action(readonly=True)
    def gone(self) -> list[str]:
        return list(self.state.names)

    @action(readonly=True)
    def present(self) -> list[str]:
        return sorted(conn.params for conn in self.conns if conn.params is not None)

    @action(readonly=True)
    def me(self) -> tuple[str, str | None]:
        return self.conn.id, self.conn.params

    @action
    def say(self, text: str) -> int:
        self.broadcast(Room.said, text)
        return len(text)

    @action
    def move(self, name: str, point: Point) -> None:
        self.broadcast(Room.moved, name, point)

    @action
    def finish(self) -> None:
        self.broadcast(Room.done)

    @action
    def whisper(self, name: str, text: str) -> None:
        for conn in self.conns:
            if conn.params == name:
                conn.send(Room.said, text)

    @action
    async def turn_out(self, name: str) -> None:
        for conn in self.conns:
            if conn.params == name:
                await conn.disconnect("turned out")

    @action
    def fail(self) -> None:
        raise UserError("As you wish.", code="wished", metadata=[1])


class Guarded(Actor[Count, None, Any, None, Any]):
    """Who may come in, says `params`."""

    @classmethod
    async def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        match params:
            case None:
                raise Unauthorized("Who are you?")
            case {"user": "eve"}:
                raise Forbidden("Not you.", metadata={"need": "admin"})
            case {"user": "late"}:
                raise UserError("No seats left.", code="sold_out")
            case {"user": "broken"}:
                raise ValueError("the password is hunter2")
        return {"user": params["user"], "intents": sorted(intents), "gateway": os.getpid()}

    @action
    def whoami(self) -> Any:
        return self.conn.auth


class Site(Actor[Count, None, Any]):
    """Raw requests."""

    public = True

    async def on_fetch(self, request: Request) -> Any:
        match request.url.path:
            case "/echo":
                return StreamingResponse(request.stream(), 201, {"X-Mine": "its"})
            case "/add":
                self.state.count += len(await request.body())
                return str(self.state.count)
            case "/fail":
                raise UserError("As you wish.", code="wished", metadata=[1])
            case "/boom":
                raise ValueError("the password is hunter2")
            case "/broken":
                return StreamingResponse(self._broken())
        return {
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": request.url.query,
            "mine": request.headers.getlist("x-mine"),
            "ours": [name for name in request.headers if name.startswith("x-rivetkit")],
            "body": (await request.body()).decode(),
            "params": request.state.params,
        }

    async def on_websocket(self, websocket: WebSocket) -> None:
        match websocket.url.path:
            case "/refuse":
                raise UserError("As you wish.", code="wished")
            case "/close":
                await websocket.accept(headers=[(b"x-mine", b"its")])
                await websocket.close(4001, "as you wish")
                return
            case "/choose":
                await websocket.accept(websocket.scope["subprotocols"][-1])
            case _:
                await websocket.accept()
        if websocket.url.path == "/boom":
            raise ValueError("the password is hunter2")
        while (message := await websocket.receive())["type"] == "websocket.receive":
            self.state.count += 1
            await websocket.send({**message, "type": "websocket.send"})
        self.state.count += message["code"]

    @action(readonly=True)
    def counted(self) -> int:
        return self.state.count

    @action
    async def talk_to_other(self, key: str, *texts: str) -> list[str]:
        async with self.client(App).site.get_or_create(key).websocket("talk") as socket:
            found: list[str] = []
            for text in texts:
                await socket.send(text)
                found.append(str(await socket.recv()))
            return found

    async def _broken(self) -> AsyncIterator[str]:
        yield "one"
        raise ValueError("the password is hunter2")

    @action
    async def fetch_other(self, key: str, path: str, body: str) -> tuple[int, str]:
        other = self.client(App).site.get_or_create(key)
        answer = await other.fetch(path, method="POST", body=body)
        return answer.status_code, answer.text


class App(Registry):
    echo = use(Echo)
    counter = use(Counter)
    room = use(Room)
    porter = use(Porter)
    guarded = use(Guarded)
    site = use(Site)
