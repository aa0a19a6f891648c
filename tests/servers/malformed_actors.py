"""The actors that are sent what is malformed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.websockets import WebSocket

from rivet_ray import Actor, Event, Forbidden, Registry, action, use

GATEWAYS: list[int] = []
"""The process whose gateway asked `on_auth` last, for tests that look at its memory."""


@dataclass
class Point:
    x: int
    y: float = 0.0
    name: str | None = None


class Echo(Actor[None]):
    public = True
    said = Event[str]()

    @action
    def echo(self, *values: Any) -> list[Any]:
        return list(values)

    @action
    def typed(self, number: int, points: list[Point], by_name: dict[str, Point] | None) -> int:
        return number + len(points) + len(by_name or {})

    @action
    def connections(self) -> int:
        return len(self.conns)

    async def on_fetch(self, request: Request) -> dict[str, Any]:
        return {"path": request.url.path, "size": len(await request.body())}

    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        while (message := await websocket.receive())["type"] == "websocket.receive":
            text: str | None = message.get("text")
            if text is not None:
                await websocket.send_text(text)
            else:
                await websocket.send_bytes(message["bytes"])


class Gate(Actor[None]):
    """Lets in who says so."""

    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> None:
        GATEWAYS[:] = [os.getpid()]
        if params != "let me in":
            raise Forbidden("Say: let me in.")


class App(Registry):
    echo = use(Echo)
    gate = use(Gate)
