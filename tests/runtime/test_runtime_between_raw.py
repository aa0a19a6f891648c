"""One actor fetches from another: behind its gate, and without a deadlock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from runtime_worlds import Probe
from starlette.requests import Request
from starlette.responses import StreamingResponse

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

    async def _forever(self) -> AsyncIterator[str]:
        try:
            while True:
                yield "x" * 65_536
        finally:
            Page.reached.append("left")


class Reader(Actor[Count]):
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
