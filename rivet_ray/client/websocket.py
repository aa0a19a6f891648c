"""A connection over one WebSocket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed as SocketClosed
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import CloseCode
from websockets.protocol import State
from websockets.typing import Subprotocol

from rivet_ray import ids
from rivet_ray.client.reconnecting import unread, unreadable
from rivet_ray.client.settings import ClientSettings
from rivet_ray.client.transport import Closing, Refused, rebuild, retry_after
from rivet_ray.errors import (
    ConnectionClosed,
    MessageTooLong,
    Outcome,
    RequestFailed,
    RivetError,
)
from rivet_ray.protocol.encodings import DecodeFault, Encoding
from rivet_ray.protocol.error_codes import from_code
from rivet_ray.protocol.v0 import (
    Arrived,
    ErrorMessage,
    Init,
    ToServer,
    decode_to_client,
    encode_to_server,
)

CLOSE_TIMEOUT = 5.0
"""Seconds to wait for the server's half of the closing handshake."""
ABNORMAL = 1006
SERVER_ERROR = 1011
PROTOCOL_ERROR = 1002

_CODE = re.compile(r"[A-Za-z][\w.-]*")


class WebSocketConnection:
    """Implements ConnectionTransport."""

    def __init__(
        self,
        url: str,
        protocols: list[str],
        encoding: Encoding,
        user_agent: str,
        heartbeat: float | None,
        settings: ClientSettings,
    ) -> None:
        """`heartbeat`: seconds between an answered ping and the next, and for each answer."""
        self._url = url
        self._protocols = _tokens(protocols)
        self._encoding = encoding
        self._user_agent = user_agent
        self._heartbeat = heartbeat
        self._longest_read = settings.max_message_size
        self._most_items = settings.max_message_items
        self._beating: asyncio.Task[None] | None = None
        self._socket: ClientConnection | None = None
        self._closing: Closing | None = None
        self._longest: int | None = None
        """How long a message may be, where the server says so."""

    @property
    def closing(self) -> Closing:
        return self._closing or self._read_closing()

    async def upgrade(self) -> None:
        """The handshake of the WebSocket, which says nothing of the actor yet.

        Raises RequestFailed. `open` does it where it was not done.
        """
        try:
            self._socket = await connect(
                self._url,
                subprotocols=self._protocols,
                # A small compressed frame costs several times a plain one on both sides.
                compression=None,
                max_size=self._longest_read,
                open_timeout=None,  # the connection's own deadline covers it
                close_timeout=CLOSE_TIMEOUT,
                # Its own pings wait without end for room where much waits to be sent.
                ping_interval=None,
                user_agent_header=self._user_agent,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            refused = _unreachable(self._url, f"it answered HTTP status {status}")
            refused.metadata = retry_after(error.response.headers.get("Retry-After"))
            raise refused from error
        except (OSError, WebSocketException) as error:
            raise _unreachable(self._url, str(error) or type(error).__name__) from error

    async def open(self) -> Init:
        if self._socket is None:
            await self.upgrade()
        assert self._socket is not None
        try:
            init = await self._first()
        except BaseException:
            await self._socket.close()
            raise
        self._longest = init.longest
        if self._heartbeat is not None:
            beating = self._beat(self._socket, self._heartbeat)
            self._beating = asyncio.create_task(beating, name=f"rivet_ray pings {self._url}")
        return init

    async def send(self, message: ToServer) -> None:
        socket = self._socket
        if socket is None or socket.state is not State.OPEN:
            raise ConnectionClosed("The WebSocket is closed.", outcome=Outcome.NOT_STARTED)
        frame = encode_to_server(self._encoding, message)
        self._check_length(frame)
        try:
            await socket.send(frame, text=not self._encoding.binary)
        except SocketClosed as error:
            raise ConnectionClosed("The WebSocket closed.", outcome=Outcome.UNKNOWN) from error

    def __aiter__(self) -> AsyncIterator[Arrived]:
        return self

    async def __anext__(self) -> Arrived:
        if self._socket is None:
            raise StopAsyncIteration
        try:
            frame = await self._socket.recv()
            return decode_to_client(self._encoding, frame, self._most_items)
        except SocketClosed as error:
            if error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG:
                self._closing = unread(self._url, self._longest_read)
            raise StopAsyncIteration from None
        except DecodeFault as fault:
            self._closing = unreadable(self._url, fault)
            await self._socket.close(PROTOCOL_ERROR, "malformed_message")
            raise StopAsyncIteration from None

    async def leave(self) -> None:
        """The code of the close tells it."""

    async def close(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        if self._socket is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._socket.close()
        except TimeoutError:
            # What waits to be sent goes nowhere, and the closing waits behind it.
            self._socket.transport.abort()
            await self._socket.wait_closed()

    def _check_length(self, frame: bytes) -> None:
        """The server would close the socket, and with it end every other call."""
        longest = self._longest
        if longest is None or len(frame) <= longest:
            return
        # Of text it counts UTF-16 units, as JavaScript does.
        text = None if self._encoding.binary else frame.decode()
        length = len(frame) if text is None else ids.code_units(text)
        if length > longest:
            unit = "bytes" if self._encoding.binary else "characters"
            raise Refused(
                MessageTooLong(
                    f"A message has at most {longest} {unit}, and this one {length}. "
                    "Call the action on the handle, whose body may be longer.",
                    outcome=Outcome.NOT_STARTED,
                )
            )

    async def _beat(self, socket: ClientConnection, seconds: float) -> None:
        """Notice a server that is gone, and of which TCP still believes that it is there."""
        try:
            while True:
                await asyncio.sleep(seconds)
                async with asyncio.timeout(seconds):
                    await (await socket.ping())
        except TimeoutError:
            self._closing = Closing(ABNORMAL, f"no answer to a ping within {seconds:g} s")
            socket.transport.abort()
        except SocketClosed:
            return

    async def _first(self) -> Init:
        assert self._socket is not None
        try:
            message = decode_to_client(self._encoding, await self._socket.recv())
        except SocketClosed as error:
            raise self._refusal(self._read_closing()) from error
        except DecodeFault as fault:
            raise _unreachable(self._url, f"its first message cannot be read: {fault}") from fault
        if isinstance(message, Init):
            return message
        if isinstance(message, ErrorMessage):
            raise rebuild(message, None)
        raise _unreachable(self._url, f"its first message is {type(message).__name__}, not Init")

    def _read_closing(self) -> Closing:
        socket = self._socket
        if socket is None or socket.close_code is None:
            return Closing(ABNORMAL, "")
        return Closing(socket.close_code, socket.close_reason or "")

    def _refusal(self, closing: Closing) -> RivetError:
        """A close before Init: its reason is the code of an error."""
        if closing.code == SERVER_ERROR and _CODE.fullmatch(closing.reason):
            return from_code(closing.reason, f"The server refused the connection ({closing}).")
        return _unreachable(self._url, f"it closed the connection at once ({closing})")


@asynccontextmanager
async def raw_websocket(
    url: str, protocols: list[str], user_agent: str, longest: int
) -> AsyncGenerator[ClientConnection]:
    """A socket of no protocol of ours; `longest` is how many bytes a message may have.

    Raises RequestFailed where none can be opened.
    """
    try:
        socket = await connect(
            url,
            subprotocols=_tokens(protocols),
            compression=None,
            max_size=longest,
            close_timeout=CLOSE_TIMEOUT,
            user_agent_header=user_agent,
        )
    except (OSError, WebSocketException) as error:
        raise _unreachable(url, str(error) or type(error).__name__) from error
    try:
        yield socket
    finally:
        await socket.close()


def _tokens(protocols: list[str]) -> list[Subprotocol]:
    # encodeURIComponent leaves parentheses as they are, but a header's token has none.
    return [Subprotocol(protocol.replace("(", "%28").replace(")", "%29")) for protocol in protocols]


def _unreachable(url: str, why: str) -> RequestFailed:
    return RequestFailed(
        f"No connection to {url} could be opened: {why}. "
        "Is the server running? Start it with `rivet-ray dev`.",
        outcome=Outcome.NOT_STARTED,
    )
