"""Raw HTTP and raw WebSockets for code that blocks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.websockets import WebSocket
from threaded_server import threaded_server
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from rivet_ray import Actor, Outcome, Registry, SyncClient, action, use
from rivet_ray.errors import RequestFailed

PATIENCE = 10.0


class Raw(Actor[None]):
    public = True

    def on_start(self) -> None:
        self.go_on = asyncio.Event()

    async def on_fetch(self, request: Request) -> Response:
        if request.url.path.endswith("/endless"):
            return StreamingResponse(self.pieces())
        if request.url.path.endswith("/missing"):
            return JSONResponse({"missing": request.url.query}, 404)
        body = await request.body()
        said = f"{request.method} {request.headers.get('x-mine')} ".encode()
        return Response(said + body, 201)

    async def pieces(self) -> AsyncIterator[bytes]:
        yield b"first"
        await self.go_on.wait()
        while True:
            yield b"more"

    async def on_websocket(self, websocket: WebSocket) -> None:
        if websocket.url.path.endswith("/refused"):
            await websocket.close(4_003, "not you")
            return
        await websocket.accept(next(iter(websocket.scope["subprotocols"]), None))
        while (message := await websocket.receive())["type"] == "websocket.receive":
            text = message.get("text")
            if text == "leave":
                await websocket.close(1000, "bye")
                return
            if text == "fail":
                await websocket.close(4_000, "failed")
                return
            if text is None:
                await websocket.send_bytes(message["bytes"])
            else:
                await websocket.send_text(text)

    @action
    def release(self) -> None:
        self.go_on.set()


class App(Registry):
    raw = use(Raw)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with threaded_server(App.create_server(store="memory://").handler) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[SyncClient]:
    with App.sync_client(url, timeout=5) as made:
        yield made


# --- HTTP -------------------------------------------------------------------------------


def test_fetch(client: SyncClient) -> None:
    raw = client.get_or_create(Raw, "k")
    answer = raw.fetch("x", method="PUT", headers={"X-Mine": "1"}, body="grün")
    assert (answer.status_code, answer.text, answer.is_success) == (201, "PUT 1 grün", True)
    assert answer.content == answer.read() == b"".join(answer)
    assert answer.raise_for_status() is answer
    missing = raw.fetch("missing?a=b")
    assert (missing.status_code, missing.json()) == (404, {"missing": "a=b"})
    assert missing.headers["content-type"] == "application/json"
    with pytest.raises(httpx.HTTPStatusError):
        missing.raise_for_status()
    unknown = client.get(Raw, "nobody").fetch("x")
    assert (unknown.status_code, unknown.json()["c"]) == (400, "actor_not_found")


def test_a_body_in_pieces_whose_making_blocks(client: SyncClient) -> None:
    names: set[str] = set()

    def pieces() -> Iterator[bytes]:
        for number in range(3):
            names.add(threading.current_thread().name)
            time.sleep(0.01)
            yield b"%d" % number

    raw = client.get_or_create(Raw, "k")
    assert raw.fetch("x", method="POST", body=pieces()).text == "POST None 012"
    assert not any(name.startswith("rivet_ray client") for name in names)

    def fails() -> Iterator[bytes]:
        yield b"0"
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        raw.fetch("x", method="POST", body=fails())


def test_an_answer_is_read_as_it_comes(client: SyncClient) -> None:
    raw = client.get_or_create(Raw, "pieces")
    with raw.fetch("endless", stream=True) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_bytes()
        assert next(pieces) == b"first"
        raw.call(Raw.release)
        assert next(pieces).startswith(b"more")
    with pytest.raises(httpx.StreamError):
        answer.read()
    answer.close()


def test_nobody_there() -> None:
    with App.sync_client("http://127.0.0.1:9") as client:
        with pytest.raises(RequestFailed) as caught:
            client.get(Raw, "x").fetch("y")
        assert caught.value.outcome is Outcome.NOT_STARTED
        socket = client.get(Raw, "x").websocket()
        with pytest.raises(RequestFailed):
            socket.open()
        socket.close()
        with pytest.raises(RuntimeError, match="not open"):
            socket.send("x")


def test_not_on_a_connection(client: SyncClient) -> None:
    with client.get_or_create(Raw, "k").connect() as connection:
        with pytest.raises(AttributeError, match="for handles"):
            connection.actor.fetch("x")
        with pytest.raises(AttributeError, match="for handles"):
            connection.actor.websocket("x")
        connection.dispose()


# --- WebSockets -------------------------------------------------------------------------


def test_websocket(client: SyncClient) -> None:
    raw = client.get_or_create(Raw, "k")
    with raw.websocket("any", protocols=["p", "q"]) as socket:
        assert socket.subprotocol == "p"
        socket.send("hello")
        assert socket.receive() == "hello"
        socket.send(b"\x00")
        assert socket.recv() == b"\x00"
        with pytest.raises(TimeoutError):
            socket.receive(timeout=0.05)
        socket.send("after")
        assert socket.receive(timeout=PATIENCE) == "after"
    socket.close()
    with pytest.raises(ConnectionClosed):
        socket.send("x")
    with pytest.raises(RuntimeError, match="opened once"):
        socket.open()


def test_messages_are_iterated_until_a_goodbye(client: SyncClient) -> None:
    raw = client.get_or_create(Raw, "k")
    with raw.websocket() as socket:
        for text in ("1", "2", "leave"):
            socket.send(text)
        assert list(socket) == ["1", "2"]
    with raw.websocket() as socket:
        socket.send("fail")
        with pytest.raises(ConnectionClosedError) as caught:
            list(socket)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4_000, "failed")
    with raw.websocket("refused") as socket:
        with pytest.raises(ConnectionClosed) as refused:
            socket.receive()
        assert refused.value.rcvd is not None
        assert refused.value.rcvd.reason == "not you"


def test_another_thread_may_send_and_close(client: SyncClient) -> None:
    raw = client.get_or_create(Raw, "k")
    heard: list[bytes | str] = []
    with raw.websocket() as socket:
        came = threading.Event()

        def help_out() -> None:
            socket.send("late")
            # A close that overtakes the echo would end the socket before it.
            assert came.wait(PATIENCE)
            socket.close(1000, "done")

        helper = threading.Timer(0.05, help_out)
        helper.start()
        for message in socket:
            heard.append(message)
            came.set()
        helper.join()
    assert heard == ["late"]


def test_a_client_that_is_closed_closes_its_sockets(url: str) -> None:
    with App.sync_client(url, timeout=5) as client:
        socket = client.get_or_create(Raw, "k").websocket().open()
        held = socket._socket
        assert held is not None
    assert held.close_code == 1000
    with pytest.raises(RequestFailed, match="closed"):
        socket.send("x")
    socket.close()


async def test_not_where_a_loop_runs(url: str) -> None:
    raw = App.sync_client(url).get_or_create(Raw, "k")
    with pytest.raises(RuntimeError, match="runs an event loop"):
        raw.fetch("x")
    with pytest.raises(RuntimeError, match="runs an event loop"):
        raw.websocket("x").open()
