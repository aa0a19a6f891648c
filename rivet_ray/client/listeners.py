"""Who listens to what on a connection: handlers and streams."""

from __future__ import annotations

import abc
import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from rivet_ray.budget import Budget
from rivet_ray.client.backlog import EVENT, MAX_UNREAD, TASK, Backlog, size_of
from rivet_ray.client.interface import PayloadDecoder, UnexpectedValue
from rivet_ray.client.settings import admit
from rivet_ray.definition import user_code
from rivet_ray.definition.remote import LIFECYCLE, Lifecycle
from rivet_ray.definition.user_tasks import Guarded
from rivet_ray.errors import RivetError, SlowConsumer
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

CANCEL_TIMEOUT = 5.0
"""Seconds for asynchronous handlers to end when their connection is closed."""

log = logger_of_strangers("rivet_ray.client")


class Listener(Protocol):
    """Wants the events of one name."""

    active: bool
    """False once it was removed, also while an event is being handed out."""

    def receive(self, arguments: bytes) -> None:
        """Take an event. Must not raise."""
        ...


class LaterHandler(abc.ABC):
    """A handler that is called later, in another thread, and counts what waits for it."""

    @abc.abstractmethod
    def put(self, arguments: tuple[Any, ...], size: int) -> None:
        """Take an event of so many bytes. Raises SlowConsumer."""

    def __call__(self, *arguments: Any) -> None:
        self.put(arguments, size_of(arguments))


