"""The end of a process within its time: by a thread where the event loop does not get there.

The first SIGTERM or Ctrl-C begins an orderly stop. Where that is not over after the grace,
or where it is asked a second time, a thread ends the process at once, whatever holds it up:
code that blocks, a store that hangs, a thread that nobody ends. It says in the log what may
not be saved. What was acknowledged is saved in any case.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, MethodType
from weakref import WeakMethod

log = logging.getLogger("rivet_ray.shutdown")

GRACE = 25.0
"""Seconds from the first signal to the end of the process. Less than the 30 that
Kubernetes gives; for `docker stop`, which gives 10, say `--grace 9`."""
DRAIN = 0.3
"""The part of it for requests under way at a gateway, before the host closes."""
CLOSE = 0.6
"""The part of it for a host to close: see `HostSettings.close_timeout`."""
SAYING = 1.0
"""Seconds for the last line of the log, which may be held up too."""
TOGETHER = 2.0
"""Seconds within which SIGTERM and Ctrl-C count as one."""
LATE = 1
"""The exit status where the grace was over; at a second signal it is 128 and its number."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_reports: list[WeakMethod[Callable[[], list[str]]]] = []


def tell_of_unsaved(report: Callable[[], list[str]]) -> None:
    """Ask this method, from another thread, what may not be saved when a process is ended."""
    _reports[:] = [item for item in _reports if item() is not None]
    _reports.append(WeakMethod(report))


class Shutdown:
    """Watches over the orderly stop of this process."""

    def __init__(self, grace: float = GRACE) -> None:
        self.grace = grace
        self._ears, self._mouth = os.pipe()
        threading.Thread(target=self._watch, name="rivet-ray-shutdown", daemon=True).start()

    def catch(self, stop: Callable[[int, FrameType | None], None]) -> None:
        """Call `stop` at the first signal, on the main thread, and watch from then on.

        The handlers stay: a second signal ends the process, also while it is leaving.
        They are methods of the object that `stop` is a method of: sse-starlette finds
        the server there, and ends its streams when that one stops.
        """
        asked = False

        def handle(_: object, number: int, frame: FrameType | None) -> None:
            nonlocal asked
            # Nothing else: a handler runs in the middle of anything, and may hold any lock.
            os.write(self._mouth, bytes((number,)))
            if not asked:
                asked = True
                stop(number, frame)

        handler = MethodType(handle, getattr(stop, "__self__", self))
        for number in SIGNALS:
            signal.signal(number, handler)

    def _watch(self) -> None:
        first = os.read(self._ears, 1)[0]
        began = time.monotonic()
        while select.select([self._ears], [], [], max(began + self.grace - time.monotonic(), 0))[0]:
            number = os.read(self._ears, 1)[0]
            # Ctrl-C goes to a whole terminal, and a supervisor there sends SIGTERM after it.
            if number == first or time.monotonic() - began > TOGETHER:
                self._end(128 + number, f"a second {signal.Signals(number).name}")
        self._end(LATE, f"its stop was not over after {self.grace:g} s")

    @staticmethod
    def _end(status: int, why: str) -> None:
        saying = threading.Thread(target=_say, args=(why,), daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread can be started any more
            saying.start()
            saying.join(SAYING)
        os._exit(status)


def _say(why: str) -> None:
    unsaved = [name for report in _reports if (method := report()) for name in method()]
    running = [
        thread.name
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    ]
    log.critical(
        "the process is ended: %s. Actors whose last changes may not be saved: %s."
        " Threads that still run: %s",
        why,
        _named(unsaved),
        _named(running),
    )
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _named(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "none"
