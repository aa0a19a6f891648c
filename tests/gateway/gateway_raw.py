"""Raw requests and sockets, byte by byte: wire-protocol.md, A.1 and A.3."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from gateway_wire import PATIENCE, Site
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

MOUNT = "/registry"


def query_header(query: Any) -> dict[str, str]:
    return {"X-RivetKit-Query": query if isinstance(query, str) else json.dumps(query)}


async def fetch(
    site: Site,
    query: Any,
    path: str = "/",
    *,
    method: str = "GET",
    mount: str = MOUNT,
    headers: Any = None,
    **options: Any,
) -> httpx.Response:
    """One request, with its whole answer."""
    given = [*query_header(query).items(), *(headers or {}).items()]
    url = f"http://{site.address}{mount}/actors/raw/http{path}"
    return await site.http.request(method, url, headers=given, **options)


class RawConnection:
    """An HTTP client that sends and reads what a test tells it, when it tells it."""

    def __init__(
        self, site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.site = site
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: list[tuple[str, str]] = []

    async def head(
        self, query: Any, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send the head of a request."""
        lines = [
            f"{method} {MOUNT}/actors/raw/http{path} HTTP/1.1",
            f"Host: {self.site.address}",
            *(
                f"{name}: {value}"
                for name, value in {**query_header(query), **(headers or {})}.items()
            ),
        ]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        """Send a chunk of the body; the empty one ends it."""
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self.writer.drain()

    async def answer(self, patience: float = PATIENCE) -> int:
        """Read the head of the answer; its status."""
        async with asyncio.timeout(patience):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = [
            (name.lower(), value)
            for name, _, value in (line.partition(": ") for line in lines[1:])
            if name
        ]
        return self.status

    async def next_chunk(self) -> bytes:
        """The next chunk of the answer, b"" at its end. Raises IncompleteReadError."""
        async with asyncio.timeout(PATIENCE):
            line = await self.reader.readline()
            if not line:
                raise asyncio.IncompleteReadError(b"", None)
            data = await self.reader.readexactly(int(line, 16))
            await self.reader.readexactly(2)
        return data

    async def read_chunked(self, size: int) -> bytes:
        """At least so many bytes of the body."""
        found = b""
        while len(found) < size:
            chunk = await self.next_chunk()
            assert chunk, "the body has ended"
            found += chunk
        return found

    async def nothing(self) -> None:
        """Nothing has come, nor does."""
        try:
            async with asyncio.timeout(0.05):
                data = await self.reader.read(1)
        except TimeoutError:
            return
        raise AssertionError(f"this left too early: {data!r}")

    def abort(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def raw_connection(site: Site, *, limit: int = 2**16) -> AsyncIterator[RawConnection]:
    host, _, port = site.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=limit)
    try:
        yield RawConnection(site, reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def raw_socket(
    site: Site,
    query: Any,
    path: str = "/",
    *,
    params: Any = ...,
    own: tuple[str, ...] = (),
    below: str = f"{MOUNT}/actors",
    offered: list[Subprotocol] | None = None,
    **options: Any,
) -> AsyncIterator[ClientConnection]:
    """`offered` are the subprotocols where there is no query to make them from."""
    url = f"ws://{site.address}{below}/raw/websocket{path}"
    if query is not None:
        ours = site.protocols(query, params, encoding="json")
        offered = [*ours, *(Subprotocol(name) for name in own)]
    async with open_socket(
        url,
        subprotocols=offered,
        ping_interval=None,
        close_timeout=1,
        compression=None,
        proxy=None,
        additional_headers=site.forged,
        **{"max_size": None, **options},
    ) as connection:
        yield connection


async def receive(socket: ClientConnection) -> str | bytes:
    async with asyncio.timeout(PATIENCE):
        return await socket.recv()


async def closed(socket: ClientConnection) -> tuple[int, str, list[str | bytes]]:
    """Code and reason of the close, and the messages before it."""
    before: list[str | bytes] = []
    try:
        while True:
            before.append(await receive(socket))
    except ConnectionClosed as end:
        if end.rcvd is None:
            raise AssertionError("the socket was cut") from end
        return end.rcvd.code, end.rcvd.reason, before