class Listeners:
    """The listeners of one connection, and the tasks of asynchronous handlers.

    They outlive sockets: whoever opens one announces `events()` on it. `changed`
    is called when an event gets its first listener or loses its last.
    """

    def __init__(self, changed: Callable[[], None], label: str, limit: int, client: Budget) -> None:
        """`limit`: bytes of events for all handlers together, and for each stream."""
        self._changed = changed
        self.label = label
        self.limit = limit
        self.client = client
        """The bound of the whole client."""
        self.backlog = Backlog(label, limit, client)
        self._listeners: dict[str, list[Listener]] = {}
        self._lifecycle: dict[str, list[Handler]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def events(self) -> Iterator[str]:
        """The names of the events that somebody listens to, oldest first."""
        return iter(self._listeners)

    def __contains__(self, event: str) -> bool:
        return event in self._listeners

    # --- Adding and removing ----------------------------------------------

    def handle(
        self, event: str, handler: Callable[..., Any], decode: PayloadDecoder, *, once: bool
    ) -> Callable[[], None]:
        """Add a handler; returns what removes it."""
        added = Handler(self, event, handler, decode, once=once)
        if event in LIFECYCLE:
            self._lifecycle.setdefault(event, []).append(added)
        else:
            self.add(event, added)
        return lambda: self.remove(event, added)

    def add(self, event: str, listener: Listener) -> None:
        listeners = self._listeners.setdefault(event, [])
        listeners.append(listener)
        if len(listeners) == 1:
            self._changed()

    def remove(self, event: str, listener: Listener) -> None:
        """Harmless for a listener that is gone already."""
        listener.active = False
        lifecycle = event in LIFECYCLE
        table: dict[str, Any] = self._lifecycle if lifecycle else self._listeners
        listeners = table.get(event, [])
        if listener in listeners:
            listeners.remove(listener)
            if not listeners:
                del table[event]
                if not lifecycle:
                    self._changed()

    def remove_handlers(
        self, event: str | None = None, handler: Callable[..., Any] | None = None
    ) -> None:
        """Remove those that match; streams stay."""
        for name in [*self._lifecycle, *self._listeners] if event is None else [event]:
            for listener in (*self._lifecycle.get(name, ()), *self._listeners.get(name, ())):
                if isinstance(listener, Handler) and handler in (None, listener.handler):
                    self.remove(name, listener)

    # --- Handing out --------------------------------------------------------

    def deliver(self, event: str, arguments: bytes) -> None:
        """Give an event of the actor to its listeners, in the order they were added."""
        for listener in tuple(self._listeners.get(event, ())):
            if listener.active:
                listener.receive(arguments)

    def deliver_unreadable(self, event: str, problem: str) -> None:
        """An event cannot be read: its streams end with that, and `error` handlers get it."""
        listeners = tuple(self._listeners.get(event, ()))
        if not listeners:
            return
        error = UnexpectedValue(f"An event {event!r} cannot be read, and is missing: {problem}.")
        for listener in listeners:
            if isinstance(listener, Stream):
                listener.end(error)
        self.emit_error(error)

    def emit(self, event: Lifecycle, *arguments: Any) -> None:
        """Give an event of the connection itself to its handlers."""
        for listener in tuple(self._lifecycle.get(event, ())):
            if listener.active:
                listener.take(arguments, size_of(arguments))

    def emit_error(self, error: Exception) -> None:
        """Give an error that no call waits for to the `error` handlers, or log it."""
        if "error" not in self._lifecycle:
            log.warning("an error on a connection has no handler: %s", error, extra=REPEATED)
        self.emit("error", error)

    def failed(self, event: str, error: Exception) -> None:
        """A handler of `event` failed: that is logged, and told unless it would circle."""
        log.error("a handler of the event %r failed", event, exc_info=error, extra=REPEATED)
        if event != "error":
            self.emit("error", error)

    # --- Tasks ---------------------------------------------------------------

    def spawn(
        self,
        event: str,
        handler: Callable[..., Any],
        work: Coroutine[Any, Any, Any],
        size: int,
    ) -> None:
        """Run an asynchronous handler until it returns, or the connection is disposed.

        Drops it if too many run. Raises SlowConsumer for the first that is dropped.
        """
        size += TASK
        taken = False
        try:
            taken = self.backlog.take(event, size)
        finally:
            if not taken:
                work.close()
        if not taken:
            return
        guarded = Guarded(self.label, work)
        task = asyncio.create_task(guarded, name=f"rivet_ray handler of {event}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._finished, event, handler, size))

    def _finished(
        self, event: str, handler: Callable[..., Any], size: int, task: asyncio.Task[Any]
    ) -> None:
        self._tasks.discard(task)
        self.backlog.give_back(event, size)
        if not task.cancelled():
            error = task.exception()
        elif task.cancelling():
            return
        else:
            error = asyncio.CancelledError()  # Its own: nobody has cancelled the handler.
        if error is not None:
            self.failed(event, user_code.contained(self.label, handler, error))

    async def finish_tasks(self) -> None:
        """Wait until no handler runs."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel_tasks(self) -> None:
        """Cancel the handlers that run, except the one that asks for it.

        One that takes no notice of it is left behind, and the log says so.
        """
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, running = await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
        for task in running:
            log.warning(
                "%s still runs %g s after it was cancelled", task.get_name(), CANCEL_TIMEOUT
            )

    def end_streams(self, error: RivetError | None) -> None:
        """Let every stream end after what it still holds, with `error` if there is one."""
        for listeners in list(self._listeners.values()):
            for listener in list(listeners):
                if isinstance(listener, Stream):
                    listener.end(error)


class Handler:
    """A function that is called for each event."""

    __slots__ = ("_decode", "_event", "_listeners", "_once", "active", "handler")

    def __init__(
        self,
        listeners: Listeners,
        event: str,
        handler: Callable[..., Any],
        decode: PayloadDecoder,
        *,
        once: bool,
    ) -> None:
        self._listeners = listeners
        self._event = event
        self._decode = decode
        self._once = once
        self.handler = handler
        self.active = True

    def receive(self, arguments: bytes) -> None:
        try:
            decoded = user_code.call(self._listeners.label, self._decode, arguments)
        except Exception as error:
            self._listeners.failed(self._event, error)
        else:
            self.take(decoded, len(arguments))

    def take(self, arguments: tuple[Any, ...], size: int) -> None:
        """Call the handler; `size` is how many bytes the event has."""
        if self._once:
            self._listeners.remove(self._event, self)
        try:
            if isinstance(self.handler, LaterHandler):
                self.handler.put(arguments, size)
                return
            result = user_code.call(self._listeners.label, self.handler, *arguments)
            if inspect.iscoroutine(result):
                self._listeners.spawn(self._event, self.handler, result, size)
        except Exception as error:
            self._listeners.failed(self._event, error)


class Stream:
    """The events of one name, to be read with `async for`, by one reader."""

    def __init__(
        self,
        listeners: Listeners,
        event: str,
        decode: PayloadDecoder,
        start: Callable[[], None],
    ) -> None:
        self._listeners = listeners
        self._event = event
        self._decode = decode
        self._start = start
        self._unread: deque[bytes] = deque()
        self._held = Budget("stream", listeners.limit, listeners.client)
        self._news = asyncio.Event()
        self._ended = False
        self._error: RivetError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.active = True

    def __del__(self) -> None:
        """What nobody will read is held no longer; perhaps in another thread than the loop's."""
        if self._unread and self._loop is not None:
            with suppress(RuntimeError):  # The loop has ended, and the client with it.
                self._loop.call_soon_threadsafe(self._held.end)

    def receive(self, arguments: bytes) -> None:
        self._loop = self._loop or asyncio.get_running_loop()
        few = len(self._unread) < MAX_UNREAD
        full = admit(self._held, EVENT + len(arguments)) if few else self._held
        if full is not None:
            self._listeners.backlog.dropped += 1
            most = f"{full.limit} bytes of" if few else f"{MAX_UNREAD}"
            self.end(
                SlowConsumer(
                    f"More than {most} events {self._event!r} were not read in time. "
                    "Read faster, or use conn.on(…) and keep what matters."
                )
            )
            return
        self._unread.append(arguments)
        self._news.set()

    def end(self, error: RivetError | None) -> None:
        """No more events come; those that are here can still be read."""
        if self._ended:
            return
        self._ended = True
        self._error = error
        self._listeners.remove(self._event, self)
        self._news.set()

    async def aclose(self) -> None:
        """Stop listening; also done by leaving the loop."""
        self._unread.clear()
        self._held.end()
        self.end(None)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._read()

    async def _read(self) -> AsyncIterator[Any]:
        try:
            if not self._ended:
                self._start()
            while True:
                while self._unread:
                    unread = self._unread.popleft()
                    self._held.give_back(EVENT + len(unread))
                    arguments = self._decode(unread)
                    yield arguments[0] if len(arguments) == 1 else arguments
                if self._ended:
                    break
                self._news.clear()
                await self._news.wait()
            if self._error is not None:
                raise self._error
        finally:
            await self.aclose()
