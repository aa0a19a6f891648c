"""Running the action of a call: check, run, answer through the gate."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from rivet_ray.definition import ActionDefinition
from rivet_ray.definition.user_code import (
    UserCodeFailed,
    asked_for,
    call,
    contained,
    described,
    finish,
    settle,
)
from rivet_ray.errors import (
    ActionCancelled,
    ActionNotFound,
    ActionTimedOut,
    ActorStopped,
    ConnectionNotFound,
    InvalidStateType,
    Outcome,
    Overloaded,
    RivetError,
)
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.port import Call, Failed, Reply
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime.failures import failure_of
from rivet_ray.runtime.gate import OVERHEAD
from rivet_ray.runtime.keys import readdressed
from rivet_ray.runtime.lifecycle import State
from rivet_ray.runtime.memory import ReadonlyBegin
from rivet_ray.runtime.turn import Turn, current_turn

if TYPE_CHECKING:
    from rivet_ray.runtime.connection import Connection
    from rivet_ray.runtime.instance import Instance
    from rivet_ray.runtime.session import Session

log = logger_of_strangers("rivet_ray.runtime")

OWN_DEADLINE_GRACE = 0.25
"""Seconds."""


class Actions:
    """The calls of one instance. They interleave at their awaits."""

    __slots__ = ("_instance", "_not_begun", "begun")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.begun = 0
        """How many actions have begun that may change the state."""
        self._not_begun = 0
        """Turns that are tasks which have not had their first step."""

    # --- Beginning ----------------------------------------------------------

    def begin(self, session: Session, message: Call) -> None:
        """Start the turn of a call; a plain method has run when this returns."""
        instance = self._instance
        action = instance.definition.actions.get(message.action)
        turn = Turn(instance, session, message)
        try:
            if action is None or action.private:
                raise ActionNotFound(f"{instance.record.name} has no action {message.action!r}.")
            arguments = call(instance, action.arguments.decode, message.arguments)
            if message.connection is not None:
                turn.connection = self._connection(message.connection)
            if message.key is not None and self._answered_before(turn, message):
                if turn.joined:
                    self._limit_joined(turn, message)
                return
        except Exception as error:
            # What is not ours is a fault of an argument's own type.
            outcome = error.outcome if isinstance(error, RivetError) else None
            self._fail(turn, error, outcome or Outcome.NOT_STARTED)
            return
        if self._runs_at_once(turn, action):
            self._run_now(session, turn, action, arguments)
            return
        budget, size = instance.host.budget_of(instance.record.id), message.cost
        try:
            budget.take(size)
        except Overloaded as error:
            self._fail(turn, error, Outcome.NOT_STARTED)
            return
        try:
            task = instance.own(self._run(turn, action, arguments))
        except BaseException:
            budget.give_back(size)
            raise
        self._not_begun += 1

        def ended(_: object) -> None:
            budget.give_back(size)
            self._has_ended(turn)

        task.add_done_callback(ended)
        session.track(message.call, task)

    def _has_begun(self, turn: Turn) -> None:
        if not turn.begun:
            turn.begun = True
            self._not_begun -= 1

    def _has_ended(self, turn: Turn) -> None:
        """One that was cancelled before its first step has run nothing, and is answered here."""
        if not turn.begun:
            self._has_begun(turn)
            self._fail(turn, self._cancelled(), Outcome.NOT_STARTED)

    def _cancelled(self) -> RivetError:
        if self._instance.state is State.RUNNING:
            return ActionCancelled("The action was cancelled.")
        return ActorStopped("The actor stopped while the action ran.")

    def give_up(self) -> None:
        """The actor leaves memory: calls whose code took no notice of that are answered."""
        for turn in self._instance.turnstile.turns:
            self._fail(turn, self._cancelled(), Outcome.UNKNOWN)

    def _connection(self, identity: str) -> Connection:
        connection = self._instance.connections.get(identity)
        if connection is None:
            raise ConnectionNotFound("The connection is not open.")
        connection.used()
        return connection

    def _answered_before(self, turn: Turn, message: Call) -> bool:
        """Whether a call with an idempotency key needs no run of its own."""
        instance = self._instance
        caller = turn.connection.caller if turn.connection is not None else message.caller
        answer = instance.keys.begin(turn, message, caller or Caller(), instance.clock.now())
        if answer is not None:
            self._release(turn, readdressed(answer, message.call))
        return answer is not None or turn.joined

    def _limit_joined(self, turn: Turn, message: Call) -> None:
        """C9: who waits for another call with the same key has a deadline of its own."""
        limit = message.timeout
        if limit is None:
            return  # that other one has the action's

        def expire() -> None:
            late = ActionTimedOut(f"The first call with this key took longer than {limit:g} s.")
            self._fail(turn, late, Outcome.UNKNOWN)

        turn.deadline = self._instance.clock.monotonic() + limit
        self._instance.host.deadlines.add(turn, turn.deadline, expire)

    def _runs_at_once(self, turn: Turn, action: ActionDefinition) -> bool:
        definition = self._instance.definition
        return not (
            action.is_async
            or action.exclusive
            or self._not_begun > 0  # Actions begin in the order in which they came.
            or self._instance.turnstile.closed
            or (turn.connection is None and definition.hooks_on_connections)
            or "on_before_action_response" in definition.hooks
        )

    def _count(self, action: ActionDefinition) -> ReadonlyBegin | None:
        if action.readonly:
            return self._instance.readonly_begins()
        self.begun += 1
        return None

    # --- A plain method: no task, no timer -----------------------------------

    def _run_now(
        self, session: Session, turn: Turn, action: ActionDefinition, arguments: tuple[Any, ...]
    ) -> None:
        instance = self._instance
        before = self._count(action)
        others = before is None and instance.turnstile.open > 0
        began_with = instance.memory.small_snapshot() if others else None
        if instance.turnstile.open:
            instance.check_connections()
        token = current_turn.set(turn)
        turn.entered = True
        try:
            output = call(instance, action.function, instance.actor, *arguments)
            if inspect.isawaitable(output):
                work = self._within_deadline(turn, action, lambda: output, arguments)
                session.track(turn.number, instance.own(work))
                return
            if before is not None:
                instance.readonly_ends(before, plain=True)
                instance.connections.saved.check()
            else:
                instance.check_state(turn, own=0, began_with=began_with)
        except BaseException as error:
            failure = contained(instance, action.function, error)
            self._fail(turn, failure, Outcome.TOOK_EFFECT)
        else:
            self._answer(turn, action, output, at_once=before is not None and before.clean)
        finally:
            current_turn.reset(token)

    # --- Everything else: a task with a deadline -----------------------------

    async def _run(self, turn: Turn, action: ActionDefinition, arguments: tuple[Any, ...]) -> None:
        instance = self._instance
        self._has_begun(turn)

        def function() -> Any:
            return call(instance, action.function, instance.actor, *arguments)

        await self._within_deadline(turn, action, function, arguments)

    async def _within_deadline(
        self,
        turn: Turn,
        action: ActionDefinition,
        function: Callable[[], Awaitable[Any] | Any],
        arguments: tuple[Any, ...],
    ) -> None:
        instance = self._instance
        limit = action.timeout or instance.action_timeout
        if turn.call is not None and turn.call.timeout is not None:
            limit = min(limit, turn.call.timeout)
        task = asyncio.current_task()
        assert task is not None
        reached = Outcome.NOT_STARTED

        def expire() -> None:
            # C9: the caller is answered now, even if the code ignores its cancellation.
            late = ActionTimedOut(f"{action.name} took longer than {limit:g} s.")
            self._fail(turn, late, reached)
            task.cancel()

        turn.deadline = instance.clock.monotonic() + limit
        timer = instance.clock.call_later(limit, expire)
        current_turn.set(turn)
        try:
            await self._enter(turn, action)
            reached = Outcome.TOOK_EFFECT
            output = await self._body(turn, action, function, arguments)
        except BaseException as error:
            if asked_for(error):
                if isinstance(error, asyncio.CancelledError):
                    self._fail(turn, self._cancelled(), reached)
                raise
            turn.error = contained(instance, action.function, error)
            self._fail(turn, turn.error, reached)
        else:
            self._answer(turn, action, output)
        finally:
            timer.cancel()
            instance.turnstile.leave(turn)
            # What ran after the caller was answered may have changed the state too.
            instance.touch()

    async def _enter(self, turn: Turn, action: ActionDefinition) -> None:
        """The turn's place among the others, and the hooks of a call on its own."""
        instance = self._instance
        await instance.turnstile.enter(turn, exclusive=action.exclusive, chain=turn.chain)
        turn.entered = True
        if (
            turn.call is not None
            and turn.connection is None
            and instance.definition.hooks_on_connections
        ):
            caller = turn.call.caller or Caller()
            chain = [*turn.chain, turn.id]
            turn.connection = await instance.connections.open_plain(caller, chain)

    async def _body(
        self,
        turn: Turn,
        action: ActionDefinition,
        function: Callable[[], Awaitable[Any] | Any],
        arguments: tuple[Any, ...],
    ) -> Any:
        instance = self._instance
        before = self._count(action)
        output = function()
        plain = True
        if inspect.isawaitable(output):
            plain = False
            output = await finish(instance, action.function, output)
        if before is not None:
            instance.readonly_ends(before, plain=plain)
        else:
            instance.check_state(turn, own=1)
        if "on_before_action_response" in instance.definition.hooks and turn.call is not None:
            hook = instance.actor.on_before_action_response
            try:
                output = await settle(instance, hook, action.name, arguments, output)
            except Exception:
                text = "%r: on_before_action_response failed; ignored"
                log.exception(text, instance, extra=REPEATED)
        return output

    async def run_scheduled(
        self, turn: Turn, action: ActionDefinition, arguments: bytes
    ) -> BaseException | None:
        """Run an action for the schedule; what it failed with, already logged."""
        instance = self._instance

        def body() -> Any:
            decoded = call(instance, action.arguments.decode, arguments)
            return call(instance, action.function, instance.actor, *decoded)

        limit = action.timeout or instance.action_timeout
        try:
            await self._within_deadline(turn, action, body, ())
        except asyncio.CancelledError:
            if instance.state is not State.RUNNING:
                raise
            turn.error = ActionTimedOut(f"{action.name} took longer than {limit:g} s.")
        if turn.error is not None:
            text, error = "%r: scheduled %s failed", turn.error
            log.error(text, instance, action.name, exc_info=error, extra=REPEATED)
        return turn.error

    # --- Answers, one for each call ------------------------------------------

    def _answer(
        self, turn: Turn, action: ActionDefinition, output: Any, *, at_once: bool = False
    ) -> None:
        if turn.call is None:
            return
        if turn.undone:
            lost = InvalidStateType("a field was put back while the action ran")
            self._fail(turn, lost, Outcome.UNKNOWN)
            return
        try:
            nothing = output is None and action.returns_nothing
            encoded = None if nothing else values.encode_sent(output)
        except BaseException as raised:
            error = contained(self._instance, action.function, raised)
            text = f"the result of {action.name} cannot be sent: {described(error)}"
            fault = UserCodeFailed(text)
            fault.__cause__ = error
            self._fail(turn, fault, Outcome.TOOK_EFFECT)
            return
        self._release(turn, Reply(turn.number, encoded), at_once=at_once)

    def _answer_by(self, turn: Turn) -> float:
        """When the caller stops waiting for the save, by the clock's monotonic time (C9).

        A call that brings its own deadline has no more than that, and a moment in
        which an answer at the deadline may still learn what became of its save.
        """
        instance = self._instance
        own = turn.call.timeout if turn.call is not None else None
        grace = instance.host.settings.save_grace
        deadline = turn.deadline
        if deadline is None:
            limit = instance.action_timeout if own is None else min(own, instance.action_timeout)
            deadline = instance.clock.monotonic() + limit
        return deadline + (grace if own is None else min(grace, OWN_DEADLINE_GRACE))

    def _fail(self, turn: Turn, error: BaseException, outcome: Outcome) -> None:
        if turn.call is not None and not turn.answered:
            where = f"{self._instance!r} {turn.call.action}"
            self._release(turn, Failed(turn.number, failure_of(error, outcome, where)))

    def _release(self, turn: Turn, message: Reply | Failed, *, at_once: bool = False) -> None:
        if turn.answered:
            return
        turn.answered = True
        instance, session = self._instance, turn.session
        assert session is not None
        session.untrack(message.call)
        if turn.connection is not None and turn.connection.session is None:
            instance.connections.close_plain(turn.connection)
        if turn.key_part is not None:
            for other in instance.keys.finish(turn, message):
                self._release(other, readdressed(message, other.number))
        if at_once and instance.checkpoint.gate.empty:
            session.deliver(message)
            return

        deadlines = instance.host.deadlines

        def release(error: RivetError | None) -> None:
            deadlines.drop(turn)
            if turn.told:
                return
            if error is None:
                session.deliver(message)
                return
            failed = Failed(message.call, failure_of(error, Outcome.UNKNOWN, repr(instance)))
            if turn.key_part is not None and isinstance(error, InvalidStateType):
                instance.keys.amend(turn.key_part, failed)
            session.deliver(failed)

        def expire() -> None:
            # C9: the store may hang, but whoever waits for it is told in time.
            turn.told = True
            late = ActionTimedOut("The action has run, but its save was not confirmed in time.")
            failure = failure_of(late, Outcome.UNKNOWN, repr(instance))
            session.deliver(Failed(message.call, failure))

        deadlines.add(turn, self._answer_by(turn), expire)
        size = OVERHEAD + (len(message.output or b"") if isinstance(message, Reply) else 0)
        instance.hold(release, strict=turn.key_part is not None, size=size)
