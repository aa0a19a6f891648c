"""`handle.websocket` without network: websockets' own connection, over a pair in this process.

The caller gets what it would get over a network. The far end of the pair is served
here, from the port: frames one way and pieces the other, and no more of either
than fits into the window of the exchange and the buffers of the pair.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from rivet_ray.client.inline_fetch import HOST, raw_request
from rivet_ray.client.transport import Closing
from rivet_ray.client.websocket import CLOSE_TIMEOUT, SERVER_ERROR
from rivet_ray.errors import InternalError, RivetError
from rivet_ray.protocol.queries import ActorQuery
from rivet_ray.protocol.raw import RAW_PIECE, RawStart
from rivet_ray.runtime import Tunnel
from rivet_ray.store import ActorRecord

if TYPE_CHECKING:
    from rivet_ray.client.inline import InlineTransport

log = logging.getLogger("rivet_ray.client")

SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
UNAVAILABLE = 503
PROTOCOL = Subprotocol("rivetkit")
"""What an actor that chooses none of its user's own subprotocols has, as over a network."""
MAX_REASON = 123


class Opened(NamedTuple):
    """What the actor made of the socket."""

    tunnel: Tunnel | None = None
    start: RawStart | None = None
    refusal: Closing | None = None


@asynccontextmanager
async def websocket_inline(
    way: InlineTransport, query: ActorQuery, params: Any, path: str, protocols: Sequence[str]
) -> AsyncGenerator[ClientConnection]:
    """See `rivet_ray.client.transport.Transport.websocket`."""
    url = f"ws://{HOST}/{path.removeprefix('/')}"
    opened = await _open(way, query, params, url, list(protocols))
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=far)
    serving = asyncio.create_task(FarEnd(way, opened, reader, writer).serve())
    try:
        connection = await connect(
            url,
            sock=near,
            subprotocols=[PROTOCOL, *map(Subprotocol, protocols)],
            compression=None,
            max_size=None,
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT,
            proxy=None,
        )
        try:
            yield connection
        finally:
            await connection.close()
            if connection.protocol.close_rcvd is not None:
                # What was said last may still wait for the caller's gate.
                await asyncio.wait((serving,), timeout=CLOSE_TIMEOUT)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _open(
    way: InlineTransport, query: ActorQuery, params: Any, url: str, protocols: list[str]
) -> Opened:
    """Until the actor has accepted the socket, or has not."""
    request = raw_request(httpx.Request("GET", url), protocols)

    async def use(record: ActorRecord) -> Opened:
        tunnel = way.tunnel(record, request, params)
        try:
            return Opened(tunnel, await tunnel.started())
        except BaseException:
            tunnel.leave()
            raise

    try:
        return await way.reach(query, use)
    except RivetError as error:
        code = TRY_AGAIN_LATER if error.status == UNAVAILABLE else SERVER_ERROR
        return Opened(refusal=Closing(code, _told(error)))


def _told(error: RivetError) -> str:
    code = error.code if error.public else InternalError.code
    return code.encode()[:MAX_REASON].decode(errors="ignore")


class FarEnd:
    """The server of one socket."""

    def __init__(
        self,
        way: InlineTransport,
        opened: Opened,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._way = way
        self._tunnel, self._start, self._refusal = opened
        self._reader = reader
        self._writer = writer
        chosen = PROTOCOL
        if self._start is not None and self._start.protocol is not None:
            chosen = Subprotocol(self._start.protocol)

        # A plain function: the protocol makes a method of its own of it.
        def choose(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol:
            return chosen

        self._protocol = ServerProtocol(select_subprotocol=choose, max_size=None)

    async def serve(self) -> None:
        """Until both sides have ended it; always ends the tunnel."""
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._shake_hands()
            tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
            await asyncio.gather(*tasks)
        except (OSError, RivetError, WebSocketException) as error:
            # The caller's end is cut, and says so.
            log.warning("a raw socket inside the server is cut: %r", error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._tunnel is not None:
                self._tunnel.leave()
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _shake_hands(self) -> None:
        while not (events := self._protocol.events_received()):
            if not await self._receive():
                raise ConnectionResetError("the caller has left")
        [request] = events
        assert isinstance(request, Request)
        response = self._protocol.accept(request)
        for name, value in () if self._start is None else self._start.headers:
            response.headers[name.decode("latin-1")] = value.decode("latin-1")
        self._protocol.send_response(response)
        await self._flush()

    async def _receive(self) -> bool:
        """Take what has come from the caller; False at its end."""
        data = await self._reader.read(RAW_PIECE)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        return bool(data)

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)
            else:
                self._writer.write_eof()
        await self._writer.drain()

    async def _read(self) -> None:
        """Hand the caller's messages over, each behind its gate, and then how it ended."""
        text = False
        more = True
        while more:
            more = await self._receive()
            for frame in self._protocol.events_received():
                assert isinstance(frame, Frame)
                if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                    text = frame.opcode is Opcode.TEXT
                elif frame.opcode is not Opcode.CONT:
                    continue
                await self._way.leaving()
                if self._tunnel is not None:
                    await self._tunnel.give(bytes(frame.data), more=not frame.fin, text=text)
            await self._flush()
            closed = self._protocol.close_rcvd
            if closed is not None and self._tunnel is not None:
                await self._way.leaving()
                self._tunnel.leave(closed.code, closed.reason)

    async def _write(self) -> None:
        """Write the actor's messages, and then how it has closed the socket."""
        protocol, tunnel = self._protocol, self._tunnel
        begins = True
        while tunnel is not None and (piece := await tunnel.take()) is not None:
            if protocol.state is not State.OPEN:
                return
            if not begins:
                protocol.send_continuation(piece.data, fin=not piece.more)
            elif piece.text:
                protocol.send_text(piece.data, fin=not piece.more)
            else:
                protocol.send_binary(piece.data, fin=not piece.more)
            begins = not piece.more
            await self._flush()
        closing = self._closing()
        if closing is not None and protocol.state is State.OPEN:
            protocol.send_close(closing.code, closing.reason)
            await self._flush()

    def _closing(self) -> Closing | None:
        """How the actor has closed it, if it was the actor."""
        tunnel = self._tunnel
        if tunnel is None:
            return self._refusal
        if tunnel.failure is not None:
            return Closing(SERVICE_RESTART, _told(tunnel.failure))
        end = tunnel.closing
        return None if end is None else Closing(end.code, end.reason)
