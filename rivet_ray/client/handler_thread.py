"""The thread in which the event handlers of a synchronous connection are called."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from rivet_ray.client.listeners import MAX_UNREAD
from rivet_ray.definition.remote import LIFECYCLE
from rivet_ray.errors import SlowConsumer

CLOSE_TIMEOUT = 5.0
"""Seconds that closing waits for the handler that runs, and for what came before."""

MAX_LIFECYCLE = 256
"""How many life-cycle events, errors among them, may wait beyond the others."""

LINGER = 1.0
"""Seconds that the thread waits for more before it ends; the next event starts another."""

log = logging.getLogger("rivet_ray.client")

Work = Callable[[], None]


class HandlerThread:
    """Calls handlers one at a time, in the order of their events.

    Not on the event loop's thread: there a handler that blocks, or calls an
    actor, would hold up the answer that it waits for.
    """

    def __init__(self, label: str, failed: Callable[[str, Exception], None]) -> None:
        """`failed` is called in this thread with an event and what its handler raised."""
        self._label = label
        self._failed = failed
        self._work: SimpleQueue[Work] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.dropped = 0
        """How many events were dropped because too many waited."""
        self._dropping = False

    def put(self, event: str, handler: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Call a handler after all that came before.

        If 1,024 events wait already, an event is dropped and counted, and SlowConsumer
        is raised for the first, until fewer than half as many wait. Life-cycle events
        have room beyond, for 256 more; further ones are dropped and counted.
        """
        waiting = self._work.qsize()
        if waiting < MAX_UNREAD // 2:
            self._dropping = False
        room = MAX_UNREAD + (MAX_LIFECYCLE if event in LIFECYCLE else 0)
        if waiting >= room:
            self.dropped += 1
            if self._dropping:
                return
            self._dropping = True
            if event in LIFECYCLE:
                log.warning("the handlers of %s are too slow: %r is dropped", self._label, event)
                return
            raise SlowConsumer(
                f"The handlers of {self._label} are too slow: {MAX_UNREAD} events wait for them. "
                f"An event {event!r} was dropped, and more will be until half of them are handled "
                f"({self.dropped} so far). Do less in handlers, or read conn.events(…)."
            )

        def work() -> None:
            try:
                handler(*arguments)
            except Exception as error:
                self._failed(event, error)

        with self._lock:
            if self._closed:
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
class Dispatched:
    """A handler as the asynchronous connection holds it; equal where the handlers are."""

    handler: Callable[..., Any]
    event: str = field(compare=False)
    thread: HandlerThread = field(compare=False)

    def __call__(self, *arguments: Any) -> None:
        self.thread.put(self.event, self.handler, arguments)
