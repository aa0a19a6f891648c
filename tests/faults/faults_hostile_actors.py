"""The server of the hostile-neighbour test: honest actors, and some whose code is broken."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rivet_ray import Actor, Registry, Request, action, use


@dataclass
class State:
    count: int = 0
    large: list[str] = field(default_factory=list[str])


@dataclass
class Picky:
    value: int = 0

    def __post_init__(self) -> None:
        raise ZeroDivisionError


class Open(Actor[None, Any, Any]):
    @classmethod
    def on_auth(cls, request: Request, params: Any, intents: Any) -> Any:
        return {"iss": "tests", "sub": params}

    @action
    def ping(self) -> None:
        pass


class Circle(Open):
    """Its start calls itself."""

    async def on_start(self) -> None:
        await self.client(App).circle.get_or_create(self.key).ping()


class Pair(Open):
    """Two of them call each other when they stop."""

    async def on_stop(self) -> None:
        *first, last = self.key
        other = last[:-1] + {"1": "2", "2": "1"}[last[-1]]
        await self.client(App).pair.get_or_create([*first, other]).ping()

    @action
    def nap(self) -> None:
        self.sleep()


class Failing(Open):
    def on_start(self) -> None:
        raise ConnectionError("the database is away")


class Missing(msgspec.Struct):
    value: int = 0


class Unset(Open):
    """The state of its connections cannot be saved."""

    def create_conn_state(self, request: Any, params: Any) -> Any:
        return Missing()

    @action
    def spoil(self) -> None:
        self.conn.state = Missing.__new__(Missing)


class Thing(Actor[State]):
    """Honest callers and hostile ones have one each, on the same host."""

    @classmethod
    def on_auth(cls, request: Request, params: Any, intents: Any) -> Any:
        return {"iss": "tests", "sub": params}

    @action
    def increment(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    def read(self, length: int) -> str:
        return "x" * length

    @action
    def grow(self) -> None:
        self.state.large = ["x" * 100] * 9_000

    @action
    async def wait(self, text: str = "") -> None:
        await asyncio.sleep(20)

    @action(exclusive=True)
    async def alone(self, text: str = "") -> None:
        await asyncio.sleep(20)

    @action
    async def leave(self) -> None:
        await asyncio.sleep(0)
        sys.exit(3)

    @action
    async def cancelled(self) -> None:
        task = asyncio.create_task(asyncio.sleep(0))
        task.cancel()
        await asyncio.wait([task])
        task.result()

    @action
    async def from_a_thread(self) -> None:
        await asyncio.to_thread(self.broadcast, "said", 1)

    @action
    def take(self, value: Picky) -> None:
        pass

    @action
    def end(self) -> None:
        self.destroy()

    @action
    def params(self) -> Any:
        return self.conn.params

    @action
    def shout(self, length: int) -> None:
        self.broadcast("said", "x" * length)


class App(Registry):
    thing = use(Thing)
    circle = use(Circle)
    pair = use(Pair)
    failing = use(Failing)
    unset = use(Unset)
