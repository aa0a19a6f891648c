"""Raw requests and sockets on time that stands still: lost hosts, deadlines, stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocket
from test_runtime_following import Road

from rivet_ray import Actor, Registry, action, use
from rivet_ray.errors import ActionTimedOut, ActorStopped, Outcome
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.raw import RAW_WINDOW, RawRequest
from rivet_ray.runtime import FollowingClient, Tunnel
from rivet_ray.runtime.exchange import Exchange
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle


@dataclass
class State:
    count: int = 0


class Raw(Actor[State]):
    @action
    def get(self) -> int:
        return self.state.count

    @action(exclusive=True)
    async def alone(self) -> str:
        await asyncio.sleep(0)
        return "alone"

    async def on_fetch(self, request: Request) -> Any:
        self.state.count += 1
        match request.url.path:
            case "/wait":
                await asyncio.Event().wait()
            case "/stream":
                return StreamingResponse(self._endless())
            case "/body":
                return str(len(await request.body()))
        return str(self.state.count)

    async def _endless(self) -> AsyncIterator[bytes]:
        while True:
            yield bytes(10_000)

    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        if websocket.url.path == "/deaf":
            await asyncio.Event().wait()
        message = await websocket.receive()
        while message["type"] != "websocket.disconnect":
            message = await websocket.receive()
        self.state.count = message["code"]
        if websocket.url.path == "/stays":
            await asyncio.Event().wait()


class App(Registry):
    raw = use(Raw)


def request(path: str = "/", method: str = "GET") -> RawRequest:
    return RawRequest(method, path.encode(), b"", [], "http")


def socket(path: str = "/") -> RawRequest:
    return RawRequest("GET", path.encode(), b"", [], "ws", None, [])


class World:
    def __init__(self, test: Setup[App], actor: str) -> None:
        self.test = test
        self.actor = actor
        self.road = Road(test)  # type: ignore[arg-type]
        self.client = FollowingClient(self.road.connect, clock=test.clock)

    def open(self, what: RawRequest, **options: Any) -> Tunnel:
        return self.client.tunnel(self.actor, what, Caller(), **options)

    async def text(self, tunnel: Tunnel) -> str:
        await tunnel.started()
        found = b""
        while (piece := await tunnel.take()) is not None:
            found += piece.data
        assert tunnel.failure is None
        return found.decode()

    async def count(self) -> int:
        return await self.test.client.raw.get("k").get()

    async def advance(self, seconds: float) -> None:
        for _ in range(int(seconds * 20)):
            await self.test.clock.advance(0.05)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with setup_test(App) as test:
        found = World(test, await test.client.raw.get_or_create("k").resolve())
        yield found
        found.client.close()


# --- The host is lost -----------------------------------------------------------


async def test_a_request_waits_for_a_host_and_is_sent_then() -> None:
    async with world() as here:
        here.road.open = False
        waiting = [here.open(request()) for _ in range(20)]
        gone = here.open(request())
        await here.advance(2)
        gone.leave()
        here.road.open = True
        await here.advance(2)
        texts = await asyncio.gather(*(here.text(tunnel) for tunnel in waiting))
        assert sorted(map(int, texts)) == list(range(1, 21)), "the one that left did not run"


async def test_a_request_that_waits_too_long_did_not_start() -> None:
    async with world() as here:
        here.road.open = False
        tunnel = here.open(request(), timeout=2.0)
        await here.advance(2.2)
        with pytest.raises(ActionTimedOut) as caught:
            await tunnel.started()
        assert caught.value.outcome is Outcome.NOT_STARTED


async def test_what_was_sent_to_a_lost_host_is_unknown() -> None:
    async with world() as here:
        tunnels = [here.open(request("/wait")), here.open(socket())]
        late = here.open(socket())
        assert await late.started() is not None
        await settle()
        await here.road.crash()
        with pytest.raises(ActorStopped) as caught:
            await tunnels[0].started()
        assert caught.value.outcome is Outcome.UNKNOWN
        assert await late.take() is None
        assert isinstance(late.failure, ActorStopped)
        assert late.failure.outcome is Outcome.UNKNOWN
        await here.road.restart()
        await here.advance(2)
        # The effect of the first one was saved when the socket was accepted.
        assert await here.text(here.open(request("/x"))) == "2", "nothing of it is tried again"


async def test_a_response_that_had_begun_fails_with_its_host() -> None:
    async with world() as here:
        tunnel = here.open(request("/stream"))
        assert await tunnel.started() is not None
        await here.road.crash()
        while await tunnel.take() is not None:
            pass
        assert isinstance(tunnel.failure, ActorStopped)


async def test_a_gateway_that_is_lost_ends_its_requests() -> None:
    async with world() as here:
        here.open(request("/stream"))
        here.open(request("/wait"))
        here.open(socket())
        await settle()
        assert here.test.backend.host.running(here.actor) is not None
        here.road.cut()
        await settle()
        instance = here.test.backend.host.running(here.actor)
        assert instance is not None
        assert not instance.busy, "everything has ended with its session"


# --- Windows ----------------------------------------------------------------------


async def test_a_host_gives_no_more_than_a_window() -> None:
    async with world() as here:
        tunnel = here.open(request("/stream"))
        await settle()
        waiting = sum(piece.cost for piece in tunnel._inflow._pieces)
        assert RAW_WINDOW <= waiting < RAW_WINDOW + 20_000
        for _ in range(10):
            assert await tunnel.take() is not None
        tunnel.leave()


async def test_empty_messages_cost_too() -> None:
    async with world() as here:
        tunnel = here.open(socket("/deaf"))
        await tunnel.started()
        sent = 0

        async def send() -> None:
            nonlocal sent
            while await tunnel.give(b""):
                sent += 1

        sending = asyncio.create_task(send())
        await settle()
        assert sent < 5_000
        tunnel.leave()
        await sending
        await here.advance(6)


# --- Deadlines and turns ------------------------------------------------------------


async def test_the_deadline_of_the_answer_begins_anew_with_each_piece_of_the_body() -> None:
    """C9: a slow upload is no late answer; one that stands still is."""
    async with world() as here:
        tunnel = here.open(request("/body", "POST"), more=True, timeout=10.0)
        for _ in range(5):
            await here.advance(8)
            await tunnel.give(b"x", more=True)
            await settle()
        await tunnel.give(b"x")
        assert await here.text(tunnel) == "6"
        stuck = here.open(request("/body", "POST"), more=True, timeout=10.0)
        await here.advance(10.2)
        with pytest.raises(ActionTimedOut) as caught:
            await stuck.started()
        assert caught.value.outcome is Outcome.TOOK_EFFECT


async def test_exclusive_actions_wait_for_answers_and_not_for_streams() -> None:
    async with world() as here:
        stream, open_socket = here.open(request("/stream")), here.open(socket())
        await stream.started()
        await open_socket.started()
        handle = here.test.client.raw.get("k")
        assert await handle.alone() == "alone"
        before = here.open(request("/body", "POST"), more=True)
        await settle()
        alone = asyncio.ensure_future(handle.alone())
        await settle()
        assert not alone.done()
        await before.give(b"x")
        assert await here.text(before) == "1"
        assert await alone == "alone"
        stream.leave()
        open_socket.leave()


# --- Ends -------------------------------------------------------------------------


async def test_a_stop_closes_sockets_and_lets_requests_finish() -> None:
    async with world() as here:
        tunnel = here.open(socket())
        body = here.open(request("/body", "POST"), more=True)
        await tunnel.started()
        await settle()
        stopping = asyncio.ensure_future(here.test.backend.host.close())
        await settle()
        assert await tunnel.take() is None
        assert tunnel.closing is not None
        assert (tunnel.closing.code, tunnel.closing.reason) == (1012, "server_stopping")
        await body.give(b"x")
        assert await here.text(body) == "1"
        await stopping
        await here.test.restart()
        assert await here.count() == 1012, "what the handler did at its end is saved"


async def test_a_handler_that_stays_after_its_client_is_cancelled() -> None:
    async with world() as here:
        tunnel = here.open(socket("/stays"))
        await tunnel.started()
        tunnel.leave(4000, "bye")
        await here.advance(4)
        instance = here.test.backend.host.running(here.actor)
        assert instance is not None
        assert instance.busy
        await here.advance(2)
        assert not instance.busy
        assert await here.count() == 4000


async def test_an_open_socket_keeps_the_actor_awake() -> None:
    async with world() as here:
        tunnel = here.open(socket())
        await tunnel.started()
        await here.advance(90)
        assert here.test.backend.host.resident == 1
        tunnel.leave()
        await here.advance(90)
        assert here.test.backend.host.resident == 0
        assert await here.count() == 1006


async def test_a_host_without_a_handle_says_nothing_of_it() -> None:
    async with world() as here:
        here.test.backend.host.handle = None
        tunnel = here.open(request())
        with pytest.raises(Exception, match="Internal error"):
            await tunnel.started()


async def test_another_handle_may_be_injected() -> None:
    """The runtime knows no HTTP: whoever speaks it is given to the host."""
    async with world() as here:

        async def handle(actor: Any, exchange: Exchange) -> None:
            exchange.start(299, [(b"a", b"b")])
            await exchange.give(b"by hand")

        here.test.backend.host.handle = handle
        tunnel = here.open(request())
        start = await tunnel.started()
        assert start is not None
        assert (start.status, start.headers) == (299, [(b"a", b"b")])
        assert await here.text(tunnel) == "by hand"
