"""A connection, whatever carries it: its actions, and what its client is told."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable
from functools import partial

import msgspec

from rivet_ray import ids
from rivet_ray.errors import (
    ConnectionNotFound,
    InternalError,
    InvalidActionRequest,
    Outcome,
    Overloaded,
    RivetError,
)
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.outgoing import SLOW, Outgoing
from rivet_ray.gateway.responses import error_message
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.protocol import v0
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.encodings import Encoding
from rivet_ray.protocol.port import (
    Ask,
    Attached,
    Deliver,
    Failed,
    Leave,
    Reply,
    Said,
    Unreadable,
    Want,
    own_status,
)
from rivet_ray.protocol.queries import Intent
from rivet_ray.protocol.subprotocols import Resume
from rivet_ray.store import ActorRecord

log = logging.getLogger("rivet_ray.gateway")

CONNECT = frozenset[Intent]({"connect"})
NORMAL = 1000
MAY_COME_BACK = frozenset({"server_stopping", SLOW, "taken_over"})
"""Reasons of closes after which a connection is kept for a client that counts events."""


class Connection(ABC):
    """One connected client; see `rivet_ray.runtime.Sink`."""

    __slots__ = (
        "_draining",
        "_ending",
        "_in_flight",
        "_waiting",
        "_waiting_size",
        "backend",
        "encoding",
        "id",
        "left",
        "outgoing",
        "record",
        "resume",
        "settings",
        "token",
    )

    def __init__(
        self,
        backend: Backend,
        settings: GatewaySettings,
        encoding: Encoding,
        record: ActorRecord,
        outgoing: Outgoing,
        resume: Resume | None = None,
    ) -> None:
        self.backend = backend
        self.settings = settings
        self.encoding = encoding
        self.record = record
        self.outgoing = outgoing
        self.id = ids.connection_id()
        self.token = ids.connection_token()
        self.resume = resume
        self.left = False
        """The client said goodbye, or was told that the connection is over."""
        self._in_flight = 0
        self._waiting: deque[Ask] = deque()
        self._waiting_size = 0
        self._draining = False
        self._ending = asyncio.Event()
        """Set when the connection is to be closed."""

    # --- What a transport adds ----------------------------------------------

    @abstractmethod
    async def read(self) -> None:
        """Read until the client leaves. Raises RivetError for what cannot be read."""

    @abstractmethod
    def refused(self, error: RivetError) -> None:
        """The actor did not let the client in: tell it, and close."""

    @abstractmethod
    def put(self, payload: bytes) -> None:
        """Send an encoded message."""

    @abstractmethod
    def deliver(self, message: Deliver) -> None:
        """See `rivet_ray.runtime.Sink`."""

    # --- Life -----------------------------------------------------------------

    async def run(self, writing: Awaitable[None], caller: Caller) -> None:
        """Serve the client until either side ends the connection.

        `writing` ends when the client has left or been closed.
        """
        writer = asyncio.ensure_future(writing)
        reader = asyncio.ensure_future(self._attach_then_read(caller))
        ending = asyncio.ensure_future(self._ending.wait())
        tasks = (writer, reader, ending)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._ending.is_set():
                # A client that does not read cannot be told; it is not waited for.
                await asyncio.wait((writer,), timeout=self.settings.close_timeout)
        finally:
            # One that counts events and was cut off may come back.
            keep = self.resume is not None and not self.left
            self.backend.calls.detach(self.id, self, keep=keep)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _attach_then_read(self, caller: Caller) -> None:
        calls, resume = self.backend.calls, self.resume
        try:
            if resume is None or resume.connection is None or resume.token is None:
                await calls.attach(self.record.id, self.id, self.token, caller, self)
            else:
                await self._claim(resume.connection, resume.token, resume.seen, caller)
        except RivetError as error:
            self.left = True
            self.refused(error)
            return
        await self.read()

    async def _claim(self, connection: str, token: str, seen: int, caller: Caller) -> None:
        """Go on with a connection, or open another one where that has ended.

        Its id in Init tells the client which of the two it was.
        """
        calls, fresh = self.backend.calls, self.id
        self.id = connection
        try:
            await calls.claim(self.record.id, connection, token, caller, self, seen)
        except ConnectionNotFound:
            self.id = fresh
            await calls.attach(self.record.id, self.id, self.token, caller, self)

    def ends(self) -> None:
        """What waits for the client is written, and then the connection ends."""
        self._ending.set()

    # --- What the client says -------------------------------------------------

    def handed(self, said: Said) -> None:
        if self._ending.is_set():
            return  # Somebody else may have the connection by now.
        if isinstance(said, Ask):
            if self._waiting or self._in_flight >= self.settings.max_in_flight:
                self._wait(said)
            else:
                self._start(said)
        elif isinstance(said, Leave):
            self.closed(NORMAL, "left")
        elif isinstance(said, Unreadable):
            self.tell(error_message(InvalidActionRequest(said.problem), said.id))
        else:
            self.backend.calls.subscribe(self.record.id, self.id, said.event, said.subscribed)

    def _wait(self, asked: Ask) -> None:
        """Reading goes on while actions wait, so that a client that leaves is noticed."""
        size = len(asked.arguments)
        if self._waiting_size + size > self.settings.max_waiting_size:
            overloaded = Overloaded(
                "Too many actions of this connection wait.", outcome=Outcome.NOT_STARTED
            )
            self.tell(error_message(overloaded, asked.id))
            return
        self._waiting_size += size
        self._waiting.append(asked)

    def _drain(self) -> None:
        """Start what waits, in order: it is in the queue until then, so nothing overtakes it."""
        self._draining = False
        while self._waiting and self._in_flight < self.settings.max_in_flight:
            waiting = self._waiting.popleft()
            self._waiting_size -= len(waiting.arguments)
            self._start(waiting)

    def _start(self, asked: Ask) -> None:
        self._in_flight += 1
        self.backend.calls.start(
            self.record.id,
            asked.action,
            asked.arguments,
            partial(self._answer, asked.id),
            connection=self.id,
            key=asked.key,
        )

    def _answer(self, action_id: int, answer: Reply | Failed) -> None:
        self._in_flight -= 1
        if self._waiting and not self._draining:
            self._draining = True
            asyncio.get_running_loop().call_soon(self._drain)
        if isinstance(answer, Reply):
            message: v0.ToClient = v0.ActionResponse(action_id, answer.output)
        else:
            failure = answer.failure
            message = v0.ErrorMessage(
                failure.code,
                failure.message,
                failure.metadata,
                action_id,
                failure.outcome,
                own_status(failure.code, failure.status),
            )
        self.tell(message)

    # --- What the client is told ----------------------------------------------

    def tell(self, message: v0.ToClient) -> None:
        """Send a message; one without a wire form becomes an error of the same action."""
        try:
            payload = v0.encode_to_client(self.encoding, message)
        except ValueError as error:
            log.error("an answer of %s cannot be sent: %s", self.record.name, error)
            action = message.id if isinstance(message, v0.ActionResponse) else None
            if isinstance(message, v0.ErrorMessage):
                action = message.action_id
            hidden = InternalError(outcome=Outcome.TOOK_EFFECT)
            payload = v0.encode_to_client(self.encoding, error_message(hidden, action))
        self.put(payload)

    def send(self, frame: bytes) -> None:
        """Queue what the transport writes."""
        self.outgoing.put(frame)
        if self.outgoing.slow:
            self.ends()

    # --- Sink -----------------------------------------------------------------

    def attached(self, message: Attached) -> None:
        self.token = message.token or self.token
        init = v0.Init(self.record.id, self.id, self.token)
        if self.resume is not None:
            init = msgspec.structs.replace(
                init,
                sequence=message.sequence,
                longest=self.settings.max_incoming_message_size,
            )
        self.tell(init)

    def closed(self, code: int, reason: str) -> None:
        self.left = self.left or reason not in MAY_COME_BACK
        if self.left and self.resume is not None:
            # Now, and not when it is written: its client may be back before that.
            self.backend.calls.detach(self.id, self)
        self.outgoing.close(code, reason)
        self.ends()


def said_of(message: v0.Received) -> Said:
    """What a client's message says, whatever the dialect."""
    if isinstance(message, v0.UnreadableRequest):
        return Unreadable(message.id, message.problem)
    if isinstance(message, v0.ActionRequest):
        return Ask(message.id, message.name, message.arguments, message.key)
    if isinstance(message, v0.Goodbye):
        return Leave()
    return Want(message.event, message.subscribe)
