"""The actors of the tests that start processes."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocket

from rivet_ray import CORS, Actor, Event, Registry, action, use


@dataclass
class State:
    count: int = 0
    hooks: list[str] = field(default_factory=list[str])


class Counter(Actor[State, None, str | None]):
    public = True
    anonymous_keys = True
    counted = Event[int]()

    def on_connect(self, conn: Any) -> None:
        if conn.params is not None:  # not of a plain call
            self.state.hooks.append(f"connect {conn.params}")

    def on_disconnect(self, conn: Any) -> None:
        if conn.params is not None:
            self.state.hooks.append(f"disconnect {conn.params}")

    @action
    def increment(self) -> int:
        self.state.count += 1
        self.broadcast(Counter.counted, self.state.count)
        return self.state.count

    @action(readonly=True)
    def read(self) -> int:
        return self.state.count

    @action(readonly=True)
    def hooks(self) -> list[str]:
        return list(self.state.hooks)

    @action
    def increment_after(self, milliseconds: int) -> None:
        self.schedule.after(milliseconds, Counter.increment)

    @action
    async def forward(self, key: str) -> int:
        return await self.client(App).counter.get_or_create(key).increment()

    @action
    def block(self, milliseconds: int) -> None:
        """Hold the event loop, as user code should not."""
        time.sleep(milliseconds / 1000)

    @action
    async def exit_in_a_callback(self) -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await asyncio.sleep(0.01)

    async def on_fetch(self, request: Request) -> Any:
        if request.url.path == "/stream":
            return StreamingResponse(self._endless())
        self.state.count += 1
        if request.url.path == "/wait":
            await self.save()
            await asyncio.Event().wait()
        return str(self.state.count)

    async def _endless(self) -> AsyncIterator[bytes]:
        while True:
            yield bytes(1_000)

    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            self.state.count += int(text)
            await websocket.send_text(str(self.state.count))


class Unguarded(Actor[None]):
    """Neither public nor with an `on_auth`."""

    @action
    def act(self) -> None:
        return None


class App(Registry, cors=CORS(origin="https://app.example.com")):
    unguarded = use(Unguarded)
    counter = use(Counter)
