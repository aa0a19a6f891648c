"""Raw HTTP and raw WebSockets of the synchronous client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rivet_ray.client.loop_thread import LoopThread

if TYPE_CHECKING:
    import httpx
    from websockets.asyncio.client import ClientConnection

_END = object()

Body = bytes | str | Iterable[bytes]
"""What a request may carry; pieces are taken one by one, in a thread."""


async def pieces_of(body: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a body whose making may block."""
    pieces = iter(body)
    while (piece := await asyncio.to_thread(next, pieces, _END)) is not _END:
        assert isinstance(piece, bytes)
        yield piece


class SyncResponse:
    """An answer of an actor's `on_fetch`.

    Of a streamed one the body is still on its way: read it once, whole or piece by
    piece, and close it, best by `with`.
    """

    def __init__(self, thread: LoopThread, response: httpx.Response) -> None:
        self._thread = thread
        self._response = response

    @property
    def status_code(self) -> int:
        return self._response.status_code

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self._response.is_success

    @property
    def headers(self) -> httpx.Headers:
        return self._response.headers

    @property
    def content(self) -> bytes:
        """The whole body. Waits for what is still on its way."""
        return self.read()

    @property
    def text(self) -> str:
        self.read()
        return self._response.text

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        self.read()
        return self._response.json()

    def raise_for_status(self) -> Self:
        """Raise `httpx.HTTPStatusError` unless the status is 2xx."""
        self._response.raise_for_status()
        return self

    def read(self) -> bytes:
        """The whole body. Raises `httpx.HTTPError` where it breaks off."""
        return self._thread.run(self._response.aread())

    def iter_bytes(self) -> Iterator[bytes]:
        """The body as it comes. Raises `httpx.HTTPError` where it breaks off."""
        pieces = aiter(self._response.aiter_bytes())
        while (piece := self._thread.run(_step(pieces))) is not _END:
            assert isinstance(piece, bytes)
            yield piece

    def __iter__(self) -> Iterator[bytes]:
        return self.iter_bytes()

    def close(self) -> None:
        """Take no more of the body. Idempotent."""
        if not self._thread.closed:
            self._thread.run(self._response.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<answer {self.status_code}>"


class SyncWebSocket:
    """A WebSocket to an actor's `on_websocket`.

    with handle.websocket("live") as socket:
        socket.send("hello")
        for message in socket:
            print(message)

    One thread may receive while others send. Raises the exceptions of `websockets`:
    `ConnectionClosed` once it is closed, with code and reason.
    """

    def __init__(
        self, thread: LoopThread, opening: AbstractAsyncContextManager[ClientConnection]
    ) -> None:
        self._thread = thread
        self._opening = opening
        self._socket: ClientConnection | None = None
        self._holder: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._receiving = threading.Lock()

    @property
    def subprotocol(self) -> str | None:
        """What the actor chose of `protocols`."""
        return self._open_socket().subprotocol

    def open(self) -> Self:
        """Wait until the socket is open. Raises RequestFailed."""
        self._thread.run(self._open())
        return self

    def send(self, message: str | bytes) -> None:
        """Send text or bytes; waits while the way is full."""
        self._thread.run(self._open_socket().send(message))

    def receive(self, timeout: float | None = None) -> str | bytes:
        """The next message. Raises TimeoutError after `timeout` seconds; none is lost by that."""
        with self._receiving:
            return self._thread.run(_receive(self._open_socket(), timeout))

    recv = receive
    """As the socket of the asynchronous client calls it."""

    def __iter__(self) -> Iterator[str | bytes]:
        """Every message until the actor closes the socket with 1000 or 1001."""
        # Here, so that a server's own client loads no WebSocket client.
        from websockets.exceptions import ConnectionClosedOK

        while True:
            try:
                message = self.receive()
            except ConnectionClosedOK:
                return
            yield message

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket and wait until it is. Idempotent."""
        if not self._thread.closed:
            self._thread.run(self._close(code, reason))

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def _open(self) -> None:
        if self._holder is not None:
            raise RuntimeError("A socket is opened once; ask the handle for another one.")
        opened: asyncio.Future[ClientConnection] = asyncio.get_running_loop().create_future()
        # One task enters and leaves, also where the client is closed before the socket.
        self._holder = asyncio.create_task(self._hold(opened), name="rivet_ray raw socket")
        try:
            self._socket = await opened
        except asyncio.CancelledError:
            self._holder.cancel()
            raise

    async def _hold(self, opened: asyncio.Future[ClientConnection]) -> None:
        try:
            async with self._opening as socket:
                opened.set_result(socket)
                await self._leave.wait()
        except Exception as error:
            if opened.done():
                raise
            opened.set_exception(error)

    async def _close(self, code: int, reason: str) -> None:
        if self._holder is None:
            return
        if self._socket is not None:
            await self._socket.close(code, reason)
        self._leave.set()
        await asyncio.wait([self._holder])

    def _open_socket(self) -> ClientConnection:
        if self._socket is None:
            raise RuntimeError(
                "The socket is not open; write `with handle.websocket(…) as socket` or open() first"
            )
        return self._socket


async def _receive(socket: ClientConnection, timeout: float | None) -> str | bytes:
    async with asyncio.timeout(timeout):
        return await socket.recv()


async def _step(pieces: AsyncIterator[bytes]) -> object:
    return await anext(pieces, _END)
