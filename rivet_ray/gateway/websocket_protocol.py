"""The server's end of a WebSocket: uvicorn's, where each fault of a client has an answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, final

import websockets.http11
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.http11 import Request

from rivet_ray.errors import MalformedMessage, MessageTooLong, Overloaded
from rivet_ray.gateway.front import address_of, front_of

INTERNAL = 1011
INVALID_TEXT = 1007
TRY_AGAIN_LATER = 1013
BUSY = "The server holds too much that has not come to its end. Try again later.\n"
PIECE: Final = 2_048
"""Bytes that are parsed at once. A head that is no longer counts for nothing."""
LINGER: Final = 2.0
"""Seconds for a client to see why its socket is closed, while it sends a long message."""
LAST_WORDS = 1.0
"""Seconds for the close of a socket to leave, if a client is there that answers no ping."""
MAX_LINE: Final = 65_536
"""The longest header of an opening, in bytes. A subprotocol holds a whole query, with
its input, or the connection parameters, and each byte of theirs may take three."""

# The library's own way to say so is a variable of the environment, read at import.
websockets.http11.MAX_LINE_LENGTH = MAX_LINE


@final
class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Refuses what is no opening, and closes for text that is not UTF-8.

    uvicorn never answers an opening with a body, with more than 128 headers or with
    a line that is too long, and keeps its socket for ever. For text that is
    not UTF-8, and for bad frames that come before the answer to the opening, it logs
    a traceback, so that any client could fill the log. And it waits for a client
    that answers no ping as long as something is to be written to it.

    It also bounds what is held for a client: the longest message by the path, and all
    that is unfinished against the bound of all clients.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._front = front_of(self.config)
        self._connects = False
        """It is a connection of the documented dialect, and no raw socket."""
        self._unfinished = bytearray()
        """The pieces of a message that has not come to its end."""
        self._rest = b""
        """What has come, and waits until the messages before it are taken."""
        self._held = 0
        """Bytes that count against the bound of all clients."""
        self._head = 0
        self._parting = False
        """It is closed for what came: what still comes is thrown away."""

    # --- What comes ---------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._parting:
            return
        if not self.handshake_initiated and len(data) > PIECE:
            self._head = len(data)
        self._feed(self._rest + data if self._rest else data)

    def _feed(self, data: bytes) -> None:
        """Parse, until there is a message for the application.

        Piece by piece, because a message of no length has six bytes on the wire and
        300 in the queue.
        """
        self._rest = b""
        for start in range(0, len(data), PIECE):
            super().data_received(data[start : start + PIECE])
            fault = self.conn.handshake_exc
            if fault is not None and not self.handshake_initiated and not self.close_sent:
                # The library has an answer to what is too long, and none to all else.
                self._refuse(fault.__cause__ or fault, b"".join(self.conn.data_to_send()))
            if self._parting or self.disconnected or self.transport.is_closing():
                break
            if self.read_paused:
                self._rest = data[start + PIECE :]
                break
        self._count()

    def _count(self) -> None:
        held = self._head + len(self.conn.reader.buffer) + len(self._unfinished) + len(self._rest)
        if self._parting or self.disconnected:
            held = 0
        if held < self._held:
            self._front.unread.give_back(self._held - held)
        elif held > self._held and not self._front.unread.fits(held - self._held):
            if self.handshake_complete:
                self._part(TRY_AGAIN_LATER, Overloaded.code)
            else:
                self._refuse(Overloaded(), self.conn.reject(503, BUSY).serialize())
            held = 0
            self._front.unread.give_back(self._held)
        self._held = held

    async def receive(self) -> Any:
        message = await super().receive()
        self._go_on()
        return message

    def _go_on(self) -> None:
        if self._rest and not self.read_paused and not self._parting:
            self._feed(self._rest)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest = b""
        self._count()
        self._front.left(address_of(self.transport))

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        front = self._front
        self._connects = front.connects(event.path)
        largest = front.message_size(event.path)
        self.conn.max_message_size = min(largest, self.config.ws_max_size)

    def handle_text(self, event: Frame) -> None:
        self.curr_msg_data_type = "text"
        self._begin(event)

    def handle_bytes(self, event: Frame) -> None:
        self.curr_msg_data_type = "bytes"
        self._begin(event)

    def _begin(self, event: Frame) -> None:
        if event.fin:
            self._deliver(bytes(event.data))
        else:
            self._unfinished = bytearray(event.data)

    def handle_cont(self, event: Frame) -> None:
        """Into one buffer: the pieces may be many, and have no length."""
        self._unfinished += event.data
        if event.fin:
            data, self._unfinished = bytes(self._unfinished), bytearray()
            self._deliver(data)

    def handle_ping(self) -> None:
        """Who does not read gets no answers either, which would gather without end."""
        pongs = self.conn.data_to_send()
        if self.writable.is_set():
            self.transport.write(b"".join(pongs))

    # --- What ends it ---------------------------------------------------------------

    def handle_parser_exception(self) -> None:
        if isinstance(self.conn.parser_exc, PayloadTooBig) and self.handshake_complete:
            self._front.statistics.messages_too_long += 1
            if self._connects:
                self._part(INTERNAL, MessageTooLong.code)
            else:
                self._part(CloseCode.MESSAGE_TOO_BIG, MessageTooLong.code)
            return
        if self.conn.close_sent is None:
            if not self.close_sent:
                self._refuse(self.conn.parser_exc or MalformedMessage("Frames came too early."))
            return
        super().handle_parser_exception()

    async def send(self, message: Any) -> None:
        """Returns once the socket can take more, so that the sender knows what still waits."""
        await super().send(message)
        if message["type"] == "websocket.send":
            await self.writable.wait()
        elif message["type"] == "websocket.close":
            self._go_on()  # Its client's own close may be in there.

    def _part(self, code: int, reason: str) -> None:
        """Close, and throw away what still comes until the client has seen why.

        With something unread the system would close with a reset, which overtakes it.
        """
        self.conn.data_to_send()  # The library has a close of its own.
        if not self.close_sent:
            close = Frame(Opcode.CLOSE, Close(code, reason).serialize())
            self.transport.write(close.serialize(mask=False))
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._parting = self.close_sent = True
        self._unfinished, self._rest = bytearray(), b""
        self.stop_keepalive()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(LINGER, self.transport.close)

    def _refuse(self, fault: BaseException, answer: bytes = b"") -> None:
        if not answer:
            text = f"Failed to open a WebSocket connection: {fault}.\n"
            answer = self.conn.reject(HTTPStatus.BAD_REQUEST, text).serialize()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        self.handshake_complete = self.close_sent = self.disconnected = True
        self.transport.write(answer)
        self.transport.close()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # It closes behind what waits to be sent, and nobody takes that any more.
        self.loop.call_later(LAST_WORDS, self.transport.abort)

    def _deliver(self, data: bytes) -> None:
        if self.close_sent:
            return  # The application has closed; what its client says is not read any more.
        message: Any = {"type": "websocket.receive"}
        if self.curr_msg_data_type == "text":
            try:
                message["text"] = data.decode()
            except UnicodeDecodeError:
                self.conn.fail(INVALID_TEXT, MalformedMessage.code)
                self.handle_parser_exception()
                return
        else:
            message["bytes"] = data
        self.queue.put_nowait(message)
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()
