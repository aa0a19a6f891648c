"""Parameters as a caller gives them: a value, or what makes one each time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from rivet_ray.definition import user_code
from rivet_ray.errors import Outcome, RequestFailed


class ParamsFault(Exception):
    """The callable that makes the parameters of a connection failed."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def check(params: Any) -> None:
    """Raise TypeError for a callable that cannot be called without arguments."""
    if not callable(params):
        return
    try:
        inspect.signature(params).bind()
    except TypeError as error:
        raise TypeError(f"params={params!r} is called without arguments: {error}") from None
    except ValueError:
        return  # It does not say what it takes.


async def now(params: Any) -> Any:
    """The value, of a callable the one that it returns now; raises what it raises."""
    return await _awaited(params()) if callable(params) else params


async def _awaited(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found


async def within(params: Any, timeout: float) -> tuple[Any, float]:
    """The value, and how many seconds it leaves of `timeout`.

    Raises RequestFailed where it leaves none, and what a callable raises.
    """
    if not callable(params):
        return params, timeout
    loop = asyncio.get_running_loop()
    begun = loop.time()
    deadline = asyncio.timeout(timeout)
    try:
        async with deadline:
            found = await now(params)
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise RequestFailed(
            f"The callable given as params took more than {timeout:g} s.",
            outcome=Outcome.NOT_STARTED,
        ) from error
    return found, max(0.0, timeout - (loop.time() - begun))


def in_a_thread(params: Any) -> Any:
    """The same for a loop that must not be blocked: a plain function is called in a thread."""
    if not callable(params) or inspect.iscoroutinefunction(params):
        return params
    check(params)
    call: Callable[[], Any] = params

    async def given() -> Any:
        found = await asyncio.to_thread(user_code.call, "the parameters", call)
        return await _awaited(found)

    return given
