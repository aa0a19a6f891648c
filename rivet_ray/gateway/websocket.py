"""`GET /actors/connect/websocket`: a connection of the v0 dialect."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial

from starlette.types import Message, Receive, Scope, Send

from rivet_ray import ids
from rivet_ray.errors import (
    InternalError,
    InvalidQueryJSON,
    MalformedMessage,
    MessageTooLong,
    Outcome,
    Overloaded,
    RivetError,
)
from rivet_ray.gateway.actions import not_found
from rivet_ray.gateway.admission import Admission
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.fanout import EventFrames
from rivet_ray.gateway.negotiate import encoding_named, params_of, request_info
from rivet_ray.gateway.responses import error_message
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.gateway.socket import INTERNAL, Outgoing, fit
from rivet_ray.protocol import v0
from rivet_ray.protocol.encodings import Encoding
from rivet_ray.protocol.port import Caller, Deliver, Failed, Reply
from rivet_ray.protocol.queries import Intent, decode_query
from rivet_ray.store import ActorRecord

log = logging.getLogger("rivet_ray.gateway")

CONNECT = frozenset[Intent]({"connect"})
PROTOCOL = "rivetkit"


class ConnectWebSocket:
    """Accepts the socket, then admits it; refusals come as a close with a code.

    The upgrade itself is never refused, because clients learn nothing from a
    refused one.
    """

    def __init__(self, backend: Backend, admission: Admission, settings: GatewaySettings) -> None:
        self._backend = backend
        self._admission = admission
        self._settings = settings
        self._frames = EventFrames()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await not_found(scope, receive, send)
            return
        await receive()
        offered: list[str] = scope.get("subprotocols", [])
        chosen = PROTOCOL if PROTOCOL in offered else None
        await send({"type": "websocket.accept", "subprotocol": chosen})
        try:
            await self._serve(scope, receive, send, offered)
        except OSError:
            return  # The client left while we wrote.

    async def _serve(self, scope: Scope, receive: Receive, send: Send, offered: list[str]) -> None:
        encoding: Encoding | None = None
        try:
            asked = v0.parse_protocols(offered)
            if asked.encoding is not None or asked.query is not None:
                encoding = encoding_named(asked.encoding)
            if asked.query is None or encoding is None:
                raise InvalidQueryJSON("The subprotocol query.<JSON> is missing.")
            query = decode_query(asked.query)
            params = params_of(asked.params, self._settings.max_params_size)
            request = request_info(scope)
            caller = await self._admission.admit(query, CONNECT, params, request)
            # An actor that does not exist is told as any other refusal, before Init.
            record = await self._backend.directory.resolve(query)
        except Exception as error:
            await _refuse(send, error, encoding)
            return
        await Socket(self._backend, self._settings, self._frames, encoding, record, send).run(
            receive, caller
        )


async def _refuse(send: Send, error: Exception, encoding: Encoding | None) -> None:
    """Setup failed: the error as a message where its encoding is known, then 1011."""
    message = error_message(error)
    if encoding is not None:
        frame = v0.encode_to_client(encoding, message)
        key = "bytes" if encoding.binary else "text"
        await send({"type": "websocket.send", key: frame if encoding.binary else frame.decode()})
    await send({"type": "websocket.close", "code": INTERNAL, "reason": fit(message.code)})


class Socket:
    """One connected client; see `rivet_ray.runtime.Sink`."""

    __slots__ = (
        "_backend",
        "_encoding",
        "_ending",
        "_frames",
        "_id",
        "_in_flight",
        "_outgoing",
        "_record",
        "_settings",
        "_token",
        "_waiting",
        "_waiting_size",
    )

    def __init__(
        self,
        backend: Backend,
        settings: GatewaySettings,
        frames: EventFrames,
        encoding: Encoding,
        record: ActorRecord,
        send: Send,
    ) -> None:
        self._backend = backend
        self._settings = settings
        self._frames = frames
        self._encoding = encoding
        self._record = record
        self._outgoing = Outgoing(send, encoding, settings.max_queued_frames)
        self._id = ids.connection_id()
        self._token = ids.connection_token()
        self._in_flight = 0
        self._waiting: deque[v0.ActionRequest] = deque()
        self._waiting_size = 0
        self._ending = asyncio.Event()
        """Set when the connection is to be closed."""

    async def run(self, receive: Receive, caller: Caller) -> None:
        """Serve the client until either side ends the connection."""
        calls = self._backend.calls
        writer = asyncio.ensure_future(self._outgoing.write())
        reader = asyncio.ensure_future(self._attach_then_read(receive, caller))
        ending = asyncio.ensure_future(self._ending.wait())
        tasks = (writer, reader, ending)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._ending.is_set():
                # A client that does not read cannot be told; it is not waited for.
                await asyncio.wait((writer,), timeout=self._settings.close_timeout)
        finally:
            calls.detach(self._id)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _attach_then_read(self, receive: Receive, caller: Caller) -> None:
        """Read until the client leaves, or until something of it cannot be read."""
        try:
            await self._backend.calls.attach(self._record.id, self._id, self._token, caller, self)
        except RivetError as error:
            self.closed(INTERNAL, error_message(error).code)
            return
        try:
            while True:
                message = await receive()
                if message["type"] != "websocket.receive":
                    return
                self._handle(message)
        except RivetError as error:
            log.warning("a connection to %s is closed: %s", self._record.name, error)
            self.closed(INTERNAL, error.code)
        except Exception:
            log.exception("a connection to %s failed", self._record.name)
            self.closed(INTERNAL, "internal_error")

    def _handle(self, message: Message) -> None:
        text: str | None = message.get("text")
        frame = text if text is not None else message["bytes"]
        limit = self._settings.max_incoming_message_size
        if len(frame) > limit:
            raise MessageTooLong(f"A message of {len(frame)} is longer than {limit}.")
        if (text is None) != self._encoding.binary:
            raise MalformedMessage("The frame type does not fit the encoding.")
        asked = v0.decode_to_server(self._encoding, frame)
        if isinstance(asked, v0.SubscriptionRequest):
            self._backend.calls.subscribe(self._record.id, self._id, asked.event, asked.subscribe)
            return
        if self._waiting or self._in_flight >= self._settings.max_in_flight:
            self._wait(asked)
        else:
            self._start(asked)

    def _wait(self, asked: v0.ActionRequest) -> None:
        """Reading goes on while actions wait, so that a client that leaves is noticed."""
        size = len(asked.arguments)
        if self._waiting_size + size > self._settings.max_waiting_size:
            overloaded = Overloaded(
                "Too many actions of this connection wait.", outcome=Outcome.NOT_STARTED
            )
            self._put(error_message(overloaded, asked.id))
            return
        self._waiting_size += size
        self._waiting.append(asked)

    def _start(self, asked: v0.ActionRequest) -> None:
        self._in_flight += 1
        self._backend.calls.start(
            self._record.id,
            asked.name,
            asked.arguments,
            partial(self._answer, asked.id),
            connection=self._id,
            key=asked.key,
        )

    def _answer(self, action_id: int, answer: Reply | Failed) -> None:
        self._in_flight -= 1
        if self._waiting and self._in_flight < self._settings.max_in_flight:
            waiting = self._waiting.popleft()
            self._waiting_size -= len(waiting.arguments)
            asyncio.get_running_loop().call_soon(self._start, waiting)
        if isinstance(answer, Reply):
            message: v0.ToClient = v0.ActionResponse(action_id, answer.output)
        else:
            failure = answer.failure
            message = v0.ErrorMessage(
                failure.code, failure.message, failure.metadata, action_id, failure.outcome
            )
        self._put(message)

    def _put(self, message: v0.ToClient) -> None:
        try:
            frame = v0.encode_to_client(self._encoding, message)
        except ValueError as error:
            log.error("an answer of %s cannot be sent: %s", self._record.name, error)
            action = message.id if isinstance(message, v0.ActionResponse) else None
            if isinstance(message, v0.ErrorMessage):
                action = message.action_id
            hidden = InternalError(outcome=Outcome.TOOK_EFFECT)
            frame = v0.encode_to_client(self._encoding, error_message(hidden, action))
        self._outgoing.put(frame)
        if self._outgoing.slow:
            self._ending.set()

    # --- Sink -------------------------------------------------------------

    def attached(self) -> None:
        self._put(v0.Init(self._record.id, self._id, self._token))

    def deliver(self, message: Deliver) -> None:
        self._outgoing.put(self._frames.frame(message, self._encoding))
        if self._outgoing.slow:
            self._ending.set()

    def closed(self, code: int, reason: str) -> None:
        self._outgoing.close(code, reason)
        self._ending.set()
