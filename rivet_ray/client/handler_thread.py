"""The thread in which the event handlers of a synchronous connection are called."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from rivet_ray.client.backlog import EVENT, Backlog
from rivet_ray.client.listeners import LaterHandler
from rivet_ray.client.settings import Held
from rivet_ray.definition import user_code

CLOSE_TIMEOUT = 5.0
"""Seconds that closing waits for the handler that runs, and for what came before."""

LINGER = 1.0
"""Seconds that the thread waits for more before it ends; the next event starts another."""

log = logging.getLogger("rivet_ray.client")

Work = Callable[[], None]


class HandlerThread:
    """Calls handlers one at a time, in the order of their events.

    Not on the event loop's thread: there a handler that blocks, or calls an
    actor, would hold up the answer that it waits for.
    """

    def __init__(
        self,
        label: str,
        failed: Callable[[str, Exception], None],
        limit: int,
        held: Held | None = None,
    ) -> None:
        """`failed` is called in this thread with an event and what its handler raised.

        `limit` is how many bytes of events may wait, `held` what the whole client holds.
        """
        held = held or Held()
        self._label = label
        self._failed = failed
        self._work: SimpleQueue[Work] = SimpleQueue()
        self._lock = held.lock
        self._thread: threading.Thread | None = None
        self._closed = False
        self._backlog = Backlog(label, limit, held.handlers)
        """Guarded by the lock."""

    @property
    def dropped(self) -> int:
        """How many events were dropped because too much waited."""
        return self._backlog.dropped

    def put(
        self, event: str, handler: Callable[..., Any], arguments: tuple[Any, ...], size: int
    ) -> None:
        """Call a handler after all that came before, with an event of `size` bytes.

        If 1,024 events wait already, or too many bytes, an event is dropped and counted,
        and SlowConsumer is raised for the first, until half of them are handled. Life-cycle
        events have room beyond, for 256 more; further ones are dropped and counted.
        """
        size += EVENT

        def work() -> None:
            try:
                user_code.call(self._label, handler, *arguments)
            except Exception as error:
                self._failed(event, error)
            finally:
                with self._lock:
                    self._backlog.give_back(event, size)

        with self._lock:
            if self._closed or not self._backlog.take(event, size, self._work.qsize()):
                return
            self._work.put(work)
            if self._thread is None:
                name = f"rivet_ray handlers of {self._label}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Let the handlers of what has come finish; later events are not taken. Idempotent."""
        with self._lock:
            self._closed = True
            self._work.put(_nothing)  # wakes the thread where it waits for more
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(CLOSE_TIMEOUT)
        if thread.is_alive():
            log.warning("a handler of %s still runs after %g s", self._label, CLOSE_TIMEOUT)

    def _run(self) -> None:
        while True:
            try:
                self._work.get(timeout=0.0 if self._closed else LINGER)()
            except Empty:
                with self._lock:
                    if self._work.empty():
                        self._thread = None
                        return


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Dispatched(LaterHandler):
    """A handler as the asynchronous connection holds it; equal where the handlers are."""

    handler: Callable[..., Any]
    event: str = field(compare=False)
    thread: HandlerThread = field(compare=False)

    def put(self, arguments: tuple[Any, ...], size: int) -> None:
        self.thread.put(self.event, self.handler, arguments, size)
