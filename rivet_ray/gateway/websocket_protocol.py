"""The server's end of a WebSocket: uvicorn's, where each fault of a client has an answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, final

import websockets.http11
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from rivet_ray.errors import MalformedMessage

INVALID_TEXT = 1007
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
    """

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        fault = self.conn.handshake_exc
        if fault is not None and not self.handshake_initiated and not self.close_sent:
            # The library has an answer to what is too long, and none to all else.
            self._refuse(fault.__cause__ or fault, b"".join(self.conn.data_to_send()))

    def handle_parser_exception(self) -> None:
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

    def send_receive_event_to_app(self) -> None:
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
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
