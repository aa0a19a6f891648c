"""A caller's end of the port that outlives its host: it follows to the next one.

While there is no session, calls wait up to their deadline and connections stay
with their clients. Calls that have no answer and connections that are not open yet
count in bytes: see `rivet_ray.runtime.unanswered`. When there is a session again,
connections are resumed and the calls go out. A call whose answer was lost is sent
again only where it has an idempotency key; otherwise nobody can say whether it took
effect, and its caller is told so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from rivet_ray.budget import Budget
from rivet_ray.clock import Clock, SystemClock
from rivet_ray.errors import ActionTimedOut, ActorStopped, Outcome, Overloaded, RivetError
from rivet_ray.protocol.port import (
    Attach,
    Attached,
    Call,
    Deliver,
    Failed,
    Forward,
    Hosting,
    Reply,
    Subscribe,
    ToGateway,
)
from rivet_ray.protocol.raw import RawOpen
from rivet_ray.runtime.calls import HostClient
from rivet_ray.runtime.failures import failure_of
from rivet_ray.runtime.followed import Followed, Waiting
from rivet_ray.runtime.ports import Sink
from rivet_ray.runtime.unanswered import Unanswered

log = logging.getLogger("rivet_ray.runtime")

OnLost = Callable[[Exception | None], None]
Connect = Callable[[OnLost], Awaitable[Hosting]]
"""Reaches the host, wherever it is now. `OnLost` is to be called once when it is lost."""

TRY_AGAIN_LATER = 1013
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0


class FollowingClient(HostClient):
    """See `HostClient`. Connects with the first use, and again after each loss."""

    def __init__(
        self,
        connect: Connect,
        *,
        clock: Clock | None = None,
        timeout: float = 60.0,
        unanswered: Unanswered | None = None,
    ) -> None:
        """`timeout` is how many seconds a call waits that brings no limit of its own, and
        a connection for the host that it is to be opened at. `unanswered` are the bounds
        that it shares with other clients of the process."""
        super().__init__(None)
        self._connect = connect
        self._clock: Clock = clock or SystemClock()
        self._timeout = timeout
        self.unanswered = unanswered or Unanswered()
        self._waiting: dict[int, Waiting] = {}
        self._followed: dict[str, Followed] = {}
        self._attachments: dict[int, Followed] = {}
        self._told: dict[str, list[str]] = {}
        self._connecting: asyncio.Task[None] | None = None
        self._current: object = None
        """Which session is meant by a loss."""
        self._closed = False

    @property
    def connected(self) -> bool:
        return self._session is not None

    # --- What goes out ------------------------------------------------------

    def _call(self, message: Call | Forward | RawOpen) -> None:
        budget = self._budget_of(message)
        size = self._counted(message, budget, "call")
        if size is None:
            return
        limit = self._timeout if message.timeout is None else message.timeout
        waiting = Waiting(message, self._clock.monotonic() + limit, budget, size)
        self._waiting[message.call] = waiting
        self._try(waiting)

    def _counted(
        self, message: Call | Forward | RawOpen | Attach, budget: Budget, where: str
    ) -> int | None:
        """The bytes that a message holds now; None if they do not fit, and it has failed."""
        size = message.cost
        try:
            budget.take(size)
        except Overloaded as full:
            failure = failure_of(full, Outcome.NOT_STARTED, where)
            super()._receive(Failed(message.call, failure))
            return None
        return size

    def _budget_of(self, message: Call | Forward | RawOpen) -> Budget:
        """The bound that a call counts against."""
        if isinstance(message, Forward):
            return self.unanswered.of_connection(message.connection)
        if message.connection is not None:
            followed = self._followed.get(message.connection)
            if followed is not None:
                return followed.budget
            return self.unanswered.of_connection(message.connection)
        return (
            self.unanswered.budget if message.caller is None else self.unanswered.of(message.caller)
        )

    def _try(self, waiting: Waiting) -> None:
        """Send a call, or keep it until it can be sent."""
        call = waiting.call
        followed = self._followed.get(call.connection or "")
        if self._session is None or (followed is not None and followed.away):
            if waiting.timer is None:
                left = max(waiting.until - self._clock.monotonic(), 0.0)
                waiting.timer = self._clock.call_later(left, lambda: self._expire(waiting))
            self._reach()
            return
        if waiting.timer is not None:
            waiting.timer.cancel()
            waiting.timer = None
            if call.timeout is not None:
                left = max(waiting.until - self._clock.monotonic(), 0.0)
                call = msgspec.structs.replace(call, timeout=left)
        waiting.sent = True
        self._send(call)

    def _expire(self, waiting: Waiting) -> None:
        late = ActionTimedOut("The actor's host could not be reached in time.")
        self._fail(waiting, late, waiting.outcome)

    def _fail(self, waiting: Waiting, error: RivetError, outcome: Outcome) -> None:
        number = waiting.call.call
        self._received(number)
        super()._receive(Failed(number, failure_of(error, outcome, "call")))

    def _received(self, number: int) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.end()

    def cancel(self, number: int) -> None:
        self._received(number)
        super().cancel(number)

    def _tunnel_ended(self, number: int) -> None:
        self._received(number)

    def _attach(self, message: Attach) -> None:
        budget = self.unanswered.of(message.caller)
        size = self._counted(message, budget, "connect")
        if size is None:
            return
        self._unfollow(message.connection)
        until = self._clock.monotonic() + self._timeout
        followed = self._followed[message.connection] = Followed(message, until, budget, size)
        if self._session is None:
            self._reach_to_open(followed)
        else:
            self._open(followed)

    def _reach_to_open(self, followed: Followed) -> None:
        """Open a connection when there is a session, but not later than its deadline."""
        if followed.timer is None:
            left = max(followed.until - self._clock.monotonic(), 0.0)
            followed.timer = self._clock.call_later(left, lambda: self._too_late(followed))
        self._reach()

    def _too_late(self, followed: Followed) -> None:
        late = ActionTimedOut("The actor's host could not be reached in time.")
        self._unfollow(followed.attach.connection)
        failure = failure_of(late, Outcome.NOT_STARTED, "connect")
        super()._receive(Failed(followed.attach.call, failure))

    def _unfollow(self, connection: str) -> None:
        followed = self._followed.pop(connection, None)
        if followed is not None:
            followed.settle()
            followed.stop()

    def _open(self, followed: Followed) -> None:
        """Attach a connection at the session that is there now, or resume it."""
        attach = followed.attach
        followed.stop()
        if followed.open:
            self._number += 1
            events = sorted(event for _, event in self._events.get(attach.connection, ()))
            self._told[attach.connection] = events
            attach = msgspec.structs.replace(
                attach, call=self._number, resume=True, events=events, seen=followed.seen
            )
        self._attachments[attach.call] = followed
        self._send(attach)

    def detach(self, connection: str, sink: Sink, *, keep: bool = False) -> None:
        if self._sinks.get(connection) is sink:
            self._unfollow(connection)
            self._told.pop(connection, None)
        super().detach(connection, sink, keep=keep)

    # --- What comes in ------------------------------------------------------

    def _receive(self, message: ToGateway) -> None:
        match message:
            case Attached():
                followed = self._attachments.pop(message.call, None)
                if followed is not None:
                    self._attached_again(followed, message)
            case Failed() if message.call in self._attachments:
                followed = self._attachments.pop(message.call)
                if followed.open:
                    self._gone(followed, message)
                    return
            case Reply() | Failed():
                self._received(message.call)
            case _:
                pass
        super()._receive(message)

    def _sinks_of(self, message: Deliver) -> Sequence[Sink]:
        """A connection that is away gets the event when it is resumed, not twice."""
        if message.connection is not None:
            found = [(message.connection, sink) for sink in super()._sinks_of(message)]
        else:
            found = list(self._subscribers.get((message.actor, message.event), {}).items())
        sinks: list[Sink] = []
        for connection, sink in found:
            followed = self._followed.get(connection)
            if followed is not None and not followed.away:
                followed.seen = max(followed.seen, message.sequence)
                sinks.append(sink)
        return sinks

    def _attached_again(self, followed: Followed, message: Attached) -> None:
        identity = followed.attach.connection
        followed.settle()
        resumed, followed.open, followed.away = followed.open, True, False
        if message.token is not None:
            followed.attach = msgspec.structs.replace(
                followed.attach, token=message.token, claim=False
            )
        followed.seen = message.sequence
        if not resumed or identity not in self._followed:
            return
        # What changed while the resumption was under way.
        told = set(self._told.pop(identity, ()))
        wanted = {event for _, event in self._events.get(identity, ())}
        for event in sorted(told ^ wanted):
            self._send(Subscribe(identity, event, event in wanted))
        for waiting in list(self._waiting.values()):
            if not waiting.sent and waiting.call.connection == identity:
                self._try(waiting)

    def _gone(self, followed: Followed, message: Failed) -> None:
        """A connection that cannot be resumed: its client is told, and may open another."""
        identity = followed.attach.connection
        log.info("connection %s is not resumed: %s", identity, message.failure.code)
        ended = ActorStopped("The connection ended before the call was sent.")
        for waiting in list(self._waiting.values()):
            if not waiting.sent and waiting.call.connection == identity:
                self._fail(waiting, ended, waiting.outcome)
        sink = self._sinks.get(identity)
        if sink is not None:
            sink.closed(TRY_AGAIN_LATER, message.failure.code)

    # --- From host to host --------------------------------------------------

    def _reach(self) -> None:
        if self._connecting is None and self._session is None and not self._closed:
            self._connecting = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        """Connect, until it succeeds or nobody waits any more."""
        pause, told = FIRST_PAUSE, False
        try:
            while self._waiting or self._followed:
                self._current = current = object()

                def lost(reason: Exception | None, current: object = current) -> None:
                    if self._current is current:
                        self._lost(reason)

                try:
                    host = await self._connect(lost)
                except (RivetError, OSError) as error:
                    if not told:
                        told = True
                        log.warning("a host cannot be reached, trying again: %s", error)
                else:
                    self._connecting = None
                    self._connected_to(host)
                    return
                await self._sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            if self._connecting is asyncio.current_task():
                self._connecting = None

    async def _sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self._clock.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    def _connected_to(self, host: Hosting) -> None:
        self._session = host.open(self._receive)
        self._taken = 0
        self._tunnels.begin_session()
        for followed in list(self._followed.values()):
            self._open(followed)
        for waiting in list(self._waiting.values()):
            if not waiting.sent:
                self._try(waiting)

    def _lost(self, reason: Exception | None) -> None:
        if self._session is None or self._closed:
            return
        log.warning("a session with a host ended: %s", reason or "it was closed")
        self._session = None
        self._told.clear()
        self._attachments.clear()
        for followed in list(self._followed.values()):
            followed.away = True
            if not followed.open:
                self._reach_to_open(followed)
        stopped = ActorStopped("The host was lost before it answered.")
        for waiting in list(self._waiting.values()):
            if not waiting.sent:
                continue
            waiting.sent, waiting.lost = False, True
            if waiting.call.key is None:
                self._fail(waiting, stopped, Outcome.UNKNOWN)
            else:
                self._try(waiting)
        self._reach()

    def close(self) -> None:
        """End the session; calls under way fail with the outcome unknown."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        for number in list(self._waiting):
            self._received(number)
        for connection in list(self._followed):
            self._unfollow(connection)
        super().close()
