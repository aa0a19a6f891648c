"""The output gate on raw requests and sockets: nothing leaves before its commit (C2, C5).

The checks are functions, so that the last test can show that they fail when the
gate is switched off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from gateway_raw import closed, fetch, raw_connection, raw_socket, receive
from gateway_wire import JSON, Serve, Site, Wire, get_or_create
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.websockets import WebSocket
from test_gateway_gate import HeldStore
from websockets.asyncio.client import ClientConnection

from rivet_ray import Actor, UserError, action, ids
from rivet_ray.runtime import HostSettings
from rivet_ray.runtime.gate import Gate


@pytest.fixture
def wire() -> Wire:
    return JSON


@dataclass
class State:
    count: int = 0


class Raw(Actor[State]):
    public = True

    @action
    def get(self) -> int:
        return self.state.count

    async def on_fetch(self, request: Request) -> Any:
        match request.url.path:
            case "/add":
                self.state.count += 5
                return str(self.state.count)
            case "/fail":
                self.state.count += 5
                raise UserError("no", code="no_such_thing")
            case "/read":
                return str(self.state.count)
            case "/stream":
                return StreamingResponse(self._steps(request))
            case "/background":
                return PlainTextResponse(str(self.state.count), background=Later(self))
            case _:
                return None

    async def _steps(self, request: Request) -> AsyncIterator[str]:
        """One step for each piece of the request's body."""
        async for piece in request.stream():
            if piece:
                self.state.count += int(piece)
                yield f"{self.state.count};"

    async def on_websocket(self, websocket: WebSocket) -> None:
        if websocket.url.path == "/accept":
            self.state.count += 5
        await websocket.accept()
        async for text in websocket.iter_text():
            self.state.count += int(text)
            if websocket.url.path == "/close":
                await websocket.close(4000, f"the count is {self.state.count}")
                return
            await websocket.send_text(str(self.state.count))


class Later:
    """Runs when the response has been given."""

    def __init__(self, actor: Raw) -> None:
        self._actor = actor

    async def __call__(self) -> None:
        self._actor.state.count += 100


ACTORS: dict[str, Any] = {"raw": Raw}
A = get_or_create("raw", "a")
OTHER = get_or_create("raw", "other")


async def rounds(site: Site) -> None:
    """Time for everything that could leave to leave, and reads that must."""
    for _ in range(5):
        async with asyncio.timeout(2):
            answer = await fetch(site, OTHER, "/read")
            assert answer.text == "0", "an unchanged actor waits for nobody"


@asynccontextmanager
async def held(serve: Serve) -> AsyncIterator[tuple[Site, HeldStore]]:
    store = HeldStore()
    site = await serve(ACTORS, store=store, host_settings=HostSettings(stop_grace=0.1))
    try:
        for query in (A, OTHER):
            assert (await fetch(site, query, "/read")).text == "0"
        store.hold()
        yield site, store
    finally:
        store.release()


async def quiet(socket: ClientConnection) -> None:
    try:
        async with asyncio.timeout(0.05):
            message = await socket.recv()
    except TimeoutError:
        return
    raise AssertionError(f"this left too early: {message!r}")


# --- The checks ---------------------------------------------------------------


async def check_response(serve: Serve) -> None:
    for path, status in (("/add", 200), ("/fail", 400)):
        async with held(serve) as (site, store), raw_connection(site) as raw:
            await raw.head(A, path)
            await store.asked.wait()
            await rounds(site)
            await raw.nothing()
            store.release()
            assert await raw.answer() == status


async def check_a_read_behind_a_write(serve: Serve) -> None:
    async with held(serve) as (site, store), raw_connection(site) as raw:
        write = asyncio.create_task(fetch(site, A, "/add"))
        await store.asked.wait()
        await raw.head(A, "/read")
        await rounds(site)
        await raw.nothing()
        store.release()
        assert (await write).text == "5"
        assert await raw.answer() == 200
        assert await raw.reader.readexactly(1) == b"5"


