"""The boundary: the one place that runs a user's function.

A user's function may raise anything. An `Exception` is an error of its call. Anything
else means more than that to asyncio and to Python: SystemExit and KeyboardInterrupt
end the event loop, and with it every actor of the process; CancelledError looks as if
somebody had cancelled the call; GeneratorExit passes every `except Exception`. When
user code raises one of these and nobody asked for it, it becomes `UserCodeFailed`:
the failure of that call alone.

Who asked decides, not the type. A task that the runtime cancels (a deadline, a caller
that leaves, the actor's stop) counts its cancellations, and a coroutine that is closed
with its loop runs in no task. These pass.

`owner` names what the code belongs to, for the log: it is formatted only when
something goes wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar, cast

from typing_extensions import TypeVarTuple

from rivet_ray.errors import InternalError

T = TypeVar("T")
Args = TypeVarTuple("Args")


class UserCodeFailed(InternalError):
    """User code raised what is not an `Exception`, or failed where it must not.

    The cause is what it raised. The caller learns nothing of it but `internal_error`.
    """


def call(owner: object, function: Callable[[*Args], T], *args: *Args) -> T:
    """Call a user's function and return what it returns, perhaps an awaitable.

    Raises exceptions of its own as they are, and UserCodeFailed for anything else.
    """
    try:
        return function(*args)
    except Exception:
        raise
    except BaseException as error:
        raise contained(owner, function, error) from error


async def finish(owner: object, function: object, work: Awaitable[T]) -> T:
    """Await what a user's function has returned.

    Raises what it raises as `call` does; a cancellation that somebody asked for passes.
    """
    try:
        return await work
    except Exception:
        raise
    except BaseException as error:
        if asked_for(error):
            raise
        raise contained(owner, function, error) from error


async def settle(owner: object, function: Callable[[*Args], Awaitable[T] | T], *args: *Args) -> T:
    """Call a user's function that may be plain or asynchronous, to its end."""
    result = call(owner, function, *args)
    if isawaitable(result):
        return await finish(owner, function, result)
    return cast("T", result)


def asked_for(error: BaseException) -> bool:
    """Whether somebody wants the code of this task to end, which the error obeys."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None  # Its loop has ended.
    if task is None:
        return isinstance(error, GeneratorExit)
    return isinstance(error, asyncio.CancelledError) and task.cancelling() > 0


def contained(owner: object, function: object, error: BaseException) -> Exception:
    """The error of a user's function as one that ends nothing but its call."""
    if isinstance(error, Exception):
        return error
    failed = UserCodeFailed(f"{_name(function)} of {owner!r} raised {_problem(error)}")
    failed.__cause__ = error
    return failed


def _problem(error: BaseException) -> str:
    kind = type(error).__name__
    if isinstance(error, asyncio.CancelledError):
        return (
            f"{kind}, and nobody has cancelled it. It probably took the result of a task "
            "that was cancelled; catch asyncio.CancelledError there."
        )
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        return (
            f"{kind}, which would end the process for every actor. "
            "Raise an error instead, such as UserError."
        )
    return f"{kind}, which is not an Exception. Derive your errors from Exception."


def _name(function: object) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name)


def described(error: BaseException) -> str:
    """An error's type and text, also where its `__str__` fails."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return type(error).__name__
