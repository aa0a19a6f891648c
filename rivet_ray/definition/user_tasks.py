"""Tasks that user code starts on our event loop.

asyncio lets SystemExit and KeyboardInterrupt of any task out of the event loop, which
ends it. A task that user code starts is wrapped, so that these are its own error: who
awaits the task gets UserCodeFailed, and asyncio logs it when nobody does.

User code is what runs where `current` or `outside` is set; tasks inherit them. The
runtime's own tasks run user code at the boundary, and need no wrapping: they are made
by `own_task`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

from typing_extensions import override

from rivet_ray.definition.user_code import contained

T = TypeVar("T")

current: ContextVar[Any] = ContextVar("rivet_ray_turn", default=None)
"""The turn of an actor whose code runs now."""
outside: ContextVar[object] = ContextVar("rivet_ray_outside", default=None)
"""What the user code belongs to that runs for no actor, such as `on_auth`."""

_END_A_LOOP = (SystemExit, KeyboardInterrupt)


def own_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task of the runtime, also when user code has caused it."""
    return asyncio.Task(work, loop=asyncio.get_running_loop())


def guard_tasks() -> None:
    """Wrap the tasks that user code starts on the running loop; harmless when repeated.

    A task factory that is set already goes on making the tasks.
    """
    loop = asyncio.get_running_loop()
    factory = loop.get_task_factory()
    if not isinstance(factory, _Factory):
        loop.set_task_factory(_Factory(factory))


def cancel_tasks_of(owner: object) -> None:
    """Cancel what the code of `owner` has started and nobody has ended."""
    for task in asyncio.all_tasks():
        work = task.get_coro()
        if isinstance(work, Guarded) and work.owner is owner:
            task.cancel()


class _Factory:
    def __init__(self, before: Callable[..., Any] | None) -> None:
        self._make: Callable[..., Any] = before or _make

    def __call__(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        owner = current.get() or outside.get()
        if owner is not None and asyncio.iscoroutine(work):
            work = Guarded(owner, work)
        return self._make(loop, work, **options)


def _make(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(work, loop=loop, **options)


class Guarded(Coroutine[Any, Any, Any]):
    """A coroutine whose SystemExit and KeyboardInterrupt are errors like any other.

    Not a coroutine function around it: that would never start the one inside when its
    task is cancelled first, and Python warns of such.
    """

    __slots__ = ("_work", "owner")

    def __init__(self, owner: object, work: Coroutine[Any, Any, Any]) -> None:
        self.owner = owner
        self._work = work

    @override
    def send(self, value: Any, /) -> Any:
        try:
            return self._work.send(value)
        except _END_A_LOOP as error:
            raise contained(self.owner, self._work, error) from error

    @override
    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None, /) -> Any:
        try:
            if value is None and traceback is None:
                return self._work.throw(kind)
            return self._work.throw(kind, value, traceback)
        except _END_A_LOOP as error:
            raise contained(self.owner, self._work, error) from error

    @override
    def close(self) -> None:
        self._work.close()

    @override
    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()

    def __getattr__(self, name: str) -> Any:
        """Name, code and frame, as debuggers and asyncio's `repr` ask for them."""
        return getattr(self._work, name)
