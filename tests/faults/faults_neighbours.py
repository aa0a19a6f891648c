"""What hostile callers do to a server that others use: one async function for each row.

`ROWS` is the table. A row is given a `Place` and harms the server as far as it can; what
it is told does not matter, only what the others notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

# --- A hostile caller ---------------------------------------------------------


@dataclass
class Place:
    """The server, as somebody knows it who means no good."""

    url: str
    http: httpx.AsyncClient
    short: bool
    """A taste of it, for the quick tests."""
    who: str

    def times(self, number: int) -> int:
        return max(number // 20, 20) if self.short else number

    def _query(self, key: str, kind: str = "thing") -> str:
        return json.dumps({"getOrCreateForKey": {"name": kind, "key": [key]}})

    def headers(self, query: str) -> dict[str, str]:
        return {
            "X-RivetKit-Query": query,
            "X-RivetKit-Encoding": "json",
            "X-RivetKit-Conn-Params": json.dumps(self.who),
        }

    async def call(
        self, name: str, *args: Any, key: str | None = None, kind: str = "thing", at: str = ""
    ) -> httpx.Response | None:
        """An action over HTTP, of another actor beside theirs with `at`; None: no answer."""
        headers = self.headers(self._query(self.who + at, kind))
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.post(f"/actors/actions/{name}", headers, json.dumps({"a": args}).encode())

    async def post(self, path: str, headers: Any, body: bytes) -> httpx.Response | None:
        with contextlib.suppress(httpx.HTTPError):
            return await self.http.post(self.url + path, headers=headers, content=body)
        return None

    @asynccontextmanager
    async def socket(
        self,
        *,
        kind: str = "thing",
        params: str | None = None,
        offer: Sequence[str] = (),
        first: Callable[[Any], None] = lambda _: None,
        **options: Any,
    ) -> AsyncIterator[ClientConnection]:
        """A connection; `first` gets its first message, the Init."""
        protocols: list[Any] = [
            f"query.{quote(self._query(self.who, kind), safe='')}",
            "encoding.json",
            f"conn_params.{quote(json.dumps(params or self.who), safe='')}",
            *offer,
            "rivetkit",
        ]
        address = self.url.replace("http", "ws") + "/actors/connect/websocket"
        async with connect(
            address, subprotocols=protocols, proxy=None, max_size=None, close_timeout=1, **options
        ) as socket:
            first(json.loads(await socket.recv()))
            try:
                # The server may close it: that is its right.
                with contextlib.suppress(ConnectionClosed, OSError):
                    yield socket
            finally:
                socket.transport.abort()

    @asynccontextmanager
    async def strangers(self, number: int) -> AsyncIterator[list[asyncio.StreamWriter]]:
        """Connections, as many of them as there can be."""
        found: list[asyncio.StreamWriter] = []
        url = httpx.URL(self.url)
        try:
            for _ in range(number):
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(url.host, url.port)
                    found.append(writer)
            yield found
        finally:
            for writer in found:
                writer.transport.abort()


async def write_all(writers: list[asyncio.StreamWriter], data: bytes) -> None:
    """To those that still take something; nobody is waited for."""
    for writer in writers:
        if not writer.transport.is_closing():
            writer.write(data)
    await asyncio.sleep(0.01)


def message(number: int, name: str, *args: Any, **more: Any) -> str:
    return json.dumps({"b": {"ar": {"i": number, "n": name, "a": args, **more}}})


Row = Callable[[Place], Awaitable[None]]
ROWS: dict[str, Row] = {}


def row(name: str) -> Callable[[Row], Row]:
    """Put a function into the table, under the name of the row of the cases."""

    def put(function: Row) -> Row:
        ROWS[name] = function
        return function

    return put


# --- The rows -----------------------------------------------------------------


@row("A1 a broadcast from a thread")
async def _(place: Place) -> None:
    await place.call("from_a_thread")


@row("A2 an action that ends the process")
async def _(place: Place) -> None:
    for _ in range(place.times(100)):
        await place.call("leave")


@row("A3 the result of a cancelled task")
async def _(place: Place) -> None:
    for number in range(place.times(100)):
        await place.call("cancelled", key=f"{number}")


@row("D2 a body of millions of lists")
async def _(place: Place) -> None:
    size = place.times(20 * 2**20)
    headers = {
        "X-RivetKit-Query": place._query(place.who),
        "X-RivetKit-Encoding": "json",
        "X-RivetKit-Conn-Params": json.dumps(place.who),
    }
    body = b'{"a":[[' + b"[]," * (size // 3 - 10) + b"[]]]}"
    bodies = [place.post("/actors/actions/read", headers, body) for _ in range(4)]
    await asyncio.gather(*bodies)


@row("D2 a body of millions of lists in CBOR")
async def _(place: Place) -> None:
    size = place.times(20 * 2**20)
    headers = {
        "X-RivetKit-Query": place._query(place.who),
        "X-RivetKit-Encoding": "cbor",
        "X-RivetKit-Conn-Params": json.dumps(place.who),
    }
    for item in (b"\x80", b"\x01"):
        head = b"\xa1\x61a\x81\x9a" + (size - 64).to_bytes(4, "big")
        body = head + item * (size - 64)
        bodies = [place.post("/actors/actions/read", headers, body) for _ in range(4)]
        await asyncio.gather(*bodies)


@row("E1 answers that are not read")
async def _(place: Place) -> None:
    async with place.socket(max_queue=1) as socket:
        for number in range(place.times(2_000)):
            await socket.send(message(number, "read", 300_000))
        await asyncio.sleep(0.5)


@row("E2 actions with long names that wait")
async def _(place: Place) -> None:
    async with place.socket() as socket:
        for number in range(1_024):
            await socket.send(message(number, "wait"))
        for number in range(1_024, 1_024 + place.times(4_000)):
            await socket.send(message(number, "n" * 60_000))


@row("E2 calls that wait for an exclusive turn")
async def _(place: Place) -> None:
    calls = [
        asyncio.ensure_future(place.call("alone", "x" * 1_000_000)) for _ in range(place.times(300))
    ]
    await asyncio.wait(calls, timeout=2)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


@row("E3 subscriptions")
async def _(place: Place) -> None:
    async with place.socket() as socket:
        for number in range(place.times(10_000)):
            name = f"{number}".rjust(10_000, "x")
            await socket.send(json.dumps({"b": {"sr": {"e": name, "s": True}}}))


@row("E4 idempotency keys")
async def _(place: Place) -> None:
    async with place.socket() as socket:
        for batch in range(place.times(2_000) // 20):
            for number in range(200 * batch, 200 * batch + 200):
                await socket.send(message(number, "increment", k=f"key {number}"))
            for _ in range(200):
                await socket.recv()
    for number in range(place.times(200)):
        await place.call("read", 1_000_000, key=f"long {number}")


@row("E5 heads that never end")
async def _(place: Place) -> None:
    async with place.strangers(place.times(200)) as writers:
        for writer in writers:
            writer.write(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(24):
            await write_all(writers, b"x" * 65_536)


@row("E6 messages that never end")
async def _(place: Place) -> None:
    piece = Frame(Opcode.CONT, b"x" * 16_384, fin=False).serialize(mask=True)
    async with place.strangers(place.times(200)) as writers:
        opening = (
            "GET /actors/connect/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await write_all(writers, opening.encode())
        await asyncio.sleep(0.2)
        await write_all(writers, Frame(Opcode.TEXT, b"x", fin=False).serialize(mask=True))
        for _ in range(64):
            await write_all(writers, piece)


@row("E7 connections that say nothing")
async def _(place: Place) -> None:
    """Many; that all places are taken is in `tests/gateway/test_gateway_strangers.py`."""
    async with place.strangers(place.times(2_000)):
        for _ in range(10):
            await place.call("increment")
            await asyncio.sleep(0.05)


@row("E9 a call that waits beside a large state")
async def _(place: Place) -> None:
    await place.call("grow")
    async with place.socket() as socket:
        await socket.send(message(0, "wait"))
        for batch in range(place.times(1_000) // 20):
            for number in range(100):
                await socket.send(message(100 * batch + number + 1, "increment"))
            for _ in range(100):
                await socket.recv()
