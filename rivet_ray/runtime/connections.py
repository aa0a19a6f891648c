"""The connections of an instance: who they are, and who wants which event."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rivet_ray import ids
from rivet_ray.definition.user_code import call, settle
from rivet_ray.errors import (
    ActorStopped,
    CallCycle,
    ConnectionNotFound,
    Forbidden,
    Outcome,
    RivetError,
    TooManySubscriptions,
)
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import Attach, Attached, Close, Deliver, Failed, subscription_cost
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime.connection import RESUME_WINDOW, Connection
from rivet_ray.runtime.deadline import within
from rivet_ray.runtime.failures import failure_of
from rivet_ray.runtime.saved_connections import SavedConnections
from rivet_ray.runtime.turn import Turn, running

if TYPE_CHECKING:
    from rivet_ray.runtime.instance import Instance
    from rivet_ray.runtime.session import Session

log = logger_of_strangers("rivet_ray.runtime")

POLICY = 1008


def _let_in(result: object) -> None:
    """Raise Forbidden where a hook says no by returning False."""
    if result is False:
        raise Forbidden("This connection is refused.")


class Connections:
    """Those of one instance, oldest first, with their hooks and subscriptions."""

    __slots__ = (
        "_attached",
        "_detached",
        "_hooks",
        "_instance",
        "_plain",
        "_subscribers",
        "saved",
    )

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._attached: dict[str, Connection] = {}
        self._detached: dict[str, Connection] = {}
        self._plain: dict[str, Connection] = {}
        self._subscribers: dict[str, dict[Session, int]] = {}
        self.saved = SavedConnections(instance)
        self._hooks: dict[Turn, None] = {}
        """Those that run now, before their connections are open."""

    @property
    def attached(self) -> int:
        """How many clients are connected now."""
        return len(self._attached)

    @property
    def opening(self) -> bool:
        """Whether a hook of a connection runs."""
        return bool(self._hooks)

    @property
    def any(self) -> bool:
        """Whether anybody is connected, or may come back."""
        return bool(self._attached or self._detached)

    def get(self, identity: str) -> Connection | None:
        """A connection that is not a plain call's."""
        return self._attached.get(identity) or self._detached.get(identity)

    def all(self) -> list[Connection]:
        """Detached and attached connections, then those of plain calls that asked for theirs."""
        return [*self._detached.values(), *self._attached.values(), *self._plain.values()]

    def of_session(self, session: Session) -> list[Connection]:
        return [item for item in self._attached.values() if item.session is session]

    # --- Saving ---------------------------------------------------------------

    def record_changes(self) -> None:
        """Put what has changed into the ledger. Raises InvalidStateType."""
        self.saved.record_changes(lambda connection: self.get(connection.id) is connection)

    def load(self, part: str, value: bytes) -> None:
        """Take over a connection from the snapshot; it is detached from now on."""
        connection = self.saved.load(part, value)
        if connection is not None:
            self._detached[connection.id] = connection

    def next_expiry(self) -> float | None:
        """When the next detached connection ends."""
        unreadable = self.saved.next_expiry()
        return min((item.expires or 0.0 for item in self._detached.values()), default=unreadable)

    def last_expiry(self) -> float:
        """When the last detached connection ends; 0 if there is none."""
        return max((item.expires or 0.0 for item in self._detached.values()), default=0.0)

    def expire(self) -> None:
        """End the detached connections whose time is over."""
        now = self._instance.clock.now()
        self.saved.expire(now)
        for connection in list(self._detached.values()):
            if connection.expires is not None and connection.expires <= now:
                self.detach(connection.id)

    # --- Plain calls: a connection for as long as the call runs ------------

    def of_turn(self, turn: Turn) -> Connection | None:
        """The connection of a turn; a plain call's is made when it is asked for."""
        if turn.connection is None and turn.call is not None and not turn.answered:
            caller = turn.call.caller or Caller()
            connection = Connection(self._instance, None, ids.connection_id(), "", caller)
            connection.state = self._instance.definition.default_conn_state()
            self._plain[connection.id] = turn.connection = connection
        return turn.connection

    async def open_plain(self, caller: Caller, chain: Sequence[str]) -> Connection:
        """Run the hooks of a call on its own; raises what they raise."""
        connection = Connection(self._instance, None, ids.connection_id(), "", caller)
        await self._admit(connection, chain)
        self._plain[connection.id] = connection
        try:
            await self._connected(connection, chain)
        except BaseException:
            self.close_plain(connection)
            raise
        return connection

    def close_plain(self, connection: Connection) -> None:
        known = self._plain.pop(connection.id, None) is not None
        if known and "on_disconnect" in self._instance.definition.hooks:
            self._instance.own(self._disconnected(connection))

    # --- Attached connections ---------------------------------------------

    async def attach(self, session: Session, message: Attach) -> None:
        """Open a connection: the hooks first, then `Attached`, then its messages."""
        try:
            connection = Connection(
                self._instance, session, message.connection, message.token, message.caller
            )
            await self._admit(connection, message.chain)
            if not session.admit(connection.id, self._instance):
                return
            # What is sent to it from now on, by the hook or by others, it has not seen.
            seen = self._instance.events.last
            self._attached[connection.id] = connection
            self.saved.looked_at(connection)
            await self._connected(connection, message.chain)
            if connection.session is not session:
                return  # Lost while the hook ran; whoever resumes it is told.
        except asyncio.CancelledError:
            self._refuse(session, message, ActorStopped("The actor stopped."))
            raise
        except Exception as error:
            self._refuse(session, message, error)
            return
        connection.opened(Attached(message.call, seen))

    def _refuse(self, session: Session, message: Attach, error: BaseException) -> None:
        known = self.get(message.connection)
        if known is not None and known.session is session and not message.resume:
            self.detach(message.connection)
        if known is None or known.session is not session:
            session.forget(message.connection)
        failure = failure_of(error, Outcome.NOT_STARTED, f"{self._instance!r} connect")
        refused = Failed(message.call, failure)
        self._instance.hold(lambda _: session.deliver(refused))

    def detach(self, identity: str) -> None:
        """The client of a connection is gone; `on_disconnect` runs once."""
        connection = self._attached.pop(identity, None) or self._detached.pop(identity, None)
        if connection is None:
            return
        for event in tuple(connection.events):
            self._unsubscribe(connection, event)
        if connection.session is not None:
            connection.session.forget(identity)
        connection.gone()
        if not self.any:
            self._instance.events.forget()
        if "on_disconnect" in self._instance.definition.hooks:
            self._instance.own(self._disconnected(connection))
        else:
            self.saved.forget(connection)

    def overflow(self, message: Deliver) -> None:
        """An event is dropped: the connections that wanted it are closed."""
        for session in {item.session for item in self._attached.values()}:
            if session is not None:
                session.overflow(message)

    def close_all(self, code: int, reason: str) -> None:
        """Tell every client that its connection ends, without running hooks.

        Unless the actor itself goes they are kept as detached: a client may come
        back to the next instance, and those that do not end there in time.
        """
        for connection in list(self._attached.values()):
            session = connection.session
            self.lose(connection.id)
            if session is not None:
                session.deliver(Close(connection.id, code, reason))

    def lose(self, identity: str) -> None:
        """A connection without its gateway: kept for the resume window."""
        connection = self._attached.pop(identity, None)
        if connection is None:
            return
        events = connection.events | connection.returning
        for event in tuple(connection.events):
            self._unsubscribe(connection, event)
        if connection.session is not None:
            connection.session.forget(connection.id)
        connection.session = None
        connection.events, connection.returning = events, frozenset()
        connection.expires = self._instance.clock.now() + RESUME_WINDOW
        self._detached[connection.id] = connection
        connection.gone()
        self.saved.looked_at(connection)
        self._instance.touch()

    def used(self, identity: str) -> None:
        """The connection's client has said something on it."""
        connection = self.get(identity)
        if connection is not None:
            connection.used()

    def resume(self, session: Session, message: Attach) -> None:
        """A connection comes back through a new session: no hook runs.

        At once, before any call that arrived with it can send an event. It gets the
        events that it missed; where they are not known any more its gateway is told
        by a close with the reason `resync`, never by silence (promise C5).
        """
        connection = self.get(message.connection)
        if connection is None or not connection.proves(message.token):
            self._refuse(session, message, ConnectionNotFound("The connection has ended."))
            return
        holder, wanted = connection.session, message.events
        if message.claim:
            try:
                connection.claimed(message.token, message.caller)
            except RivetError as error:
                self._refuse(session, message, error)
                return
        self.lose(connection.id)
        if message.claim:
            wanted = sorted(connection.events)
            if holder is not None and holder is not session:
                holder.deliver(Close(connection.id, POLICY, "taken_over"))
        if not session.admit(connection.id, self._instance):
            if not message.claim:  # whose client may try again
                self.detach(connection.id)
            return
        del self._detached[connection.id]
        self._attached[connection.id] = connection
        connection.resumed(session, message.caller, wanted)
        self.saved.looked_at(connection)
        self._instance.touch()
        connection.reopened(message.call, message.seen, claim=message.claim)

    # --- Hooks ------------------------------------------------------------

    @contextmanager
    def _hook(self, turn: Turn, chain: Sequence[str]) -> Generator[None]:
        """Run a hook of a connection that `chain` waits for; raises CallCycle.

        A call from the hook that comes back would need the hook again.
        """
        if any(waiting.id in chain for waiting in self._hooks):
            raise CallCycle(
                "This call waits for a hook of its actor's connections, and that hook waits "
                "for this call. Call a method of the actor itself instead, or do not wait "
                "for it in the hook: self.wait_until(...).",
                outcome=Outcome.NOT_STARTED,
            )
        turn.chain = [*chain]
        self._hooks[turn] = None
        try:
            with running(turn):
                yield
        finally:
            del self._hooks[turn]

    async def _admit(self, connection: Connection, chain: Sequence[str]) -> None:
        instance = self._instance
        actor, hooks = instance.actor, instance.definition.hooks
        request, params = connection.request, connection.params
        with self._hook(Turn(instance), chain):
            if "on_before_connect" in hooks:
                async with within(instance.clock, instance.hook_timeout, "on_before_connect"):
                    _let_in(await settle(instance, actor.on_before_connect, request, params))
            if "create_conn_state" in hooks:
                async with within(instance.clock, instance.hook_timeout, "create_conn_state"):
                    hook = actor.create_conn_state
                    connection.state = await settle(instance, hook, request, params)
            else:
                connection.state = call(instance, instance.definition.default_conn_state)
        if connection.session is not None:
            connection.check_state()

    async def _connected(self, connection: Connection, chain: Sequence[str]) -> None:
        instance = self._instance
        if "on_connect" in instance.definition.hooks:
            with self._hook(Turn(instance, connection=connection), chain):
                async with within(instance.clock, instance.hook_timeout, "on_connect"):
                    _let_in(await settle(instance, instance.actor.on_connect, connection))
            if connection.session is not None:
                connection.check_state()

    async def _disconnected(self, connection: Connection) -> None:
        instance = self._instance
        with running(Turn(instance, connection=connection)):
            try:
                async with within(instance.clock, instance.hook_timeout, "on_disconnect"):
                    await settle(instance, instance.actor.on_disconnect, connection)
            except Exception:
                log.exception("%r: on_disconnect failed", instance, extra=REPEATED)
        self.saved.forget(connection)
        instance.touch()

    # --- Subscriptions ----------------------------------------------------

    def subscribe(self, identity: str, event: str, subscribed: bool) -> None:
        """Start or end one connection's interest in an event."""
        connection = self._attached.get(identity)
        if connection is None or connection.session is None:
            return
        if not subscribed:
            self._unsubscribe(connection, event)
        elif event not in connection.events:
            if self._too_many(connection, event):
                session = connection.session
                self.detach(identity)
                session.deliver(Close(identity, POLICY, TooManySubscriptions.code))
                return
            connection.events.add(event)
            sessions = self._subscribers.setdefault(event, {})
            sessions[connection.session] = sessions.get(connection.session, 0) + 1
        self.saved.looked_at(connection)
        self._instance.touch()

    def _too_many(self, connection: Connection, event: str) -> bool:
        """Whether a connection may not have another event; its gateway refuses before."""
        host = self._instance.host
        size = subscription_cost(event) + sum(map(subscription_cost, connection.events))
        if size <= host.settings.max_subscriptions_size:
            return False
        host.budget.refuse("subscriptions")
        return True

    def _unsubscribe(self, connection: Connection, event: str) -> None:
        session, sessions = connection.session, self._subscribers.get(event)
        connection.events.discard(event)
        if session is None or sessions is None or session not in sessions:
            return
        sessions[session] -= 1
        if not sessions[session]:
            del sessions[session]
        if not sessions:
            del self._subscribers[event]

    def subscribed_sessions(self, event: str) -> list[Session]:
        """The gateways of which at least one connection wants the event."""
        return list(self._subscribers.get(event, ()))