async def check_each_piece_of_a_stream(serve: Serve) -> None:
    async with held(serve) as (site, store), raw_connection(site) as raw:
        await raw.head(A, "/stream", "POST", {"Transfer-Encoding": "chunked"})
        assert await raw.answer() == 200, "the head reveals nothing that is not saved"
        shown = 0
        for amount in (5, 7):
            await raw.chunk(b"%d" % amount)
            await store.asked.wait()
            await rounds(site)
            await raw.nothing()
            store.release()
            shown += amount
            assert await raw.read_chunked(2) == b"%d;" % shown
            store.hold()


async def check_messages_of_a_socket(serve: Serve) -> None:
    async with held(serve) as (site, store), raw_socket(site, A) as socket:
        await socket.send("5")
        await store.asked.wait()
        await socket.send("7")
        await rounds(site)
        await quiet(socket)
        store.release()
        assert [await receive(socket), await receive(socket)] == ["5", "12"], "in order"


async def check_close_of_a_socket(serve: Serve) -> None:
    async with held(serve) as (site, store), raw_socket(site, A, "/close") as socket:
        await socket.send("5")
        await store.asked.wait()
        await rounds(site)
        await still_open(socket)
        store.release()
        assert await closed(socket) == (4000, "the count is 5", [])


async def still_open(socket: ClientConnection) -> None:
    await asyncio.sleep(0.05)
    assert socket.close_code is None, "the close left too early"


async def check_accepting_a_socket(serve: Serve) -> None:
    async with held(serve) as (site, store):

        async def connect() -> str | bytes:
            async with raw_socket(site, A, "/accept") as socket:
                await socket.send("1")
                return await receive(socket)

        connecting = asyncio.create_task(opened(site))
        await store.asked.wait()
        await rounds(site)
        assert not connecting.done(), "the socket was accepted too early"
        store.release()
        await connecting
        assert await connect() == "11"


async def opened(site: Site) -> None:
    async with raw_socket(site, A, "/accept"):
        pass


async def check_fenced(serve: Serve) -> None:
    """C1: what a deposed owner would have shown is not shown, and its client hears of it."""
    async with held(serve) as (site, store), raw_connection(site) as raw:
        async with raw_socket(site, A) as socket:
            await raw.head(A, "/add")
            await socket.send("7")
            await store.asked.wait()
            await rounds(site)
            store.refuse = True
            store.release()
            assert await raw.answer() == 503
            assert dict(raw.headers)["x-rivetkit-outcome"] == "unknown"
            assert await closed(socket) == (1012, "actor_stopped", [])
        store.refuse = False
        assert (await fetch(site, A, "/read")).text == "0", "what was refused is gone"


CHECKS: list[Callable[[Serve], Awaitable[None]]] = [
    check_response,
    check_a_read_behind_a_write,
    check_each_piece_of_a_stream,
    check_messages_of_a_socket,
    check_close_of_a_socket,
    check_accepting_a_socket,
    check_fenced,
]


@pytest.mark.parametrize("check", CHECKS)
async def test_nothing_leaves_before_its_commit(
    serve: Serve, check: Callable[[Serve], Awaitable[None]]
) -> None:
    await check(serve)


@pytest.mark.parametrize("check", CHECKS)
async def test_the_check_sees_a_gate_that_is_switched_off(
    serve: Serve,
    check: Callable[[Serve], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Gate, "hold", lambda gate, release, size=0: release(None))
    with pytest.raises(AssertionError):
        await check(serve)


# --- What a handler changes after its answer ------------------------------------


async def test_what_runs_after_the_answer_is_saved_too(serve: Serve) -> None:
    store = HeldStore()
    site = await serve(ACTORS, store=store)
    assert (await fetch(site, A, "/background")).text == "0"
    assert (await site.call(A, "get")).output == 100
    await asyncio.sleep(0)
    parts = await saved(store)
    assert parts["state/count"] == b"\x64"


async def saved(store: HeldStore) -> dict[str, bytes]:
    """What the store has of the actor."""
    record = await store.find(ids.DEFAULT_NAMESPACE, "raw", ("a",))
    claim = await store.claim(record.id, ids.owner_token())
    parts: dict[str, bytes] = claim.parts
    return parts
