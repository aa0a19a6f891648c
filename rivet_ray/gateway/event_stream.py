"""`GET /actors/connect/sse`: a connection whose client receives server-sent events.

What its client says comes with `POST /actors/message`; see `rivet_ray.gateway.message`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from rivet_ray.errors import RivetError
from rivet_ray.gateway.actions import not_found
from rivet_ray.gateway.admission import Admission
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.budgets import Budgets, Share
from rivet_ray.gateway.connection import CONNECT, Connection
from rivet_ray.gateway.fanout import EventFrames
from rivet_ray.gateway.negotiate import (
    ENCODING,
    PARAMS,
    QUERY,
    MissingHeaders,
    encoding_of,
    headers_of,
    params_of,
    query_of,
    request_info,
    require,
    resume_of,
)
from rivet_ray.gateway.outgoing import Events
from rivet_ray.gateway.responses import JSON, error_message, respond
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.gateway.statistics import GatewayStatistics
from rivet_ray.gateway.vanishing import cut, limit_unacknowledged, until_taken
from rivet_ray.protocol import v0
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.encodings import Encoding
from rivet_ray.protocol.event_stream import KEEP_ALIVE_HEADER, error_event, message_event
from rivet_ray.protocol.port import Deliver
from rivet_ray.protocol.queries import ActorQuery
from rivet_ray.protocol.subprotocols import Resume
from rivet_ray.store import ActorRecord

SERVICE_RESTART = 1012
FAREWELL = 5.0
"""Seconds for the streams to end by themselves when the server stops."""


class ConnectEventStream:
    """Opens the stream, then admits its client; refusals are the stream's only event."""

    def __init__(
        self,
        backend: Backend,
        admission: Admission,
        settings: GatewaySettings,
        frames: EventFrames,
        budgets: Budgets,
        statistics: GatewayStatistics,
    ) -> None:
        self._backend = backend
        self._admission = admission
        self._settings = settings
        self._frames = frames
        self._budgets = budgets
        self._statistics = statistics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await not_found(scope, receive, send)
            return
        headers = headers_of(scope)
        try:
            require(headers, QUERY, ENCODING)
        except MissingHeaders as missing:
            await respond(send, 400, missing.body, JSON)
            return
        try:
            encoding = encoding_of(headers)
        except RivetError as error:
            refusal = error_event(error.code)
        else:
            try:
                query = query_of(headers)
                caller, record = await self._admit(scope, headers, query)
            except Exception as error:
                refusal = _refusal(error, encoding)
            else:
                resume = resume_of(headers)
                await self._stream(scope, receive, send, encoding, caller, query, record, resume)
                return
        await self._response(_once(refusal))(scope, receive, send)

    async def _admit(
        self, scope: Scope, headers: dict[bytes, bytes], query: ActorQuery
    ) -> tuple[Caller, ActorRecord]:
        params = params_of(headers.get(PARAMS), self._settings.max_params_size)
        request = request_info(scope)
        resume = resume_of(headers)
        caller = await self._admission.admit(
            query, CONNECT, params, request, identify=True, resume=resume
        )
        return caller, await self._backend.directory.resolve(query)

    async def _stream(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        encoding: Encoding,
        caller: Caller,
        query: ActorQuery,
        record: ActorRecord,
        resume: Resume | None,
    ) -> None:
        limit_unacknowledged(scope, self._settings.unacknowledged_timeout)
        share, limit = self._budgets.of(caller), self._settings.max_queued_size
        events = Events(limit, self._budgets, share.budget, self._statistics)
        stopping = anyio.Event()
        stream = EventStream(
            self._backend,
            self._settings,
            encoding,
            record,
            events,
            self._frames,
            stopping,
            share,
            resume,
        )
        response = self._response(events.chunks(), stopping)
        sending = asyncio.ensure_future(response(scope, receive, until_taken(scope, send)))
        await stream.run(sending, caller, query)
        if sending.cancelled():
            await cut(scope, receive)

    def _response(
        self, chunks: AsyncIterator[bytes], stopping: anyio.Event | None = None
    ) -> EventSourceResponse:
        keep_alive = self._settings.keep_alive
        return EventSourceResponse(
            chunks,
            headers={KEEP_ALIVE_HEADER: f"{keep_alive:g}"} if keep_alive else None,
            sep="\n",
            ping=keep_alive,
            ping_message_factory=_keep_alive,
            shutdown_event=stopping,
            shutdown_grace_period=FAREWELL,
        )


def _keep_alive() -> ServerSentEvent:
    """A comment: it reaches the client, and its code never sees it."""
    return ServerSentEvent(comment="keep-alive", sep="\n")


def _refusal(error: Exception, encoding: Encoding) -> bytes:
    return message_event(encoding, v0.encode_to_client(encoding, error_message(error)))


async def _once(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


class EventStream(Connection):
    """A client at the other end of an event stream."""

    __slots__ = ("_events", "_stopping")

    def __init__(
        self,
        backend: Backend,
        settings: GatewaySettings,
        encoding: Encoding,
        record: ActorRecord,
        outgoing: Events,
        frames: EventFrames,
        stopping: anyio.Event,
        share: Share,
        resume: Resume | None,
    ) -> None:
        super().__init__(backend, settings, encoding, record, outgoing, frames, share, resume)
        self._events = outgoing
        self._stopping = stopping

    async def read(self) -> None:
        """Nothing comes on the stream; it lasts until the server stops."""
        await self._stopping.wait()
        self.closed(SERVICE_RESTART, "server_stopping")

    def refused(self, error: RivetError) -> None:
        self.tell(error_message(error))
        self._events.finish()
        self.ends()

    def frame(self, payload: bytes) -> bytes:
        return message_event(self.encoding, payload)

    def frame_of(self, message: Deliver) -> bytes:
        counted = self.resume is not None
        return self._frames.shaped(message, self.encoding, message_event, counted)
