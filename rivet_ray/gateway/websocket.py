"""`GET /actors/connect/websocket`: a connection of the v0 dialect."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send

from rivet_ray import ids
from rivet_ray.errors import (
    InvalidQueryJSON,
    InvalidRequest,
    MalformedMessage,
    MessageTooLong,
    RivetError,
)
from rivet_ray.gateway.actions import not_found
from rivet_ray.gateway.admission import Admission
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.budgets import Budgets, Share
from rivet_ray.gateway.codec import Codec
from rivet_ray.gateway.connection import CONNECT, Connection
from rivet_ray.gateway.deflate import without_deflate
from rivet_ray.gateway.fanout import EventFrames
from rivet_ray.gateway.message import said_of
from rivet_ray.gateway.negotiate import (
    ClientGone,
    encoding_named,
    first_params,
    params_of,
    request_info,
)
from rivet_ray.gateway.origins import raise_refusal
from rivet_ray.gateway.outgoing import INTERNAL, Frames, fit
from rivet_ray.gateway.responses import error_message
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.gateway.statistics import GatewayStatistics
from rivet_ray.protocol import older, v0
from rivet_ray.protocol.encodings import Encoding
from rivet_ray.protocol.port import Deliver
from rivet_ray.protocol.queries import decode_query
from rivet_ray.protocol.subprotocols import Resume, parse_protocols
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.store import ActorRecord

log = logger_of_strangers("rivet_ray.gateway")

PROTOCOL = "rivetkit"
GOODBYE = (1000, 1001)
"""Codes of a client that leaves on purpose; any other is a cut."""


class ConnectWebSocket:
    """Accepts the socket, then admits it; refusals come as a close with a code.

    The upgrade itself is never refused, because clients learn nothing from a
    refused one.
    """

    def __init__(
        self,
        backend: Backend,
        admission: Admission,
        settings: GatewaySettings,
        frames: EventFrames,
        budgets: Budgets,
        codec: Codec,
        statistics: GatewayStatistics,
    ) -> None:
        self._backend = backend
        self._admission = admission
        self._settings = settings
        self._frames = frames
        self._budgets = budgets
        self._codec = codec
        self._statistics = statistics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await not_found(scope, receive, send)
            return
        await receive()
        offered: list[str] = scope.get("subprotocols", [])
        chosen = PROTOCOL if PROTOCOL in offered else None
        without_deflate(scope, send)
        await send({"type": "websocket.accept", "subprotocol": chosen})
        try:
            await self._serve(scope, receive, send, offered)
        except OSError:
            return  # The client left while we wrote.

    async def _serve(self, scope: Scope, receive: Receive, send: Send, offered: list[str]) -> None:
        encoding: Encoding | None = None
        try:
            asked = parse_protocols(offered)
            by_address = asked.query is None and asked.encoding is None
            if by_address:
                asked = older.parse_address(scope["query_string"])
            if asked.encoding is not None or asked.query is not None:
                encoding = encoding_named(asked.encoding, exact=asked.exact)
            raise_refusal(scope)
            if asked.query is None or encoding is None:
                raise InvalidQueryJSON("The subprotocol query.<JSON> is missing.")
            query = decode_query(asked.query)
            if by_address:
                params = await self._first_message(receive, encoding)
            else:
                params = params_of(asked.params, self._settings.max_params_size)
            request = request_info(scope)
            caller = await self._admission.admit(
                query, CONNECT, params, request, identify=True, resume=asked.resume
            )
            # An actor that does not exist is told as any other refusal, before Init.
            record = await self._backend.directory.resolve(query)
        except ClientGone:
            return
        except Exception as error:
            await _refuse(send, error, encoding)
            return
        share, limit = self._budgets.of(caller), self._settings.max_queued_size
        frames = Frames(limit, self._budgets, share.budget, self._statistics)
        socket = Socket(
            self._backend,
            self._settings,
            encoding,
            record,
            frames,
            self._frames,
            receive,
            share,
            self._codec,
            asked.resume,
        )
        await socket.run(frames.write(send, binary=encoding.binary), caller, query)

    async def _first_message(self, receive: Receive, encoding: Encoding) -> bytes | None:
        """The parameters of a client that speaks the older form; nothing is done before."""
        settings = self._settings
        try:
            async with asyncio.timeout(settings.params_timeout):
                message = await receive()
        except TimeoutError as error:
            late = f"The first message did not come within {settings.params_timeout:g} s."
            raise InvalidRequest(late) from error
        if message["type"] != "websocket.receive":
            raise ClientGone
        text: str | None = message.get("text")
        frame = text if text is not None else message["bytes"]
        if len(frame) > settings.max_incoming_message_size:
            raise MessageTooLong(f"The first message of {len(frame)} is too long.")
        return first_params(encoding, frame, settings.max_params_size)


async def _refuse(send: Send, error: Exception, encoding: Encoding | None) -> None:
    """Setup failed: the error as a message where its encoding is known, then 1011."""
    message = error_message(error)
    if encoding is not None:
        frame = v0.encode_to_client(encoding, message)
        key = "bytes" if encoding.binary else "text"
        await send({"type": "websocket.send", key: frame if encoding.binary else frame.decode()})
    await send({"type": "websocket.close", "code": INTERNAL, "reason": fit(message.code)})


class Socket(Connection):
    """A client at the other end of a WebSocket."""

    __slots__ = ("_codec", "_receive")

    def __init__(
        self,
        backend: Backend,
        settings: GatewaySettings,
        encoding: Encoding,
        record: ActorRecord,
        outgoing: Frames,
        frames: EventFrames,
        receive: Receive,
        share: Share,
        codec: Codec,
        resume: Resume | None,
    ) -> None:
        super().__init__(backend, settings, encoding, record, outgoing, frames, share, resume)
        self._receive = receive
        self._codec = codec

    async def read(self) -> None:
        """Read until the client leaves, or until something of it cannot be read."""
        try:
            while True:
                message = await self._receive()
                if message["type"] != "websocket.receive":
                    self.left = message.get("code") in GOODBYE
                    return
                await self._handle(message)
        except RivetError as error:
            log.warning("a connection to %s is closed: %s", self.record.name, error, extra=REPEATED)
            self.closed(INTERNAL, error.code)
        except Exception:
            log.exception("a connection to %s failed", self.record.name, extra=REPEATED)
            self.closed(INTERNAL, "internal_error")

    async def _handle(self, message: Message) -> None:
        text: str | None = message.get("text")
        frame = text if text is not None else message["bytes"]
        limit = self.settings.max_incoming_message_size
        # Code points are never more than UTF-16 units, and never less than half of them.
        if 2 * len(frame) > limit and (size := _size(frame)) > limit:
            raise MessageTooLong(f"A message of {size} is longer than {limit}.")
        if (text is None) != self.encoding.binary:
            raise MalformedMessage("The frame type does not fit the encoding.")
        said = await self._codec.read(v0.decode_to_server, self.encoding, frame, MalformedMessage)
        self.handed(said_of(said))

    def refused(self, error: RivetError) -> None:
        self.closed(INTERNAL, error_message(error).code)

    def frame(self, payload: bytes) -> bytes:
        return payload

    def frame_of(self, message: Deliver) -> bytes:
        return self._frames.frame(message, self.encoding, self.resume is not None)


def _size(frame: bytes | str) -> int:
    """In bytes, or for text in UTF-16 units, as JavaScript counts."""
    return len(frame) if isinstance(frame, bytes) else ids.code_units(frame)
