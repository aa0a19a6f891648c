"""Raw requests and sockets from actor to actor: behind the gate, and without a deadlock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from runtime_worlds import Probe
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed

from rivet_ray import Actor, Registry, action, use
from rivet_ray.errors import RequestFailed
from rivet_ray.runtime import HostSettings
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle


@dataclass
class Count:
    count: int = 0


class Page(Actor[None]):
    """Remembers what reached it."""

    reached: ClassVar[list[str]] = []

    async def on_fetch(self, request: Request) -> Any:
        match request.url.path:
            case "/back":
                return str(await self.client(App).reader.get("r").alone())
            case "/hang":
                await asyncio.Event().wait()
            case "/long":
                return StreamingResponse(self._forever())
        Page.reached.append(request.url.path)
        async for piece in request.stream():
            if piece:
                Page.reached.append(piece.decode())
        return "done"

    async def on_websocket(self, websocket: WebSocket) -> None:
        if websocket.url.path == "/back":
            await self.client(App).reader.get("r").alone()
        await websocket.accept()
        Page.reached.append("open")
        while (message := await websocket.receive())["type"] == "websocket.receive":
            Page.reached.append(message["text"])
            await websocket.send_text(message["text"])
        Page.reached.append(f"closed {message['code']}")

    async def _forever(self) -> AsyncIterator[str]:
        try:
            while True:
                yield "x" * 65_536
        finally:
            Page.reached.append("left")


class Reader(Actor[Count]):
    told: ClassVar[asyncio.Event]

    @action
    async def change_then_fetch(self) -> str:
        self.state.count += 1
        return (await self._page.fetch("/read")).text

    @action
    async def upload(self) -> str:
        return (await self._page.fetch("/upload", method="PUT", body=self._counts())).text

    async def _counts(self) -> AsyncIterator[bytes]:
        for _ in range(2):
            self.state.count += 1
            yield b"%d" % self.state.count

    @action(exclusive=True)
    async def alone(self) -> int:
        return self.state.count

    @action(exclusive=True)
    async def alone_and_back(self) -> tuple[int, str]:
        answer = await self._page.fetch("/back")
        return answer.status_code, answer.json()["c"]

    @action(exclusive=True)
    async def alone_and_itself(self) -> tuple[int, str]:
        answer = await self.client(App).reader.get("r").fetch("/")
        return answer.status_code, answer.json()["c"]

    @action
    async def late(self) -> str:
        try:
            await self._page.with_options(timeout=0.2).fetch("/hang")
        except RequestFailed as error:
            return str(error.outcome and error.outcome.value)
        return "answered"

    @action
    async def glance(self) -> int:
        answer = await self._page.fetch("/long", stream=True)
        async for piece in answer.aiter_raw():
            await answer.aclose()
            return len(piece)
        return 0

    @action
    async def talk(self) -> str:
        async with self._page.websocket("/talk") as socket:
            Page.reached.append("in")
            await Reader.told.wait()
            self.state.count += 1
            await socket.send(str(self.state.count))
            return str(await socket.recv())

    @action
    async def change_then_close(self) -> None:
        async with self._page.websocket("/talk") as socket:
            Page.reached.append("in")
            await Reader.told.wait()
            self.state.count += 1
            await socket.close(4000 + self.state.count)

    @action(exclusive=True)
    async def alone_on_a_socket(self) -> str:
        async with self._page.websocket("/back") as socket:
            await socket.wait_closed()
            return str(socket.close_reason)

    @property
    def _page(self) -> Any:
        return self.client(App).page.get_or_create("p")

    async def on_fetch(self, request: Request) -> str:
        return "mine"


class App(Registry):
    page = use(Page)
    reader = use(Reader)


@pytest.fixture
async def store() -> Probe:
    Page.reached.clear()
    Reader.told = asyncio.Event()
    return Probe()


@pytest.fixture
async def test(store: Probe) -> AsyncIterator[Setup[App]]:
    given: Any = store
    async with setup_test(App, store=given, settings=HostSettings(stop_grace=0.01)) as test:
        await test.client.reader.get_or_create("r").alone()
        await test.client.page.get_or_create("p").resolve()
        yield test
        store.release()


async def test_a_request_leaves_when_its_caller_is_durable(test: Setup[App], store: Probe) -> None:
    store.hold()
    asked = asyncio.create_task(test.client.reader.get("r").change_then_fetch())
    await settle()
    assert Page.reached == [], "the request left too early"
    store.release()
    assert await asked == "done"
    assert Page.reached == ["/read"]


async def test_each_piece_of_a_body_leaves_when_its_caller_is_durable(
    test: Setup[App], store: Probe
) -> None:
    await test.client.reader.get("r").change_then_fetch()
    Page.reached.clear()
    store.hold()
    asked = asyncio.create_task(test.client.reader.get("r").upload())
    await settle()
    assert Page.reached in ([], ["/upload"]), "a piece left too early"
    store.release()
    assert await asked == "done"
    assert Page.reached == ["/upload", "2", "3"]


async def test_a_cycle_of_exclusive_actions_fails_at_once(test: Setup[App]) -> None:
    """The handler is in the chain as an action is, whichever of the two waits for the other."""
    reader = test.client.reader.get("r")
    async with asyncio.timeout(2):
        assert await reader.alone_and_back() == (409, "call_cycle")
        assert await reader.alone_and_itself() == (409, "call_cycle")
        assert await reader.alone() == 0


async def test_it_does_not_wait_for_ever(test: Setup[App]) -> None:
    async with asyncio.timeout(10):
        assert await test.client.reader.get("r").late() == "unknown"


async def test_a_response_that_is_left_ends_its_handler(test: Setup[App]) -> None:
    assert await test.client.reader.get("r").glance() == 65_536
    await settle()
    assert Page.reached == ["left"]


# --- Sockets ----------------------------------------------------------------------


async def reached(last: str) -> None:
    """The other actor has got that; sockets need more than turns of the loop."""
    async with asyncio.timeout(3):
        for pause in range(10_000):
            if last in Page.reached:
                return
            await asyncio.sleep(min(pause, 10) / 1000)


@pytest.mark.parametrize(
    ("act", "last"), [("talk", "1"), ("change_then_close", "closed 4001")], ids=["message", "close"]
)
async def test_what_a_socket_shows_leaves_when_its_caller_is_durable(
    test: Setup[App], store: Probe, act: str, last: str
) -> None:
    asked = asyncio.create_task(getattr(test.client.reader.get("r"), act)())
    await reached("in")
    store.hold()
    Reader.told.set()
    await asyncio.sleep(0.05)
    assert Page.reached == ["open", "in"], "this left too early"
    store.release()
    await asked
    await reached(last)


async def test_a_socket_is_in_the_chain(test: Setup[App]) -> None:
    async with asyncio.timeout(2):
        assert await test.client.reader.get("r").alone_on_a_socket() == "call_cycle"


async def test_a_caller_that_is_cancelled_closes_its_socket(test: Setup[App]) -> None:
    asked = asyncio.create_task(test.client.reader.get("r").talk())
    await reached("in")
    asked.cancel()
    await reached("closed 1000")


async def test_a_host_that_is_lost_closes_the_socket(test: Setup[App]) -> None:
    """With 1012, as a gateway does."""
    async with test.client.page.get("p").websocket("/talk") as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        test.backend.calls.close()
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1012, "actor_stopped")
