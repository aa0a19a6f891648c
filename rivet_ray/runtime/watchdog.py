"""A thread that sees what holds the event loop, and names it in the log.

User code that blocks (`time.sleep`, a computation, a synchronous driver) stops every
actor and every client of the process. Eight times within the limit the thread asks the
loop to call it back; when no answer has come for as long as the limit, it logs the stack
of the loop's thread, once for each time that the loop is held, with whose code it is.

It costs the loop one callback at a time, whatever runs there: who is to blame is read
off the stack, where `user_code` has its frames.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType, TracebackType
from typing import Any, Self

from rivet_ray.definition import user_code
from rivet_ray.definition.user_tasks import Guarded

log = logging.getLogger("rivet_ray.runtime")

LIMIT = 1.0
"""Seconds for which the loop may be held without a word."""

_BOUNDARY = frozenset((user_code.call.__code__, user_code.finish.__code__))
_TASK = frozenset((Guarded.send.__code__, Guarded.throw.__code__))


class Watchdog:
    """Watches the running event loop from `start` to `stop`, or as `with Watchdog():`."""

    def __init__(self, limit: float | None = LIMIT) -> None:
        """`limit` is in seconds; None watches nothing."""
        self.blocked = 0
        """How many times the loop was held for longer than the limit."""
        self._limit = limit
        self._answered = True
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._limit is None or self._thread is not None:
            return
        self._ended.clear()
        self._answered = True
        watched = asyncio.get_running_loop(), threading.get_ident(), self._limit
        self._thread = threading.Thread(
            target=self._watch, args=watched, name="rivet-ray-watchdog", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _answer(self) -> None:
        self._answered = True

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int, limit: float) -> None:
        pause = limit / 8
        asked = looked = time.monotonic()
        worked = time.process_time()
        told = False
        while not self._ended.wait(pause):
            now, working = time.monotonic(), time.process_time()
            late = now - looked - pause
            # Not the loop was held but the process, by a signal or a machine that slept.
            if late > limit / 2 and working - worked < late / 2:
                asked += late
            looked, worked = now, working
            if self._answered:
                self._answered, told, asked = False, False, now
                try:
                    loop.call_soon_threadsafe(self._answer)
                except RuntimeError:
                    return  # The loop is closed.
            elif not told and now - asked >= limit:
                told = True
                self._tell(thread, limit)

    def _tell(self, thread: int, limit: float) -> None:
        self.blocked += 1
        frame = sys._current_frames().get(thread)
        stack = "" if frame is None else "".join(traceback.format_stack(frame))
        log.warning(
            "the event loop has been held for more than %g s by %s; nothing else runs "
            "meanwhile. Use await, or asyncio.to_thread for what blocks. blocked=%d\n%s",
            limit,
            culprit(frame),
            self.blocked,
            stack,
        )


def culprit(frame: FrameType | None) -> str:
    """Whose code a stack is in: the function, and its actor by name and key."""
    while frame is not None:
        if frame.f_code in _BOUNDARY:
            found = frame.f_locals
            return _named(found.get("function"), found.get("owner"))
        if frame.f_code in _TASK:
            task: Any = frame.f_locals.get("self")
            return f"a task, {_named(task._work, task.owner)}"
        frame = frame.f_back
    return "the server, or code that is no actor's"


def _named(function: object, owner: object) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{name} of {getattr(owner, 'instance', owner)!r}"
