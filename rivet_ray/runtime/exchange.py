"""A raw request or socket at its actor: what `on_fetch` and `on_websocket` are served with.

Whoever speaks HTTP with the actor's code is not here: it is injected into the
host as a `Handle` and is given an `Exchange`, in pieces of bytes.

Everything that the code gives away passes the gate of its instance: the head of
a response, each piece of a body, each message, the end. The state is looked at
for each, so a stream saves what it reveals as it goes.

**Turns.** An exchange has its place among the other turns until its answer
begins: until then an exclusive action waits for it, and it for them. What comes
later interleaves, as a task of the actor's own does: a client that reads slowly
must not hold an exclusive action up.

**Deadlines (C9).** The answer has to begin within the host's `action_timeout`,
counted from the request, or from the last piece of its body that the code took.
After that the gateway watches that the exchange moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from rivet_ray.definition.user_code import asked_for, call, contained, finish
from rivet_ray.errors import (
    ActionCancelled,
    ActionTimedOut,
    ActorStopped,
    InternalError,
    InvalidFetchResponse,
    InvalidParams,
    Outcome,
    RivetError,
)
from rivet_ray.protocol import values
from rivet_ray.protocol.port import Failed
from rivet_ray.protocol.raw import (
    RAW_WINDOW,
    RawData,
    RawEnd,
    RawOpen,
    RawRequest,
    RawStart,
    RawTaken,
)
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime.failures import failure_of
from rivet_ray.runtime.flow import Inflow, Outflow, pieces
from rivet_ray.runtime.lifecycle import State
from rivet_ray.runtime.turn import Turn, current_turn

if TYPE_CHECKING:
    from rivet_ray.runtime.instance import Instance
    from rivet_ray.runtime.session import Session

log = logger_of_strangers("rivet_ray.runtime")

NORMAL = 1000
INTERNAL = 1011
SERVICE_RESTART = 1012
GONE = 1006
SWITCHING = 101


class ClientLeft(OSError):
    """Nobody reads any more what is given."""


class Exchange:
    """One request or socket, as the code of its actor is served with it."""

    __slots__ = (
        "_answered",
        "_began",
        "_complete",
        "_deadline",
        "_entered",
        "_inflow",
        "_instance",
        "_lock",
        "_number",
        "_outflow",
        "_over",
        "_session",
        "_starts_by",
        "_task",
        "_told",
        "_turn",
        "auth",
        "close",
        "params",
        "request",
        "request_complete",
    )

    def __init__(self, instance: Instance, session: Session, message: RawOpen) -> None:
        """Raises InvalidParams when the caller's do not fit the actor's type."""
        decode = instance.definition.decode
        self._instance = instance
        self._session = session
        self._number = message.call
        self._turn = Turn(instance, session)
        self._turn.chain = message.chain
        self._task: asyncio.Task[None] | None = None
        self.request: RawRequest = message.request
        self.params: Any = decode("Params", message.caller.params, InvalidParams)
        self.auth: Any = decode("Auth", message.caller.auth)
        self.close: tuple[int, str] | None = None
        """How the client, or the actor's stop, has ended it."""
        self.request_complete = False
        """The last piece of the request's body has been taken."""
        self._inflow = Inflow(self._grant)
        self._outflow = Outflow(RAW_WINDOW)
        self._lock = asyncio.Lock()
        self._entered = False
        self._answered = False
        """The answer has begun, or failed; perhaps it has not left yet."""
        self._told = False
        """The answer has left."""
        self._began = False
        """The response has begun, or the socket was accepted."""
        self._complete = False
        """The last that there is to give has been given."""
        self._over = False
        """Nothing leaves any more."""
        limit = instance.action_timeout
        self._deadline = limit if message.timeout is None else min(limit, message.timeout)
        self._starts_by = instance.clock.monotonic() + self._deadline
        if not self.is_websocket:
            self._inflow.put(RawData(message.call, message.body, message.more))

    def __repr__(self) -> str:
        kind = "websocket" if self.is_websocket else self.request.method
        return f"{self._instance!r} {kind} {self.request.path.decode('latin-1')}"

    @property
    def is_websocket(self) -> bool:
        return self.request.protocols is not None

    # --- What the code does with it -------------------------------------------

    async def take(self) -> RawData | None:
        """The next piece of the body or of a message; None when the client has left."""
        self._instance.host.home.require("A raw request or socket")
        if self.close is not None and not self.is_websocket:
            return None
        if self.request_complete:
            await self._inflow.take()  # Nothing comes any more but the end.
            return None
        piece = await self._inflow.take()
        if piece is not None:
            self._starts_by = self._instance.clock.monotonic() + self._deadline
            if not self.is_websocket and not piece.more:
                self.request_complete = True
        return piece

    def start(
        self, status: int, headers: list[tuple[bytes, bytes]], protocol: str | None = None
    ) -> None:
        """Begin the response, or accept the socket. Raises InvalidStateType, ClientLeft."""
        self._check_open()
        self._instance.check_state(self._turn, own=1)
        self._began = self._answered = True
        self._instance.turnstile.leave(self._turn)
        self._hold(RawStart(self._number, status, headers, protocol))

    async def give(self, data: bytes, *, more: bool = False, text: bool = False) -> None:
        """A piece of the body, or a message, as it is now; waits while the client is slow.

        Without `more` a body ends. Raises ClientLeft.
        """
        async with self._lock:
            cut = pieces(data)
            for at, part in enumerate(cut, 1):
                if not await self._outflow.room():
                    raise ClientLeft("nobody reads this any more")
                self._check_open()
                piece = RawData(self._number, part, more or at < len(cut), text)
                self._outflow.given(piece)
                self._complete = not (piece.more or self.is_websocket)
                self._hold(piece)

    def end(self, code: int, reason: str) -> None:
        """Close the socket, or break a response off."""
        self._check_open()
        ending = RawEnd(self._number, code, values.sendable(reason))
        self._answered = self._complete = True
        self._hold(ending)

    def _check_open(self) -> None:
        self._instance.host.home.require("A raw request or socket")
        if self._over or self._complete or self.close is not None:
            raise ClientLeft("nobody reads this any more")

    def _grant(self, size: int) -> None:
        self._session.tell_raw(RawTaken(self._number, size))

    # --- Through the gate -----------------------------------------------------

    def _hold(self, message: RawStart | RawData | RawEnd | Failed) -> None:
        last = self._complete

        def release(error: RivetError | None) -> None:
            if self._over:
                return
            if error is not None:
                self._break(error)
                return
            self._told = True
            self._session.tell_raw(message)
            if last:
                self._end()

        self._instance.hold(release)

    def _break(self, error: BaseException) -> None:
        """What was given may not leave: the client hears that, and nothing more."""
        if not self._told:
            outcome = Outcome.UNKNOWN if self._entered else Outcome.NOT_STARTED
            failure = failure_of(error, outcome, repr(self))
            self._session.tell_raw(Failed(self._number, failure))
        else:
            self._session.tell_raw(RawEnd(self._number, _code(error), _reason(error)))
        self._end()
        if self._task is not None:
            self._task.cancel()

    def _end(self) -> None:
        self._over = True
        self._inflow.end()
        self._outflow.end()
        self._instance.host.deadlines.drop(self)
        self._session.forget_raw(self._number)

    # --- From the gateway -----------------------------------------------------

    def received(self, message: RawData | RawTaken) -> None:
        if isinstance(message, RawData):
            self._inflow.put(message)
        else:
            self._outflow.grant(message.size)

    def left(self, code: int, reason: str) -> None:
        """The client has gone. A request is cancelled; a socket's code is told first."""
        if self._over:
            return
        self.close = (code, reason)
        self._end()
        instance, task = self._instance, self._task
        if task is None or task.done():
            return
        if self.is_websocket:
            timer = instance.clock.call_later(instance.hook_timeout, lambda: _cancel(task))
            task.add_done_callback(lambda _: timer.cancel())
        else:
            task.cancel()

    def stop(self) -> None:
        """The actor leaves memory in good order: sockets end, requests may finish."""
        if self.is_websocket and not (self._complete or self._over or self.close):
            self._answered = self._complete = True
            self._hold(RawEnd(self._number, SERVICE_RESTART, "server_stopping"))
            self.close = (SERVICE_RESTART, "server_stopping")
            self._inflow.end()
            self._outflow.end()

    # --- Running --------------------------------------------------------------

    def run(self, handle: Handle, *, more: bool) -> asyncio.Task[None]:
        """Serve it, in a task of its instance."""
        instance = self._instance
        instance.host.deadlines.add(self, self._starts_by, self._look)
        self._task = task = instance.own(self._run(handle))
        task.add_done_callback(self._ended)
        if self.is_websocket or more:
            self._grant(RAW_WINDOW)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Cancelled before its first step, it has told nobody."""
        if task.cancelled() and not (self._complete or self._over):
            self._task = None
            self._instance.turnstile.leave(self._turn)
            self._fail(self._cancelled())

    async def _run(self, handle: Handle) -> None:
        instance, turn = self._instance, self._turn
        current_turn.set(turn)
        try:
            await instance.turnstile.enter(turn, exclusive=False, chain=turn.chain)
            self._entered = turn.entered = True
            await finish(instance, handle, call(instance, handle, instance.actor, self))
            if not self._began:
                instance.check_state(turn, own=1)
            self._finish()
        except BaseException as error:
            if not asked_for(error):
                self._fail(contained(instance, handle, error))
                return
            if isinstance(error, asyncio.CancelledError):
                self._fail(self._cancelled())
            raise
        finally:
            # With its task it would be a cycle, which keeps open generators from ending.
            self._task = None
            instance.turnstile.leave(turn)
            # What ran after the answer began may have changed the state too.
            instance.touch()

    def _cancelled(self) -> RivetError:
        if self._instance.state is State.RUNNING:
            return ActionCancelled("The request was cancelled.")
        return ActorStopped("The actor stopped while the request was served.")

    def _finish(self) -> None:
        """The code has returned: whatever it left open ends."""
        if self._complete or self._over or self.close is not None:
            return
        if self.is_websocket:
            self.end(NORMAL, "")
        elif self._began:
            self._fail(InternalError("the code returned before its response was complete"))
        else:
            self._fail(InvalidFetchResponse("The application returned without a response."))

    def _fail(self, error: BaseException) -> None:
        """The code has failed: its client hears of it, where there is one who still listens."""
        if self._complete or self._over or self.close is not None:
            if not isinstance(error, (ClientLeft, ActionCancelled, ActorStopped)):
                log.error("%r failed after its end", self, exc_info=error, extra=REPEATED)
            return
        began, self._answered, self._complete = self._answered, True, True
        if began:
            failure = failure_of(error, None, repr(self))
            self._hold(RawEnd(self._number, _code(error), failure.code))
        else:
            outcome = Outcome.TOOK_EFFECT if self._entered else Outcome.NOT_STARTED
            self._hold(Failed(self._number, failure_of(error, outcome, repr(self))))

    def _look(self) -> None:
        """C9: the answer has not left, and its time may be over."""
        if self._told or self._over:
            return
        instance = self._instance
        grace = instance.host.settings.save_grace if self._answered else 0.0
        if instance.clock.monotonic() < self._starts_by + grace:
            instance.host.deadlines.add(self, self._starts_by + grace, self._look)
        elif self._answered:
            late = ActionTimedOut("The answer was ready, but its save was not confirmed in time.")
            self._break(late)
        else:
            late = ActionTimedOut(f"The answer did not begin within {self._deadline:g} s.")
            self._fail(late)
            grace = instance.host.settings.save_grace
            instance.host.deadlines.add(self, self._starts_by + grace, self._look)
            if self._task is not None:
                self._task.cancel()


Handle = Callable[[Any, Exchange], Awaitable[None]]
"""Serves an exchange with the hooks of an actor; `rivet_ray.asgi` has one."""


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _code(error: BaseException) -> int:
    return SERVICE_RESTART if isinstance(error, ActorStopped) else INTERNAL


def _reason(error: BaseException) -> str:
    return error.code if isinstance(error, RivetError) and error.public else InternalError.code
