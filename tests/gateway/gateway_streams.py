"""Event streams, read byte by byte, and messages that are posted: wire-protocol.md, A.4."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from gateway_wire import PATIENCE, Answer, Site, Wire


class Stream:
    """One event stream, on a socket of its own."""

    def __init__(
        self, site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.site = site
        self.wire: Wire = site.wire
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.raw = b""
        """The body so far, as it came."""
        self.comments: list[str] = []
        self.init_message: dict[str, str] = {}
        self._read_to = 0

    async def head(self) -> None:
        async with asyncio.timeout(PATIENCE):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }

    async def _chunk(self) -> bool:
        """Read one chunk of the body; whether there was one."""
        async with asyncio.timeout(PATIENCE):
            if self.headers.get("transfer-encoding") != "chunked":
                data = await self.reader.readexactly(int(self.headers.get("content-length", 0)))
                self.raw += data
                return bool(data)
            size = int(await self.reader.readline(), 16)
            self.raw += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        return size > 0

    async def whole(self) -> bytes:
        """The body to its end, of an answer that is no stream."""
        while len(self.raw) < int(self.headers["content-length"]):
            await self._chunk()
        return self.raw

    async def block(self) -> str | None:
        """The lines of the next event or comment; None at the end of the stream."""
        while (end := self.raw.find(b"\n\n", self._read_to)) < 0:
            if not await self._chunk():
                assert self._read_to == len(self.raw), self.raw[self._read_to :]
                return None
        block = self.raw[self._read_to : end].decode()
        self._read_to = end + 2
        return block

    async def event(self) -> tuple[str, str] | None:
        """Name and data of the next event; the name is empty where it has none."""
        while (block := await self.block()) is not None:
            if block.startswith(":"):
                self.comments.append(block)
                continue
            *first, last = block.split("\n")
            name = first[0].removeprefix("event: ") if first else ""
            assert last.startswith("data: ")
            return name, last.removeprefix("data: ")
        return None

    async def next(self) -> Any:
        """The body of the next message."""
        event = await self.event()
        assert event is not None, "the stream has ended"
        assert event[0] == "", event
        message = self.wire.loads(self.payload(event[1]))
        assert set(message) == {"b"}, message
        return message["b"]

    def payload(self, data: str) -> bytes:
        return data.encode() if self.wire.name == "json" else base64.b64decode(data, validate=True)

    async def init(self) -> dict[str, str]:
        body = await self.next()
        assert set(body) == {"i"}, body
        self.init_message = body["i"]
        return self.init_message

    async def answer(self, number: int) -> Any:
        """The output of an action whose answer must come next."""
        body = await self.next()
        assert set(body) == {"ar"}, body
        assert body["ar"]["i"] == number, body
        return body["ar"]["o"]

    async def refusal(self) -> Any:
        """The error that is the stream's only event."""
        body = await self.next()
        assert set(body) == {"e"}, body
        assert await self.event() is None
        assert "ai" not in body["e"]
        return body["e"]

    async def closed(self) -> tuple[tuple[str, str] | None, list[Any]]:
        """The event `close`, if there is one before the end, and the messages before it."""
        before: list[Any] = []
        last: tuple[str, str] | None = None
        while (event := await self.event()) is not None:
            assert last is None, "nothing comes after the close"
            if event[0] == "close":
                last = event
            else:
                before.append(self.wire.loads(self.payload(event[1])))
        return last, before

    # --- What the client says -------------------------------------------------

    def headers_of_message(self, **changed: str | None) -> dict[str, str]:
        init = self.init_message
        found = {
            "X-RivetKit-Actor": init["ai"],
            "X-RivetKit-Conn": init["ci"],
            "X-RivetKit-Conn-Token": init["ct"],
            "X-RivetKit-Encoding": self.wire.name,
            "Content-Type": self.wire.content_type,
        }
        for name, value in changed.items():
            header = "X-RivetKit-" + name.title().replace("_", "-")
            found.pop(header, None)
            if value is not None:
                found[header] = value
        return found

    async def post(
        self,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        through: Site | None = None,
        mount: str = "/registry",
        method: str = "POST",
    ) -> Answer:
        """`POST /actors/message`, through another gateway where one is given."""
        return await (through or self.site).post(
            f"{mount}/actors/message", headers or self.headers_of_message(), body, method
        )

    async def send(self, body: Any, **options: Any) -> None:
        answer = await self.post(self.wire.dumps({"b": body}), **options)
        assert (answer.status, answer.raw) == (200, b"{}"), (answer.status, answer.raw)
        assert answer.headers["content-type"] == "application/json"

    async def call(self, number: int, action: str, *args: Any, **options: Any) -> None:
        await self.send({"ar": {"i": number, "n": action, "a": list(args)}}, **options)

    async def subscribe(self, event: str, wanted: bool = True, **options: Any) -> None:
        await self.send({"sr": {"e": event, "s": wanted}}, **options)

    async def ask(self, number: int, action: str, *args: Any, **options: Any) -> Any:
        await self.call(number, action, *args, **options)
        return await self.answer(number)

    def abort(self) -> None:
        """Vanish, as a phone in a tunnel does."""
        self.writer.transport.abort()


@asynccontextmanager
async def opening(
    site: Site,
    headers: Mapping[str, str],
    *,
    mount: str = "/registry",
    limit: int = 2**16,
) -> AsyncIterator[Stream]:
    """`GET /actors/connect/sse`; the head of the answer has been read."""
    host, _, port = site.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=limit)
    lines = [f"GET {mount}/actors/connect/sse HTTP/1.1", f"Host: {site.address}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name != "Content-Type"]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    stream = Stream(site, reader, writer)
    try:
        await stream.head()
        yield stream
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def streaming(
    site: Site, query: Any, params: Any = ..., **options: Any
) -> AsyncIterator[Stream]:
    """A stream that has received its init."""
    async with opening(site, site.headers(query, params), **options) as stream:
        assert stream.status == 200, await stream.block()
        await stream.init()
        yield stream


async def statistics(site: Site) -> dict[str, Any]:
    """What the gateway says about itself."""
    found: dict[str, Any] = (await site.http.get(f"http://{site.address}/metadata")).json()
    told: dict[str, Any] = found["gateway"]
    return told


async def slow_consumers(site: Site) -> int:
    """How many connections the gateway has closed since more waited for them than may."""
    count: int = (await statistics(site))["slowConsumers"]
    return count
