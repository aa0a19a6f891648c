"""The connections of an instance: who they are, and who wants which event."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from rivet_ray import ids
from rivet_ray.definition import Event
from rivet_ray.errors import ActorStopped, InvalidParams, Outcome, RivetError, UserError
from rivet_ray.protocol.port import (
    Attach,
    Attached,
    Caller,
    Close,
    Deliver,
    Failed,
    RequestInfo,
    ToGateway,
)
from rivet_ray.runtime.context import encode_event
from rivet_ray.runtime.deadline import within
from rivet_ray.runtime.failures import failure_of
from rivet_ray.runtime.turn import Turn, running, settled

if TYPE_CHECKING:
    from rivet_ray.runtime.instance import Instance
    from rivet_ray.runtime.session import Session

log = logging.getLogger("rivet_ray.runtime")

NORMAL_CLOSURE = 1000
MAX_REASON = 123
"""Bytes of UTF-8 that fit into a WebSocket close frame."""


class Connection:
    """A client of an actor; see `rivet_ray.definition.Conn`.

    `session` is None for a plain call, whose connection cannot be sent to.
    """

    __slots__ = (
        "_backlog",
        "_gone",
        "_instance",
        "auth",
        "events",
        "id",
        "params",
        "request",
        "session",
        "state",
    )

    def __init__(
        self, instance: Instance, session: Session | None, identity: str, caller: Caller
    ) -> None:
        """Raises InvalidParams when the caller's do not fit the actor's type."""
        decode = instance.definition.decode
        self._instance = instance
        self.session = session
        self.id = identity
        self.params: Any = decode("Params", caller.params, InvalidParams)
        self.auth: Any = decode("Auth", caller.auth)
        self.request: RequestInfo | None = caller.request
        self.state: Any = None
        self.events: set[str] = set()
        self._gone: asyncio.Future[None] | None = None
        # What is sent before the client has been told that it is connected.
        self._backlog: list[ToGateway] | None = []

    def __repr__(self) -> str:
        return f"<connection {self.id}>"

    def send(self, event: Event[*tuple[Any, ...]] | str, /, *args: Any) -> None:
        if self.session is None:
            return
        name = event.name if isinstance(event, Event) else event
        arguments = encode_event(name, args)
        self._give(Deliver(self._instance.record.id, name, arguments, self.id))

    async def disconnect(self, reason: str = "") -> None:
        if len(reason.encode()) > MAX_REASON:
            raise UserError(f"A reason has at most {MAX_REASON} bytes of UTF-8.")
        if self.session is None or self._instance.connections.get(self.id) is not self:
            return
        if self._backlog is not None:
            # Still inside on_connect, which this must not wait for.
            self._backlog.append(Close(self.id, NORMAL_CLOSURE, reason))
            return
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
            self._give(Close(self.id, NORMAL_CLOSURE, reason))
        await asyncio.shield(self._gone)

    def _give(self, message: ToGateway) -> None:
        if self._backlog is not None:
            self._backlog.append(message)
        else:
            self._hold(message)

    def _hold(self, message: ToGateway) -> None:
        session = self.session
        assert session is not None

        def release(error: RivetError | None) -> None:
            if error is None:
                session.deliver(message)

        self._instance.hold(release)

    def opened(self, message: ToGateway) -> None:
        """Tell the client that it is connected, then what waited for that."""
        self._hold(message)
        backlog, self._backlog = self._backlog, None
        for waiting in backlog or ():
            self._hold(waiting)

    def gone(self) -> None:
        """The client's socket is closed."""
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)


