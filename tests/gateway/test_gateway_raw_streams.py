"""Raw bodies that flow: back-pressure, bounds on memory, deadlines, and cuts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import pytest
from gateway_raw import RawConnection, fetch, raw_connection, raw_socket, receive
from gateway_wire import JSON, Serve, Wire, get_or_create
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket

from rivet_ray import Actor
from rivet_ray.gateway import GatewaySettings
from rivet_ray.protocol.raw import RAW_WINDOW
from rivet_ray.runtime import HostSettings

MEBIBYTE = 1 << 20
BOUND = RAW_WINDOW + 24 * MEBIBYTE
"""What may be under way: our window, and the kernel's buffers of up to two proxied sockets."""


@pytest.fixture
def wire() -> Wire:
    return JSON


class Streams(Actor[None]):
    public = True
    given: ClassVar[int] = 0
    taken: ClassVar[int] = 0
    may_read: ClassVar[asyncio.Event]
    ended: ClassVar[asyncio.Event]

    async def on_fetch(self, request: Request) -> Any:
        return await getattr(self, "fetch_" + request.url.path.strip("/"))(request)

    async def fetch_endless(self, request: Request) -> Response:
        """A megabyte at a time, for ever."""

        async def body() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(MEBIBYTE // 4)
                    Streams.given += MEBIBYTE // 4
            finally:
                Streams.ended.set()

        return StreamingResponse(body())

    async def fetch_download(self, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for number in range(int(request.query_params["megabytes"])):
                yield bytes([number % 251]) * MEBIBYTE

        return StreamingResponse(body())

    async def fetch_upload(self, request: Request) -> dict[str, int]:
        await Streams.may_read.wait()
        async for chunk in request.stream():
            Streams.taken += len(chunk)
        return {"taken": Streams.taken}

    async def fetch_echo(self, request: Request) -> Response:
        return StreamingResponse(request.stream())

    async def fetch_early(self, request: Request) -> str:
        return "no need to read"

    async def fetch_cut(self, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise ValueError("the password is hunter2")

        return StreamingResponse(body())

    async def fetch_short(self, request: Request) -> Response:
        return StreamingResponse(_some(b"half"), headers={"Content-Length": "8"})

    async def fetch_never(self, request: Request) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            Streams.ended.set()

    async def fetch_pause(self, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            try:
                await asyncio.Event().wait()
            finally:
                Streams.ended.set()

        return StreamingResponse(body())

    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        if websocket.url.path == "/flood":
            try:
                while True:
                    await websocket.send_bytes(bytes(MEBIBYTE // 4))
                    Streams.given += MEBIBYTE // 4
            finally:
                Streams.ended.set()
        await Streams.may_read.wait()
        async for data in websocket.iter_bytes():
            Streams.taken += len(data)
            await websocket.send_text(str(Streams.taken))


async def _some(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


ACTORS: dict[str, Any] = {"streams": Streams}
A = get_or_create("streams", "a")


@pytest.fixture(autouse=True)
async def fresh() -> None:
    Streams.given = Streams.taken = 0
    Streams.may_read, Streams.ended = asyncio.Event(), asyncio.Event()


@pytest.fixture
def broken(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The one way for an ASGI application to cut a response: uvicorn logs it as an error."""
    yield
    cut = [
        record for record in caplog.get_records("call") if record.getMessage().startswith("ASGI")
    ]
    for record in cut:
        assert record.getMessage() == "ASGI callable returned without completing response."
        caplog.get_records("call").remove(record)


async def settled(value: Any) -> int:
    """A number that has stopped to grow."""
    last = -1
    for _ in range(200):
        now: int = value()
        if now == last:
            return now
        last = now
        await asyncio.sleep(0.1)
    raise AssertionError(f"it still grows: {last}")


async def ended() -> None:
    async with asyncio.timeout(5):
        await Streams.ended.wait()


# --- Back-pressure ------------------------------------------------------------


async def test_a_client_that_does_not_read_slows_the_actors_writer_and_nothing_else(
    serve: Serve,
) -> None:
    site = await serve(ACTORS)
    async with raw_connection(site) as slow:
        await slow.head(A, "/endless")
        assert await slow.answer() == 200
        given = await settled(lambda: Streams.given)
        assert given < BOUND
        # The same actor, the same gateway, the same link: all as ever.
        for _ in range(3):
            answer = await fetch(site, A, "/download?megabytes=8")
            assert len(answer.content) == 8 * MEBIBYTE
        assert await settled(lambda: Streams.given) == given
        await slow.read_chunked(BOUND)
        assert await settled(lambda: Streams.given) > given, "it goes on when the client reads"
        slow.abort()
    await ended()


async def test_many_slow_clients_do_not_stop_the_others(serve: Serve) -> None:
    """More than the lane of a session holds: what has arrived is not under way any more."""
    site = await serve(ACTORS)
    slow: list[RawConnection] = []
    async with raw_connection(site) as last:
        for number in range(30):
            query = get_or_create("streams", str(number))
            connection = RawConnection(
                site, *await asyncio.open_connection(*site.address.rsplit(":", 1), limit=2**16)
            )
            slow.append(connection)
            await connection.head(query, "/endless")
            assert await connection.answer() == 200
        await last.head(A, "/download?megabytes=16")
        assert await last.answer() == 200
        assert len(await last.read_chunked(16 * MEBIBYTE)) == 16 * MEBIBYTE
    for connection in slow:
        connection.abort()


async def test_an_actor_that_does_not_read_stops_the_upload(serve: Serve) -> None:
    site = await serve(ACTORS)
    sent = 0

    async def send(raw: RawConnection) -> None:
        nonlocal sent
        while sent < 64 * MEBIBYTE:
            await raw.chunk(bytes(MEBIBYTE // 4))
            sent += MEBIBYTE // 4
        await raw.chunk(b"")

    async with raw_connection(site) as raw:
        await raw.head(A, "/upload", "POST", {"Transfer-Encoding": "chunked"})
        sending = asyncio.create_task(send(raw))
        assert await settled(lambda: sent) < BOUND
        Streams.may_read.set()
        await sending
        assert await raw.answer(10) == 200
        assert Streams.taken == 64 * MEBIBYTE


async def test_a_socket_that_is_not_read_slows_the_actor(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with raw_socket(site, A, "/flood", max_queue=1) as socket:
        given = await settled(lambda: Streams.given)
        assert given < BOUND
        for _ in range(BOUND // (MEBIBYTE // 4)):
            assert len(await receive(socket)) == MEBIBYTE // 4
        assert await settled(lambda: Streams.given) > given
        socket.transport.abort()
    await ended()


async def test_an_actor_that_does_not_read_slows_the_socket(serve: Serve) -> None:
    site = await serve(ACTORS)
    sent = 0
    async with raw_socket(site, A) as socket:

        async def send() -> None:
            nonlocal sent
            while sent < 64 * MEBIBYTE:
                await socket.send(bytes(MEBIBYTE // 4))
                sent += MEBIBYTE // 4

        sending = asyncio.create_task(send())
        assert await settled(lambda: sent) < BOUND
        Streams.may_read.set()
        last = 0
        while last < 64 * MEBIBYTE:
            last = int(await receive(socket))
        await sending


async def test_both_ways_at_once(serve: Serve) -> None:
    """A request's body may go on after its response has begun."""
    site = await serve(ACTORS)
    async with raw_connection(site) as raw:
        await raw.head(A, "/echo", "POST", {"Transfer-Encoding": "chunked"})
        assert await raw.answer() == 200
        for size in (1, 1000, 65_536, 200_000):
            chunk = os.urandom(size)
            await raw.chunk(chunk)
            assert await raw.read_chunked(size) == chunk
        await raw.chunk(b"")
        assert await raw.next_chunk() == b""


async def test_an_answer_before_the_body_is_read(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with raw_connection(site) as raw:
        await raw.head(A, "/early", "POST", {"Transfer-Encoding": "chunked"})
        await raw.chunk(bytes(100_000))
        assert await raw.answer() == 200
        assert await raw.reader.readexactly(15) == b"no need to read"


# --- Ends ---------------------------------------------------------------------


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("path", ["/cut", "/short"])
async def test_a_response_that_is_broken_off_never_looks_complete(serve: Serve, path: str) -> None:
    site = await serve(ACTORS)
    async with raw_connection(site) as raw:
        await raw.head(A, path)
        assert await raw.answer() == 200
        async with asyncio.timeout(5):
            rest = await raw.reader.read()
        assert not rest.endswith(b"0\r\n\r\n")
        assert b"hunter2" not in rest


async def test_an_answer_has_to_begin_in_time(serve: Serve) -> None:
    """C9: by the gateway's limit, or the host's."""
    for options in (
        {"settings": GatewaySettings(raw_start_timeout=0.2)},
        {"host_settings": HostSettings(action_timeout=0.2)},
    ):
        Streams.ended.clear()
        site = await serve(ACTORS, **options)
        answer = await fetch(site, A, "/never")
        assert (answer.status_code, answer.json()["c"]) == (400, "action_timed_out")
        assert answer.headers["x-rivetkit-outcome"] == "took_effect"
        await ended()


@pytest.mark.usefixtures("broken")
async def test_a_stream_on_which_nothing_moves_is_cut(serve: Serve) -> None:
    """C9."""
    site = await serve(ACTORS, settings=GatewaySettings(raw_idle_timeout=0.3))
    async with raw_connection(site) as raw:
        await raw.head(A, "/pause")
        assert await raw.answer() == 200
        assert await raw.read_chunked(5) == b"first"
        async with asyncio.timeout(5):
            assert await raw.reader.read() == b""
    await ended()
