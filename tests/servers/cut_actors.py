"""The actors of the tests that cut connections."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any

from rivet_ray import Actor, Event, Registry, action, use


@dataclass
class State:
    count: int = 0
    hooks: list[str] = field(default_factory=list[str])
    gateways: list[int] = field(default_factory=list[int])
    """The processes that have let the watched connection in, as far as increments saw."""


@dataclass
class Member:
    name: str = "nobody"


class Counter(Actor[State, Member, str | None, None, int]):
    anonymous_keys = True

    counted = Event[int]()

    @classmethod
    async def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> int:
        return os.getpid()

    def on_connect(self, conn: Any) -> None:
        if conn.params == "watched":
            self.state.hooks.append("connect")

    def on_disconnect(self, conn: Any) -> None:
        if conn.params == "watched":
            self.state.hooks.append("disconnect")

    @action
    def increment(self) -> int:
        self.state.count += 1
        for conn in self.conns:
            if conn.params == "watched" and conn.auth not in self.state.gateways:
                self.state.gateways.append(conn.auth)
        self.broadcast(Counter.counted, self.state.count)
        return self.state.count

    @action
    async def slowly(self) -> int:
        await asyncio.sleep(0.2)
        return self.increment.local()

    @action
    def rename(self, name: str) -> None:
        self.conn.state.name = name

    @action
    def whoami(self) -> str:
        return self.conn.state.name

    @action
    def gateways(self) -> list[int]:
        return self.state.gateways

    @action
    def hooks(self) -> list[str]:
        return list(self.state.hooks)

    @action
    async def kick(self) -> None:
        for conn in self.conns:
            if conn.params == "watched":
                await conn.disconnect("enough")

    @action
    def end(self) -> None:
        self.destroy()


class App(Registry):
    counter = use(Counter)
