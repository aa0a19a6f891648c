"""The thread of a host's event loop, and user code that runs in others.

An action may work in another thread (`await asyncio.to_thread(work)`), and `work` may
use `self`. What returns nothing (events, `sleep`, `keep_awake`, `wait_until`) is done on
the loop as soon as it turns, in the order in which it was asked for, and before the
action goes on behind its `await`. `destroy`, and what returns something, raise WrongThread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import get_ident
from typing import TypeVar

from typing_extensions import TypeVarTuple

from rivet_ray.errors import RivetError

T = TypeVar("T")
Args = TypeVarTuple("Args")


class WrongThread(RivetError):
    """Something of an actor was used in another thread than that of its event loop."""

    code = "wrong_thread"


class Home:
    """The running event loop, and its thread."""

    __slots__ = ("_loop", "_thread")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()

    @property
    def here(self) -> bool:
        """Whether this code runs in the loop's thread."""
        return get_ident() == self._thread

    def do(self, function: Callable[[*Args], object], *args: *Args) -> None:
        """Call a function in the loop's thread: now if that is this one, otherwise soon."""
        if get_ident() == self._thread:
            function(*args)
        else:
            self._loop.call_soon_threadsafe(function, *args)

    def require(self, what: str) -> None:
        """Raise WrongThread, with what to do instead, unless this is the loop's thread."""
        if get_ident() != self._thread:
            raise WrongThread(
                f"{what} was used in another thread than the actor's own. Use it in the action "
                "itself, behind `await asyncio.to_thread(...)`. Or take "
                "`loop = asyncio.get_running_loop()` in the action, and in the thread call "
                "`loop.call_soon_threadsafe(...)` for a function, or "
                "`asyncio.run_coroutine_threadsafe(..., loop).result()` for a coroutine."
            )
