"""One connection of an instance, and how it is saved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from rivet_ray import ids
from rivet_ray.clock import Timer
from rivet_ray.definition import ActorDefinition, Event
from rivet_ray.definition.fidelity import misfit
from rivet_ray.definition.unknown import Unknown, handed_on, unknown_in
from rivet_ray.errors import (
    ConnectionNotFound,
    InvalidParams,
    InvalidStateType,
    Outcome,
    Overloaded,
    RivetError,
    UserError,
)
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller, RequestInfo
from rivet_ray.protocol.port import Attached, Close, Deliver, ToGateway
from rivet_ray.runtime.backlog import Backlog
from rivet_ray.runtime.proofs import proves

if TYPE_CHECKING:
    from rivet_ray.runtime.instance import Instance
    from rivet_ray.runtime.session import Session

NORMAL_CLOSURE = 1000
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
MAX_REASON = 123
"""Bytes of UTF-8 that fit into a WebSocket close frame."""


PART = "conn/"
RESUME_WINDOW = 30.0
"""Seconds for which a connection whose gateway or host is gone may come back."""
RESUME_PATIENCE = 5.0
"""Seconds that what a client says elsewhere waits for its connection to come back."""
MAX_WAITING = 1_024
"""Messages that wait so for one connection; the next is answered `overloaded`."""

Held = Callable[["Session | RivetError"], None]


class Record(msgspec.Struct, array_like=True):
    """A connection, as it is saved."""

    token: str
    params: bytes | None
    auth: bytes | None
    state: bytes
    events: list[str]
    expires: float | None = None
    """When a detached connection ends, in seconds since the Unix epoch."""
    sent: int = 0
    """The actor's last event that was for this connection alone."""
    previous: str | None = None
    """The token before, until the connection is used."""
    identity: str | None = None
    """See `Caller`."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def record_of(saved: bytes) -> Record:
    """A connection of a snapshot. Raises msgspec.DecodeError."""
    return _decoder.decode(saved)


def state_in(record: Record, definition: ActorDefinition) -> Any:
    """The state of a saved connection. Raises msgspec.ValidationError, naming the path."""
    try:
        return definition.conn_state.decode(record.state)
    except msgspec.ValidationError as error:
        path, why = misfit(error)
        raise msgspec.ValidationError(f"conn.state{path}: {why}") from error


class Connection:
    """A client of an actor; see `rivet_ray.definition.Conn`.

    `session` is None for a plain call, whose connection cannot be sent to, and
    for a detached connection.
    """

    __slots__ = (
        "_backlog",
        "_gone",
        "_good",
        "_instance",
        "_returns",
        "_state",
        "_unknown",
        "_waiting",
        "auth",
        "caller",
        "events",
        "expires",
        "id",
        "params",
        "previous",
        "request",
        "returning",
        "sent",
        "session",
        "token",
    )

    def __init__(
        self,
        instance: Instance,
        session: Session | None,
        identity: str,
        token: str,
        caller: Caller,
    ) -> None:
        """Raises InvalidParams when the caller's do not fit the actor's type."""
        decode = instance.definition.decode
        self._instance = instance
        self.session = session
        self.id = identity
        self.token = token
        self.previous: str | None = None
        self.caller = caller
        self.params: Any = decode("Params", caller.params, InvalidParams)
        self.auth: Any = decode("Auth", caller.auth)
        self.request: RequestInfo | None = caller.request
        self._state: Any = None
        self._good: bytes | None = None
        """The state as it was encoded when it was last found to read back as it is."""
        self._unknown: Unknown | None = None
        """What newer code has saved in the state."""
        self.events: set[str] = set()
        self.returning: frozenset[str] = frozenset()
        """What it wants as soon as it is let in again; see `reopened`."""
        self._returns = 0
        self.expires: float | None = None
        self.sent = 0
        self._gone: asyncio.Future[None] | None = None
        self._waiting: dict[Held, Timer] = {}
        self._backlog: Backlog | None = Backlog()

    def __repr__(self) -> str:
        return f"<connection {self.id}>"

    @property
    def state(self) -> Any:
        # Whoever looks at a state may change it: it is compared at the next commit.
        self._instance.connections.saved.looked_at(self)
        return self._state

    @state.setter
    def state(self, value: Any) -> None:
        self._state = value
        self._instance.connections.saved.looked_at(self)

    def send(self, event: Event[*tuple[Any, ...]] | str, /, *args: Any) -> None:
        if self.session is None and self.expires is None:
            return
        name = event.name if isinstance(event, Event) else event
        encoded = self._instance.definition.encode_event(name, args)
        self._instance.host.home.do(self._send, name, encoded)

    def _send(self, name: str, arguments: bytes) -> None:
        instance = self._instance
        message = instance.events.number(name, arguments, self.id)
        self.sent = message.sequence
        instance.connections.saved.looked_at(self)
        if self.session is None:
            instance.events.hold(message, _keep)  # Its client gets it when it comes back.
        else:
            self._give(message)

    async def disconnect(self, reason: str = "") -> None:
        self._instance.host.home.require("conn.disconnect()")
        if len(reason.encode()) > MAX_REASON:
            raise UserError(f"A reason has at most {MAX_REASON} bytes of UTF-8.")
        if self._instance.connections.get(self.id) is not self:
            return
        if self.session is None:
            self._instance.connections.detach(self.id)
            return
        if self._backlog is not None:
            # Still inside on_connect, which this must not wait for.
            self._backlog.close(Close(self.id, NORMAL_CLOSURE, reason))
            return
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
            self._give(Close(self.id, NORMAL_CLOSURE, reason))
        await asyncio.shield(self._gone)

    def _give(self, message: Deliver | Close) -> None:
        if self._backlog is None:
            self._hold(message)
        elif isinstance(message, Close):
            self._backlog.close(message)
        else:
            instance, host = self._instance, self._instance.host
            limit, actor = host.settings.max_backlog_size, host.budget_of(instance.record.id)
            for dropped in self._backlog.put(message, limit, actor):
                instance.events.lose(dropped)

    def _hold(self, message: ToGateway) -> None:
        session = self.session
        assert session is not None
        if isinstance(message, Deliver):
            self._instance.events.hold(message, session.deliver)
            return

        def release(error: RivetError | None) -> None:
            if error is None:
                session.deliver(message)

        self._instance.hold(release)

    def opened(self, message: ToGateway) -> None:
        """Tell the client that it is connected, then what waited for that."""
        self._hold(message)
        backlog, self._backlog = self._backlog, None
        for waiting in backlog.take() if backlog is not None else ():
            self._hold(waiting)
        if backlog is not None and backlog.full:
            self._hold(Close(self.id, TRY_AGAIN_LATER, "slow_consumer"))
        if self.session is not None:
            self._tell_waiting(self.session)

    def resumed(self, session: Session, caller: Caller, wanted: Sequence[str]) -> None:
        """A gateway has this connection again; `reopened` follows."""
        self.session = session
        self.caller = msgspec.structs.replace(self.caller, request=caller.request)
        self.request = caller.request
        self.expires = None
        self.events, self.returning = set(), frozenset(wanted)
        self._returns += 1
        self._gone = None

    def proves(self, token: str) -> bool:
        """Whether that is a token of this connection that still counts."""
        return proves(token, self.token) or (
            self.previous is not None and proves(token, self.previous)
        )

    def claimed(self, token: str, caller: Caller) -> None:
        """Its client is back with that token, and gets another. `on_auth` has run again.

        Its parameters stay those of its opening, which `on_before_connect` has let in;
        what came with the claim was for `on_auth` alone. Raises ConnectionNotFound for
        another caller, whom no hook has seen, and what does not fit the actor's types.
        """
        if caller.identity != self.caller.identity:
            raise ConnectionNotFound("The connection is another caller's.")
        self.auth = self._instance.definition.decode("Auth", caller.auth)
        self.caller = msgspec.structs.replace(self.caller, auth=caller.auth)
        self.previous, self.token = token, ids.connection_token()

    def used(self) -> None:
        """Its client has what it was given last: the token before counts no more."""
        if self.previous is not None:
            self.previous = None
            self._instance.connections.saved.looked_at(self)

    def reopened(self, call: int, seen: int, *, claim: bool) -> None:
        """Tell the gateway that it has the connection, then what was missed after `seen`.

        That is looked for when it may leave, and only then does the connection want
        events: what was given before is in the window by then, what is given from
        now on leaves behind it.
        """
        session, events = self.session, self._instance.events
        wanted, returns = self.returning, self._returns
        assert session is not None
        last = events.last
        unopened, self._backlog = self._backlog, None
        backlog = unopened.take() if unopened is not None else []
        for waiting in backlog:  # Its session was lost while `on_connect` ran.
            if isinstance(waiting, Deliver):
                events.hold(waiting, _keep)

        def release(error: RivetError | None) -> None:
            if error is not None or self.session is not session or self._returns != returns:
                return  # Its client has been cut off again meanwhile, or is back elsewhere.
            missed = events.missed(self, wanted, seen, last)
            token = self.token if claim else None
            known = min(seen, last)
            session.deliver(Attached(call, known, token, sorted(wanted) if claim else []))
            for event in wanted:
                self._instance.connections.subscribe(self.id, event, True)
            self.returning = frozenset()
            if missed is None:
                session.deliver(Close(self.id, SERVICE_RESTART, "resync"))
            else:
                for message in missed:
                    session.deliver(message)
                for waiting in backlog:
                    if isinstance(waiting, Close):
                        session.deliver(waiting)

        self._instance.hold(release)
        self._tell_waiting(session)

    def when_held(self, held: Held, size: int = 0) -> None:
        """Call `held` with the session that has the connection, now or when one has again.

        With an error where none has in time, or too many wait for that already.
        """
        if self.session is not None:
            held(self.session)
        elif len(self._waiting) >= MAX_WAITING:
            full = "Too many messages wait for the connection."
            held(Overloaded(full, outcome=Outcome.NOT_STARTED))
        else:
            clock, budget = (
                self._instance.clock,
                self._instance.host.budget_of(self._instance.record.id),
            )
            try:
                budget.take(size)
            except Overloaded as error:
                held(error)
                return

            def told(what: Session | RivetError) -> None:
                budget.give_back(size)
                held(what)

            self._waiting[told] = clock.call_later(RESUME_PATIENCE, lambda: self._give_up(told))

    def _give_up(self, held: Held) -> None:
        del self._waiting[held]
        held(_ended())

    def _tell_waiting(self, what: Session | RivetError) -> None:
        waiting, self._waiting = self._waiting, {}
        for held, timer in waiting.items():
            timer.cancel()
            held(what)

    def gone(self) -> None:
        """The client's socket is closed."""
        self._tell_waiting(_ended())
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    @classmethod
    def load(cls, instance: Instance, identity: str, saved: bytes) -> Connection:
        """A saved connection, detached; its `expires` may not be set yet."""
        record = record_of(saved)
        caller = Caller(record.params, record.auth, identity=record.identity)
        connection = cls(instance, None, identity, record.token, caller)
        connection._state = state_in(record, instance.definition)
        good = connection._good = instance.definition.conn_state.encode(connection._state)
        if good != record.state:
            connection._unknown = unknown_in(values.decode(record.state), values.decode(good))
        connection.events = set(record.events)
        connection.expires = record.expires
        connection.sent = record.sent
        connection.previous = record.previous
        return connection

    @staticmethod
    def saved_expiry(saved: bytes) -> float | None:
        """When a saved connection ends, if its record says so."""
        try:
            return record_of(saved).expires
        except msgspec.DecodeError:
            return None

    def check_state(self) -> None:
        """Raise InvalidStateType if the state would not read back; it is what it was then."""
        codec = self._instance.definition.conn_state
        try:
            data = codec.encode(self._state)
            if data != self._good:
                codec.verify_one(self._state, data)
        except InvalidStateType:
            if self._good is not None:
                self._state = codec.decode(self._good)
            raise
        self._good = data

    def record(self) -> bytes:
        """The connection as it is saved. Raises InvalidStateType."""
        state = self._instance.definition.conn_state.encode(self._state)
        if self._unknown is not None:
            known = values.decode(state)
            whole = handed_on(self._unknown, known)
            state, self._unknown = values.encode(whole), unknown_in(whole, known)
        return _encoder.encode(
            Record(
                self.token,
                self.caller.params,
                self.caller.auth,
                state,
                sorted(self.events | self.returning),
                self.expires,
                self.sent,
                self.previous,
                self.caller.identity,
            )
        )


def _keep(message: Deliver) -> None:
    """The window has it; there is no session to give it to."""


def _ended() -> ConnectionNotFound:
    return ConnectionNotFound("The connection is not open.", outcome=Outcome.NOT_STARTED)
