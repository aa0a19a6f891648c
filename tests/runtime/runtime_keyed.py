"""The actor and the callers of the tests of idempotency keys."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from runtime_worlds import Tap, quiet

from rivet_ray import Actor, Registry, UserError, action, use
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller
from rivet_ray.testing import Setup


@dataclass
class State:
    count: int = 0
    free: Any = None


class Counter(Actor[State]):
    anonymous_keys = True

    def on_start(self) -> None:
        self.go = asyncio.Event()
        self.ran = 0

    @action
    def add(self, amount: int = 1) -> int:
        self.state.count += amount
        return self.state.count

    @action
    def get(self) -> int:
        return self.state.count

    @action
    def open(self) -> None:
        self.go.set()

    @action
    def refuse(self) -> None:
        self.state.count += 1
        raise UserError(f"no {self.state.count}", "refused", {"count": self.state.count})

    @action
    async def add_wait_add(self) -> int:
        self.state.count += 1
        await self.go.wait()
        self.state.count += 10
        return self.state.count

    @action
    async def wait_add(self) -> int:
        self.ran += 1
        await self.go.wait()
        self.state.count += 10
        return self.state.count

    @action
    def nothing(self) -> None:
        self.ran += 1

    @action
    def how_often(self) -> int:
        return self.ran

    @action
    async def long(self, length: int) -> str:
        self.state.count += 1
        return "x" * length

    @action
    async def fail_at_length(self, length: int) -> None:
        self.state.count += 1
        raise UserError("no", "at_length", "x" * length)

    @action(exclusive=True)
    async def alone(self) -> None:
        await self.go.wait()

    @action
    async def spoil(self) -> str:
        self.state.free = object()
        return "done"


class Relaxed(Counter):
    durability = "relaxed"
    save_interval = 5.0


class App(Registry):
    counter = use(Counter)
    relaxed = use(Relaxed)


class World:
    """An actor, called as over a port by callers with keys."""

    def __init__(self, test: Setup[App], actor: str) -> None:
        self.test, self.actor = test, actor
        self.tap = Tap(test)
        self.tokens = 0

    def call(self, name: str, *args: Any, who: str | None = None, key: str = "k") -> int:
        """`who` is a caller's identity; each call has another token."""
        self.tokens += 1
        caller = Caller(auth=values.encode(f"token {self.tokens}"), identity=who)
        return self.tap.call(self.actor, name, *args, key=key, caller=caller)

    async def output(self, name: str, *args: Any, **options: Any) -> Any:
        call = self.call(name, *args, **options)
        await quiet(self.test)
        return self.tap.output(call)

    async def error(self, name: str, *args: Any, **options: Any) -> Any:
        call = self.call(name, *args, **options)
        await quiet(self.test)
        return self.tap.error(call)

    async def plain(self, name: str, *args: Any) -> Any:
        call = self.tap.call(self.actor, name, *args)
        await quiet(self.test)
        return self.tap.output(call)

    async def crash(self) -> None:
        await self.test.crash()
        self.tap = Tap(self.test)

    async def restart(self) -> None:
        await self.test.restart()
        self.tap = Tap(self.test)
