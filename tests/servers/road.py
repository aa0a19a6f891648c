"""The way between a client and a server, as unreliable as a test wants it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Road:
    """A TCP proxy that cuts connections: when it is told to, or after some bytes."""

    def __init__(self, port: int) -> None:
        self.port = port
        """Where it leads; may be changed."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.after: random.Random | None = None
        """Cut each connection after some bytes that this chooses."""
        self.open = True
        self.blocks_upgrades = False
        self.swallows_upgrades = False
        self.breaks_upgraded = False
        """Cut a WebSocket off as soon as it is one."""
        self.upgrades = 0
        """How many handshakes of WebSockets came by."""
        self.loses_answers = False
        """What comes back gets lost, while what goes there arrives."""
        self.cuts = 0
        self.opened = 0
        self.url = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        if not self.open:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.port)
        except ConnectionError:
            writer.transport.abort()
            return
        pair = (writer, back)
        left = [self.after.randrange(1, 1_500) if self.after else 1 << 60]
        self._writers.update(pair)
        ways = [
            asyncio.ensure_future(self._carry(reader, back, left, pair, upward=True)),
            asyncio.ensure_future(self._carry(there, writer, left, pair, upward=False)),
        ]
        self._tasks.update(ways)
        await asyncio.wait(ways)
        self._writers.difference_update(pair)
        for end in pair:
            end.transport.abort()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        left: list[int],
        pair: tuple[asyncio.StreamWriter, ...],
        *,
        upward: bool,
    ) -> None:
        try:
            while data := await reader.read(65_536):
                if upward and b"pgrade: websocket" in data:
                    self.upgrades += 1
                    if self.blocks_upgrades:
                        pair[0].write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                        continue
                    if self.swallows_upgrades:
                        continue
                if not upward and self.breaks_upgraded and data.startswith(b"HTTP/1.1 101 "):
                    writer.write(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
                    await asyncio.sleep(0)
                    break
                if not upward and self.loses_answers:
                    continue
                writer.write(data[: left[0]])
                left[0] -= len(data)
                if left[0] <= 0:
                    self.cuts += 1
                    # What was written goes out; the rest is lost.
                    await asyncio.sleep(0)
                    break
        except ConnectionError:
            pass
        for end in pair:
            end.transport.abort()

    def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def end(self) -> None:
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)


@asynccontextmanager
async def road_to(port: int) -> AsyncIterator[Road]:
    """A road to that port of this machine, whose `url` clients take."""
    road = Road(port)
    async with await asyncio.start_server(road.take, "127.0.0.1", 0) as proxy:
        road.url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        try:
            yield road
        finally:
            await road.end()
