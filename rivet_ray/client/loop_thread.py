"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from rivet_ray.errors import Outcome, RequestFailed

T = TypeVar("T")

JOIN_TIMEOUT = 10.0
"""Seconds that closing waits for the thread: sockets say goodbye, and may take a while."""


class LoopThread:
    """Runs coroutines for callers of any thread that has no event loop itself.

    The thread starts with the first use, so an object made before a fork and
    first used after it works in the child. It ends with `close`, with the last
    reference to this object, or with the interpreter.
    """

    def __init__(self, name: str, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`last` runs there at the end. It must not hold on to this object."""
        self._name = name
        self._last = last
        self._lock = threading.Lock()
        self._process: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[], object] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there, wait for it, and return or raise what it does.

        An exception in the waiting thread, such as KeyboardInterrupt, cancels it.
        Raises RuntimeError on a thread that runs an event loop and in a process
        forked off after the first use, RequestFailed once this is closed.
        """
        try:
            self.check()
            future = self._submit(work)
        except BaseException:
            work.close()
            raise
        try:
            return future.result()
        except CancelledError:
            raise RequestFailed(
                "This client was closed while a call was under way.", outcome=Outcome.UNKNOWN
            ) from None
        except BaseException:
            future.cancel()
            raise

    def post(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call something there, soon; not at all once this is closed."""
        with self._lock:
            if not self._closed and self._loop is not None:
                self._loop.call_soon_threadsafe(callback, *arguments)

    def check(self) -> None:
        """Raise RuntimeError where waiting would block an event loop, or never end."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(
                "SyncClient blocks its thread, and this thread runs an event loop. Await the "
                "same call of an asynchronous client (App.client(…) or Client(…)), or give the "
                "blocking function to a thread: await asyncio.to_thread(function)"
            )
        if self._process not in (None, os.getpid()):
            raise RuntimeError(
                "This SyncClient was used before the process forked, and its thread and sockets "
                "stayed with the parent. Make a client, or use it first, in the forked worker."
            )

    def close(self) -> None:
        """Run `last`, cancel whatever else still runs, end the thread. Idempotent."""
        self.check()
        with self._lock:
            self._closed = True
            stop = self._stop
            self._loop = self._stop = None
        if stop is not None:
            stop()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._closed:
                raise RequestFailed("This client is closed.", outcome=Outcome.NOT_STARTED)
            loop = self._loop or self._start()
            return asyncio.run_coroutine_threadsafe(work, loop)

    def _start(self) -> asyncio.AbstractEventLoop:
        ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        # A daemon, so that a client which nobody closed does not keep the interpreter.
        thread = threading.Thread(
            target=_serve, args=(ready, self._last), name=self._name, daemon=True
        )
        thread.start()
        loop, stop = ready.result()
        self._process = os.getpid()
        self._loop = loop
        self._stop = weakref.finalize(self, _end, thread, loop, stop, self._process)
        return loop


def _serve(
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]],
    last: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    async def live() -> None:
        stop = asyncio.Event()
        ready.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        await last()

    # Where it ends it cancels every task that is left, and waits for them.
    asyncio.run(live())


def _end(
    thread: threading.Thread,
    loop: asyncio.AbstractEventLoop,
    stop: asyncio.Event,
    process: int,
) -> None:
    if process != os.getpid():
        return  # A fork's copy: the thread and its loop belong to the parent.
    loop.call_soon_threadsafe(stop.set)
    if thread is not threading.current_thread():
        thread.join(JOIN_TIMEOUT)