class Connections:
    """Those of one instance, oldest first, with their hooks and subscriptions."""

    __slots__ = ("_attached", "_instance", "_plain", "_subscribers")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._attached: dict[str, Connection] = {}
        self._plain: dict[str, Connection] = {}
        self._subscribers: dict[str, dict[Session, int]] = {}

    def get(self, identity: str) -> Connection | None:
        """An attached connection."""
        return self._attached.get(identity)

    def all(self) -> list[Connection]:
        """Attached connections, then those of plain calls that asked for theirs."""
        return [*self._attached.values(), *self._plain.values()]

    def of_session(self, session: Session) -> list[Connection]:
        return [item for item in self._attached.values() if item.session is session]

    # --- Plain calls: a connection for as long as the call runs ------------

    def of_turn(self, turn: Turn) -> Connection | None:
        """The connection of a turn; a plain call's is made when it is asked for."""
        if turn.connection is None and turn.call is not None and not turn.answered:
            caller = turn.call.caller or Caller()
            connection = Connection(self._instance, None, ids.connection_id(), caller)
            connection.state = self._instance.definition.default_conn_state()
            self._plain[connection.id] = turn.connection = connection
        return turn.connection

    async def open_plain(self, caller: Caller) -> Connection:
        """Run the hooks of a call on its own; raises what they raise."""
        connection = Connection(self._instance, None, ids.connection_id(), caller)
        await self._admit(connection)
        self._plain[connection.id] = connection
        try:
            await self._connected(connection)
        except BaseException:
            self.close_plain(connection)
            raise
        return connection

    def close_plain(self, connection: Connection) -> None:
        if self._plain.pop(connection.id, None) is not None:
            self._run_on_disconnect(connection)

    # --- Attached connections ---------------------------------------------

    async def attach(self, session: Session, message: Attach) -> None:
        """Open a connection: the hooks first, then `Attached`, then its messages."""
        try:
            connection = Connection(self._instance, session, message.connection, message.caller)
            await self._admit(connection)
            if not session.admit(connection.id, self._instance):
                return
            self._attached[connection.id] = connection
            await self._connected(connection)
        except asyncio.CancelledError:
            self._refuse(session, message, ActorStopped("The actor stopped."))
            raise
        except Exception as error:
            self._refuse(session, message, error)
            return
        connection.opened(Attached(message.call))

    def _refuse(self, session: Session, message: Attach, error: BaseException) -> None:
        self.detach(message.connection)
        session.forget(message.connection)
        failure = failure_of(error, Outcome.NOT_STARTED, f"{self._instance!r} connect")
        refused = Failed(message.call, failure)
        self._instance.hold(lambda _: session.deliver(refused))

    def detach(self, identity: str) -> None:
        """The client of a connection is gone; `on_disconnect` runs once."""
        connection = self._attached.pop(identity, None)
        if connection is None:
            return
        for event in tuple(connection.events):
            self.subscribe(identity, event, False, connection)
        if connection.session is not None:
            connection.session.forget(identity)
        connection.gone()
        self._run_on_disconnect(connection)

    def close_all(self, code: int, reason: str) -> None:
        """Tell every client that its connection ends, without running hooks."""
        attached, self._attached = self._attached, {}
        self._subscribers.clear()
        for connection in attached.values():
            if connection.session is not None:
                connection.session.deliver(Close(connection.id, code, reason))
                connection.session.forget(connection.id)
            connection.gone()

    # --- Hooks ------------------------------------------------------------

    async def _admit(self, connection: Connection) -> None:
        instance = self._instance
        actor, hooks = instance.actor, instance.definition.hooks
        request, params = connection.request, connection.params
        with running(Turn(instance)):
            if "on_before_connect" in hooks:
                async with within(instance.clock, instance.hook_timeout, "on_before_connect"):
                    await settled(actor.on_before_connect(request, params))
            if "create_conn_state" in hooks:
                async with within(instance.clock, instance.hook_timeout, "create_conn_state"):
                    connection.state = await settled(actor.create_conn_state(request, params))
            else:
                connection.state = instance.definition.default_conn_state()

    async def _connected(self, connection: Connection) -> None:
        instance = self._instance
        if "on_connect" in instance.definition.hooks:
            with running(Turn(instance, connection=connection)):
                async with within(instance.clock, instance.hook_timeout, "on_connect"):
                    await settled(instance.actor.on_connect(connection))

    def _run_on_disconnect(self, connection: Connection) -> None:
        if "on_disconnect" in self._instance.definition.hooks:
            self._instance.own(self._disconnected(connection))

    async def _disconnected(self, connection: Connection) -> None:
        instance = self._instance
        with running(Turn(instance, connection=connection)):
            try:
                async with within(instance.clock, instance.hook_timeout, "on_disconnect"):
                    await settled(instance.actor.on_disconnect(connection))
            except Exception:
                log.exception("%r: on_disconnect failed", instance)
        instance.touch()

    # --- Subscriptions ----------------------------------------------------

    def subscribe(
        self, identity: str, event: str, subscribed: bool, connection: Connection | None = None
    ) -> None:
        """Start or end one connection's interest in an event."""
        connection = connection or self._attached.get(identity)
        if connection is None or connection.session is None:
            return
        if subscribed is (event in connection.events):
            return
        sessions = self._subscribers.setdefault(event, {})
        session = connection.session
        if subscribed:
            connection.events.add(event)
            sessions[session] = sessions.get(session, 0) + 1
            return
        connection.events.discard(event)
        sessions[session] -= 1
        if not sessions[session]:
            del sessions[session]
        if not sessions:
            del self._subscribers[event]

    def subscribed_sessions(self, event: str) -> list[Session]:
        """The gateways of which at least one connection wants the event."""
        return list(self._subscribers.get(event, ()))
