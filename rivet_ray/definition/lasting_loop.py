"""The event loop of a process of ours, which goes on whatever a callback raises.

asyncio and uvloop let SystemExit and KeyboardInterrupt of a callback out of the loop,
which ends it, and with it every actor of the process. Tasks of user code are wrapped
(`user_tasks`). Callbacks that user code gives to the loop itself (`call_soon`,
`call_later`, `add_done_callback`) cannot be: wrapping each would cost every step of every
task. So the loop is entered again instead, which costs nothing until it happens.

What the main coroutine raises ends the loop as ever, and so does Ctrl-C.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.runtime")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The fastest loop there is here, as one that goes on."""
    if sys.platform == "win32":

        class LastingProactor(asyncio.ProactorEventLoop):
            def run_until_complete(self, future: Any) -> Any:
                return last(super().run_until_complete, asyncio.ensure_future(future, loop=self))

        return LastingProactor()
    import uvloop

    class Lasting(uvloop.Loop):
        def run_until_complete(self, future: Any) -> Any:
            return last(super().run_until_complete, asyncio.ensure_future(future, loop=self))

    return Lasting()


def last(run: Callable[[asyncio.Future[Any]], Any], future: asyncio.Future[Any]) -> Any:
    """Run a loop until the future is done, and again whenever a callback has ended it."""
    while True:
        try:
            return run(future)
        except (SystemExit, KeyboardInterrupt) as error:
            if future.done() or _is_of_a_signal(error):
                raise
            log.error(
                "a callback of the event loop raised %r, which would have ended the process "
                "for every actor. Raise an error instead, such as UserError.",
                error,
                exc_info=error,
                extra=REPEATED,
            )


def _is_of_a_signal(error: BaseException) -> bool:
    """Whether it may be Ctrl-C that raised it: Python's handler is there, or asyncio's."""
    if not isinstance(error, KeyboardInterrupt):
        return False
    handler = signal.getsignal(signal.SIGINT)
    raises = handler is signal.default_int_handler or isinstance(handler, functools.partial)
    return raises and threading.current_thread() is threading.main_thread()
