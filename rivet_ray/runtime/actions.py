"""Running the action of a call: check, run, answer through the gate."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from rivet_ray.definition import ActionDefinition
from rivet_ray.errors import (
    ActionCancelled,
    ActionNotFound,
    ActionTimedOut,
    ActorStopped,
    ConnectionNotFound,
    Outcome,
    RivetError,
)
from rivet_ray.protocol import values
from rivet_ray.protocol.port import Call, Caller, Failed, Reply
from rivet_ray.runtime.failures import failure_of
from rivet_ray.runtime.lifecycle import State
from rivet_ray.runtime.turn import Turn, current_turn, settled

if TYPE_CHECKING:
    from rivet_ray.runtime.instance import Instance
    from rivet_ray.runtime.session import Session

log = logging.getLogger("rivet_ray.runtime")


class Actions:
    """The calls of one instance. They interleave at their awaits."""

    __slots__ = ("_instance",)

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def begin(self, session: Session, call: Call) -> None:
        """Start the turn of a call; a plain method has run when this returns."""
        instance = self._instance
        action = instance.definition.actions.get(call.action)
        connection = None
        try:
            if action is None:
                raise ActionNotFound(f"{instance.record.name} has no action {call.action!r}.")
            arguments = action.arguments.decode(call.arguments)
            if call.connection is not None:
                connection = instance.connections.get(call.connection)
                if connection is None:
                    raise ConnectionNotFound("The connection is not open.")
        except RivetError as error:
            self._fail(Turn(instance, session, call), error, Outcome.NOT_STARTED)
            return
        turn = Turn(instance, session, call, connection)
        hooks = instance.definition.hooks
        opens = connection is None and instance.definition.hooks_on_connections
        if action.is_async or opens or "on_before_action_response" in hooks:
            task = instance.own(self._run(turn, action, arguments, opens))
            session.track(call.call, task)
        else:
            self._run_now(session, turn, action, arguments)

    def _run_now(
        self, session: Session, turn: Turn, action: ActionDefinition, arguments: tuple[Any, ...]
    ) -> None:
        token = current_turn.set(turn)
        try:
            output = action.function(self._instance.actor, *arguments)
        except Exception as error:
            self._fail(turn, error, Outcome.TOOK_EFFECT)
        else:
            if inspect.isawaitable(output):
                task = self._instance.own(self._within_deadline(turn, action, lambda: output, ()))
                session.track(turn.number, task)
            else:
                self._answer(turn, action, output)
        finally:
            current_turn.reset(token)

    async def _run(
        self, turn: Turn, action: ActionDefinition, arguments: tuple[Any, ...], opens: bool
    ) -> None:
        instance = self._instance
        if opens:
            assert turn.call is not None
            try:
                caller = turn.call.caller or Caller()
                turn.connection = await instance.connections.open_plain(caller)
            except Exception as error:
                self._fail(turn, error, Outcome.NOT_STARTED)
                return

        def function() -> Any:
            return action.function(instance.actor, *arguments)

        await self._within_deadline(turn, action, function, arguments)

    async def _within_deadline(
        self,
        turn: Turn,
        action: ActionDefinition,
        function: Callable[[], Awaitable[Any] | Any],
        arguments: tuple[Any, ...],
    ) -> None:
        instance = self._instance
        assert turn.call is not None
        limit = action.timeout or instance.action_timeout
        if turn.call.timeout is not None:
            limit = min(limit, turn.call.timeout)
        task = asyncio.current_task()
        assert task is not None

        def expire() -> None:
            # C9: the caller is answered now, even if the code ignores its cancellation.
            late = ActionTimedOut(f"{action.name} took longer than {limit:g} s.")
            self._fail(turn, late, Outcome.TOOK_EFFECT)
            task.cancel()

        timer = instance.clock.call_later(limit, expire)
        current_turn.set(turn)
        try:
            output = await settled(function())
            if "on_before_action_response" in instance.definition.hooks:
                output = await self._before_response(action, arguments, output)
        except asyncio.CancelledError:
            reason = (
                ActionCancelled("The action was cancelled.")
                if instance.state is State.RUNNING
                else ActorStopped("The actor stopped while the action ran.")
            )
            self._fail(turn, reason, Outcome.TOOK_EFFECT)
            raise
        except Exception as error:
            self._fail(turn, error, Outcome.TOOK_EFFECT)
        else:
            self._answer(turn, action, output)
        finally:
            timer.cancel()
            # What ran after the caller was answered may have changed the state too.
            instance.touch()

    async def _before_response(
        self, action: ActionDefinition, arguments: tuple[Any, ...], output: Any
    ) -> Any:
        hook = self._instance.actor.on_before_action_response
        try:
            return await settled(hook(action.name, arguments, output))
        except Exception:
            log.exception("%r: on_before_action_response failed; ignored", self._instance)
            return output

    # --- Answers, one for each call ---------------------------------------

    def _answer(self, turn: Turn, action: ActionDefinition, output: Any) -> None:
        try:
            nothing = output is None and action.returns_nothing
            encoded = None if nothing else values.encode(output)
        except (TypeError, OverflowError, RecursionError, ValueError) as error:
            fault = TypeError(f"the result of {action.name} cannot be sent: {error}")
            self._fail(turn, fault, Outcome.TOOK_EFFECT)
            return
        self._release(turn, Reply(turn.number, encoded))

    def _fail(self, turn: Turn, error: BaseException, outcome: Outcome) -> None:
        if not turn.answered:
            where = f"{self._instance!r} {turn.call.action if turn.call else ''}"
            self._release(turn, Failed(turn.number, failure_of(error, outcome, where)))

    def _release(self, turn: Turn, message: Reply | Failed) -> None:
        if turn.answered:
            return
        turn.answered = True
        instance, session = self._instance, turn.session
        assert session is not None
        session.untrack(message.call)
        if turn.connection is not None and turn.connection.session is None:
            instance.connections.close_plain(turn.connection)

        def release(error: RivetError | None) -> None:
            if error is None:
                session.deliver(message)
            else:
                unknown = failure_of(error, Outcome.UNKNOWN, repr(instance))
                session.deliver(Failed(message.call, unknown))

        instance.hold(release)
