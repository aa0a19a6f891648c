"""A connection, whatever carries it: its actions, and what its client is told."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from functools import partial

import msgspec

from rivet_ray import ids
from rivet_ray.budget import KIB, Budget
from rivet_ray.errors import (
    ActorNotFound,
    ConnectionNotFound,
    InternalError,
    InvalidActionRequest,
    MessageTooLong,
    Outcome,
    Overloaded,
    RivetError,
    TooManySubscriptions,
)
from rivet_ray.gateway.asked import Asked
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.budgets import Share
from rivet_ray.gateway.fanout import EventFrames
from rivet_ray.gateway.outgoing import OVERHEAD, SLOW, Outgoing
from rivet_ray.gateway.responses import error_message, inexact, without_metadata
from rivet_ray.gateway.seals import Seal, seal_of
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.protocol import v0
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.encodings import EncodeFault, Encoding, IntegerFault
from rivet_ray.protocol.port import (
    Ask,
    Attached,
    Deliver,
    Failed,
    Leave,
    Reply,
    Said,
    Unreadable,
    own_status,
    subscription_cost,
)
from rivet_ray.protocol.queries import ActorQuery, Create, GetById, Intent
from rivet_ray.protocol.subprotocols import Resume
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.store import ActorRecord

log = logger_of_strangers("rivet_ray.gateway")

CONNECT = frozenset[Intent]({"connect"})
NORMAL = 1000
TOO_MANY = (
    "The connection subscribes to too many events, or to one whose name is too long. "
    "End subscriptions that are not needed."
)
SHORT_REQUEST = 8 * KIB
"""Bytes of a request that count for nothing: connections are bounded by their number too."""
MOST_LEFT_OUT = 64
"""Events of which a connection is told that some are left out."""
MAY_COME_BACK = frozenset({"server_stopping", SLOW, "taken_over"})
"""Reasons of closes after which a connection is kept for a client that counts events."""


class Connection(ABC):
    """One connected client; see `rivet_ray.runtime.Sink`."""

    __slots__ = (
        "_asked",
        "_ending",
        "_frames",
        "_kept",
        "_left_out",
        "_share",
        "_subscriptions",
        "_wanted",
        "backend",
        "encoding",
        "id",
        "left",
        "outgoing",
        "record",
        "resume",
        "seal",
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
        frames: EventFrames,
        share: Share,
        resume: Resume | None = None,
    ) -> None:
        self.backend = backend
        self.settings = settings
        self.encoding = encoding
        self.record = record
        self.outgoing = outgoing
        self._frames = frames
        self._left_out: set[str] | None = None
        """Events of which the client knows that some are left out."""
        self.id = ids.connection_id()
        self.token = ids.connection_token()
        self.seal: Seal | None = None
        self.resume = resume
        self.left = False
        """The client said goodbye, or was told that the connection is over."""
        self._share = share
        self._kept = 0
        self._asked = Asked(settings, outgoing, share.incoming, self._start)
        limit = settings.max_subscriptions_size
        self._subscriptions = Budget("subscriptions", limit, share.incoming)
        self._wanted: dict[str, None] = {}
        """The events of its subscriptions."""
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
    def frame(self, payload: bytes) -> bytes:
        """An encoded message as the transport writes it."""

    @abstractmethod
    def frame_of(self, message: Deliver) -> bytes:
        """An event as it is sent. Raises EncodeFault."""

    # --- Life -----------------------------------------------------------------

    async def run(self, writing: Awaitable[None], caller: Caller, query: ActorQuery) -> None:
        """Serve the client until either side ends the connection.

        `writing` ends when the client has left or been closed; `query` has led to the actor.
        """
        writer = asyncio.ensure_future(writing)
        reader = asyncio.ensure_future(self._attach_then_read(caller, query))
        ending = asyncio.ensure_future(self._ending.wait())
        tasks = (writer, reader, ending)
        self.outgoing.begin(self)
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
            self.outgoing.end()
            self._asked.end()
            self._subscriptions.end()
            self._share.incoming.give_back(self._kept)

    async def _attach_then_read(self, caller: Caller, query: ActorQuery) -> None:
        try:
            # Hooks may look at the request for as long as the connection lives.
            self._share.incoming.take(long := max(0, caller.cost - SHORT_REQUEST))
            self._kept = long
            self.seal = await seal_of(self.backend.directory)
            if not await self._claim(caller):
                await self._attach(caller, query)
        except RivetError as error:
            self.left = True
            self.refused(error)
            return
        await self.read()

    async def _attach(self, caller: Caller, query: ActorQuery) -> None:
        """Open a connection, to the actor's next life where it is being destroyed."""

        async def attach(record: ActorRecord) -> None:
            self.record = record
            await self.backend.calls.attach(record.id, self.id, self.token, caller, self)

        if isinstance(query, (GetById, Create)):  # An id has one life; create makes another actor.
            await attach(self.record)
        else:
            await self.backend.directory.reach(query, attach)

    async def _claim(self, caller: Caller) -> bool:
        """Go on with a connection that was cut off; whether it is there.

        Its id in Init tells the client which of the two it was. A token that was made up
        claims nothing.
        """
        resume, fresh = self.resume, self.id
        if resume is None or resume.connection is None or resume.token is None:
            return False
        actor, calls = self.record.id, self.backend.calls
        assert self.seal is not None
        opened = self.seal.opened(actor, resume.connection, resume.token)
        if opened is None:
            return False
        self.id = resume.connection
        try:
            await calls.claim(actor, self.id, opened, caller, self, resume.seen)
        except (ConnectionNotFound, ActorNotFound):
            self.id = fresh
            return False
        return True

    def ends(self) -> None:
        """What waits for the client is written, and then the connection ends."""
        self._ending.set()

    # --- What the client says -------------------------------------------------

    def handed(self, said: Said) -> None:
        if self._ending.is_set():
            return  # Somebody else may have the connection by now.
        if isinstance(said, Ask):
            self._ask(said)
        elif isinstance(said, Leave):
            self.closed(NORMAL, "left")
        elif isinstance(said, Unreadable):
            self.tell(error_message(InvalidActionRequest(said.problem), said.id))
        elif said.subscribed:
            self._subscribe(said.event)
        else:
            self._unsubscribe(said.event)

    def _subscribe(self, event: str) -> None:
        if event not in self._wanted:
            if not self._subscriptions.fits(subscription_cost(event)):
                self.tell(error_message(TooManySubscriptions(TOO_MANY)))
                return
            self._wanted[event] = None
        self.backend.calls.subscribe(self.record.id, self.id, event, True)

    def _unsubscribe(self, event: str) -> None:
        if event in self._wanted:
            del self._wanted[event]
            self._subscriptions.give_back(subscription_cost(event))
        self.backend.calls.subscribe(self.record.id, self.id, event, False)

    def _ask(self, asked: Ask) -> None:
        try:
            self._asked.put(asked)
        except Overloaded as error:
            self.tell(error_message(error, asked.id))

    def relieved(self) -> None:
        """The client has taken something."""
        self._asked.relieved()

    def _start(self, asked: Ask) -> None:
        self.backend.calls.start(
            self.record.id,
            asked.action,
            asked.arguments,
            partial(self._answer, asked),
            connection=self.id,
            key=asked.key,
        )

    def _answer(self, asked: Ask, answer: Reply | Failed) -> None:
        if isinstance(answer, Reply):
            message: v0.ActionResponse | v0.ErrorMessage
            message = v0.ActionResponse(asked.id, answer.output)
        else:
            failure = answer.failure
            message = v0.ErrorMessage(
                failure.code,
                failure.message,
                failure.metadata,
                asked.id,
                failure.outcome,
                own_status(failure.code, failure.status),
            )
        self.tell(message)
        self._asked.answered(asked)  # Once, also where an error takes the answer's place.

    # --- What the client is told ----------------------------------------------

    def tell(self, message: v0.ToClient) -> None:
        """Send a message; one without a wire form becomes an error of the same action.

        So does an answer that is larger than what may wait for the client.
        """
        try:
            frame = self.frame(v0.encode_to_client(self.encoding, message))
        except EncodeFault as fault:
            refusal = self._unsendable(message, fault)
            frame = self.frame(v0.encode_to_client(self.encoding, refusal))
        action = _action_of(message)
        if action is not None:
            self._asked.measured(len(frame))
        if action is not None and not self.outgoing.fits(frame):
            frame = self._instead_of(message, action, len(frame))
        self.send(frame)

    def _instead_of(self, message: v0.ToClient, action: int, size: int) -> bytes:
        """What the client is told where an answer does not fit into its queue."""
        outcome = Outcome.TOOK_EFFECT
        if isinstance(message, v0.ErrorMessage) and message.outcome is not None:
            outcome = Outcome(message.outcome)
        limit = self.outgoing.limit
        error: RivetError
        if size + OVERHEAD > limit:
            error = MessageTooLong(
                f"The answer of {size} bytes is longer than the {limit} that may wait for a "
                "client of a connection. Call the action over HTTP, or return less.",
                outcome=outcome,
            )
        else:
            error = Overloaded(
                f"More than {limit} bytes of answers and events wait for this client. "
                "Read faster, or call fewer actions at once.",
                outcome=outcome,
            )
        return self.frame(v0.encode_to_client(self.encoding, error_message(error, action)))

    def _unsendable(self, message: v0.ToClient, fault: EncodeFault) -> v0.ErrorMessage:
        """What the client is told where a message has no form in its encoding."""
        if isinstance(message, v0.ErrorMessage) and message.metadata is not None:
            return without_metadata(message, fault)
        action = _action_of(message)
        if action is not None and isinstance(fault, IntegerFault):
            return error_message(inexact("The result", fault), action)
        log.error("an answer of %s cannot be sent: %s", self.record.name, fault, extra=REPEATED)
        return error_message(InternalError(outcome=Outcome.TOOK_EFFECT), action)

    def send(self, frame: bytes) -> None:
        """Queue what the transport writes."""
        self.outgoing.put(frame)

    # --- Sink -----------------------------------------------------------------

    def deliver(self, message: Deliver) -> None:
        try:
            frame = self.frame_of(message)
        except EncodeFault as fault:
            self._frames.left_out(message, fault)
            self._tell_left_out(message.event, fault)
        else:
            self.send(frame)

    def _tell_left_out(self, event: str, fault: EncodeFault) -> None:
        """An event without a form for this client: it is told once, and goes on without (C5)."""
        told = self._left_out = self._left_out or set()
        if event in told or len(told) >= MOST_LEFT_OUT:
            return
        told.add(event)
        if isinstance(fault, IntegerFault):
            what = f"The event {event!r} was not sent, and others like it will not be: it"
            self.tell(error_message(inexact(what, fault)))
        else:
            self.tell(error_message(InternalError(outcome=Outcome.TOOK_EFFECT)))

    def attached(self, message: Attached) -> None:
        self.token = message.token or self.token
        for event in message.events:  # of its time before
            self._wanted[event] = None
            self._subscriptions.hold(subscription_cost(event))
        assert self.seal is not None
        shown = self.seal.sealed(self.record.id, self.id, self.token)
        init = v0.Init(self.record.id, self.id, shown)
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


def _action_of(message: v0.ToClient) -> int | None:
    """The client's number of the action that a message answers."""
    if isinstance(message, v0.ActionResponse):
        return message.id
    return message.action_id if isinstance(message, v0.ErrorMessage) else None
