"""A room that tests of connections share, over whatever they come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from rivet_ray import Actor, Event, UserError, action

_gates: dict[str, asyncio.Event] = {}
LEFT: list[str] = []
"""The connections that ended, in order."""


def forget() -> None:
    """Before each test."""
    _gates.clear()
    LEFT.clear()


def gate(name: str) -> asyncio.Event:
    """What an action waits at, or tells a test with."""
    return _gates.setdefault(name, asyncio.Event())


@dataclass
class RoomState:
    lines: list[str] = field(default_factory=list[str])


class Room(Actor[RoomState]):
    public = True
    anonymous_keys = True

    said = Event[str]()

    def on_disconnect(self, conn: Any) -> None:
        LEFT.append(conn.id)

    @action
    def say(self, text: str) -> int:
        self.state.lines.append(text)
        self.broadcast(Room.said, text)
        return len(self.state.lines)

    @action
    def shout(self, length: int) -> int:
        self.broadcast(Room.said, "x" * length)
        return length

    @action
    def whisper(self, text: str) -> None:
        self.conn.send("whispered", text, 1, None)

    @action
    async def wait_for(self, name: str) -> str:
        gate(name).set()
        await gate(f"{name} may go on").wait()
        return name

    @action
    def echo(self, value: Any) -> Any:
        return value

    @action
    def nothing(self) -> None:
        pass

    @action
    def fail(self) -> None:
        raise UserError("As you wish.", code="wished", metadata=[1])

    @action
    def boom(self) -> None:
        raise ValueError("the password is hunter2")

    @action
    def me(self) -> str:
        return self.conn.id

    @action
    def members(self) -> list[str]:
        return [conn.id for conn in self.conns]

    @action
    async def kick(self, identity: str, reason: str = "") -> bool:
        for conn in self.conns:
            if conn.id == identity:
                await conn.disconnect(reason)
        return identity in [conn.id for conn in self.conns]


class Private(Actor[RoomState]):
    @action
    def echo(self, value: Any) -> Any:
        return value
