"""Handles, connections and event streams of the synchronous client.

They hold the asynchronous ones and run them on the client's `LoopThread`.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, cast, overload

from typing_extensions import ParamSpec, TypeVar, TypeVarTuple, Unpack

from rivet_ray.client.connection import ActorConnection
from rivet_ray.client.given import in_a_thread
from rivet_ray.client.handle import ActorHandle
from rivet_ray.client.handler_thread import Dispatched, HandlerThread
from rivet_ray.client.listeners import Stream
from rivet_ray.client.loop_thread import LoopThread
from rivet_ray.client.sync_raw import Body, SyncResponse, SyncWebSocket, pieces_of
from rivet_ray.definition.actions import Action
from rivet_ray.definition.actor import Actor
from rivet_ray.definition.events import Event
from rivet_ray.definition.remote import ParamsLike, Unsubscribe

Actor_co = TypeVar("Actor_co", covariant=True)
Owner = TypeVar("Owner", bound=Actor[Any, Any, Any, Any, Any])
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Payload = TypeVarTuple("Payload")

_END = object()


class SyncHandle(Generic[Actor_co]):
    """A handle to one actor; its calls block until the answer is there."""

    __slots__ = ("_actor", "_handle", "_thread")

    def __init__(self, thread: LoopThread, handle: ActorHandle, actor: type[Any] | None) -> None:
        self._thread = thread
        self._handle = handle
        self._actor = actor

    @overload
    def call(
        self: SyncHandle[Owner],
        action: Action[Owner, P, R, Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    def call(self, action: str, /, *args: Any) -> Any: ...
    def call(self, action: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run an action, by reference or by its name on the wire, and return its result.

        By name the result is plain JSON-like values. Raises what the
        asynchronous client does, and RuntimeError on an event loop's thread.
        """
        self._check(action)
        return self._thread.run(self._handle.call(action, *args, **kwargs))

    def with_options(
        self, *, idempotency_key: str | None = None, timeout: float | None = None
    ) -> SyncHandle[Actor_co]:
        """The same actor, with options for each call.

        Calls with the same `idempotency_key` take effect at most once and all
        get the first one's answer, over crashes too. `timeout` is how many
        seconds a call waits.
        """
        handle = self._handle.with_options(idempotency_key=idempotency_key, timeout=timeout)
        return SyncHandle(self._thread, handle, self._actor)

    def connect(self, *, params: ParamsLike = None) -> SyncConnection[Actor_co]:
        """A connection, opened by `with`, by `open`, by its first call or handler.

        `params` are those of the handle where they are not given. A function is
        called before each opening, also after a cut.
        """
        opened = self._handle.connect(params=in_a_thread(params))
        connection = cast("ActorConnection[ActorHandle]", opened)
        return SyncConnection(self._thread, connection, self._actor)

    def resolve(self) -> str:
        """The actor's id, after creating it where that is asked for.

        The handle keeps it: from now on it means this very actor.
        """
        return self._thread.run(self._handle.resolve())

    def fetch(
        self,
        path: str = "",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        stream: bool = False,
    ) -> SyncResponse:
        """An HTTP request to the actor's `on_fetch`, as with the asynchronous client.

        With `stream` it returns with the head, and the body is read from the answer,
        whole or piece by piece. Raises RequestFailed.
        """
        given = body if body is None or isinstance(body, (bytes, str)) else pieces_of(body)
        request = self._handle.fetch(
            path, method=method, headers=headers, body=given, stream=stream
        )
        return SyncResponse(self._thread, self._thread.run(request))

    def websocket(self, path: str = "", *, protocols: Sequence[str] = ()) -> SyncWebSocket:
        """A WebSocket to the actor's `on_websocket`; `protocols` are for the actor.

        `with handle.websocket("live") as socket:`. An actor that does not let it in
        closes it, with a code and a reason.
        """
        return SyncWebSocket(self._thread, self._handle.websocket(path, protocols=protocols))

    def _check(self, action: Any) -> None:
        owner: type | None = getattr(action, "owner", None)
        if self._actor is None or owner is None or issubclass(self._actor, owner):
            return
        raise TypeError(
            f"{owner.__name__}.{action.attribute} is no action of {self._actor.__name__}"
        )

    def __repr__(self) -> str:
        return f"<blocking {repr(self._handle)[1:]}"


class SyncConnection(Generic[Actor_co]):
    """A connection to one actor, for blocking code.

    with handle.connect() as conn:
        conn.on(Counter.new_count, print)
        conn.call(Counter.increment, 1)
    """

    def __init__(
        self,
        thread: LoopThread,
        connection: ActorConnection[ActorHandle],
        actor: type[Any] | None,
    ) -> None:
        self._thread = thread
        self._connection = connection
        self._handlers = HandlerThread(
            connection.label, self._failed, connection.settings.max_unread_size, connection.held
        )
        self.actor: SyncHandle[Actor_co] = SyncHandle(thread, connection.actor, actor)
        """The actor; calls of this handle travel over the connection."""

    @property
    def actor_id(self) -> str:
        return self._connection.actor_id

    @property
    def connection_id(self) -> str:
        return self._connection.connection_id

    @property
    def refused_calls(self) -> int:
        """How many calls failed with Overloaded because too much waited to be answered."""
        return self._connection.refused_calls

    @property
    def dropped_events(self) -> int:
        """How many events a handler or a stream missed because it was too slow."""
        return self._handlers.dropped + self._connection.dropped_events

    @overload
    def call(
        self: SyncConnection[Owner],
        action: Action[Owner, P, R, Any],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    def call(self, action: str, /, *args: Any) -> Any: ...
    def call(self, action: Any, /, *args: Any, **kwargs: Any) -> Any:
        """As `SyncHandle.call`, over the connection; the calls of one thread keep their order."""
        return self.actor.call(action, *args, **kwargs)

    # --- Events --------------------------------------------------------------

    @overload
    def on(
        self, event: Event[*Payload], handler: Callable[[Unpack[Payload]], Any], /
    ) -> Unsubscribe: ...
    @overload
    def on(self, event: str, handler: Callable[..., Any], /) -> Unsubscribe: ...
    def on(self, event: Any, handler: Callable[..., Any], /) -> Unsubscribe:
        """Call `handler` for each event, in order, in a thread of the connection.

        `event` is a reference, the name of an event, or one of the life-cycle
        events: `connected`, then `disconnected` at each cut and at the end,
        `reconnected` when it is open again, `resync` right after that where events
        may have been missed, and `error`. A handler may block and may call actors;
        if 1,024 events wait for it, or `ClientSettings.max_unread_size` bytes, further
        ones are dropped and `error` handlers get one SlowConsumer, until fewer than half
        as many wait; `dropped_events` counts them. Returns a function that ends the
        subscription.
        """
        return self._listen(event, handler, self._connection.on)

    @overload
    def once(
        self, event: Event[*Payload], handler: Callable[[Unpack[Payload]], Any], /
    ) -> Unsubscribe: ...
    @overload
    def once(self, event: str, handler: Callable[..., Any], /) -> Unsubscribe: ...
    def once(self, event: Any, handler: Callable[..., Any], /) -> Unsubscribe:
        """As `on`, for the next event only."""
        return self._listen(event, handler, self._connection.once)

    def off(
        self,
        event: Event[*tuple[Any, ...]] | str | None = None,
        handler: Callable[..., Any] | None = None,
        /,
    ) -> None:
        """Remove one handler, all handlers of an event, or all handlers."""
        given = None if handler is None else Dispatched(handler, "", self._handlers)
        self._thread.run(_soon(lambda: self._connection.off(event, given)))

    @overload
    def events(  # pyright: ignore[reportOverlappingOverload]
        self, event: Event[T], /, *, timeout: float | None = None
    ) -> SyncEventStream[T]: ...
    @overload
    def events(  # type: ignore[overload-cannot-match]
        self, event: Event[*Payload], /, *, timeout: float | None = None
    ) -> SyncEventStream[tuple[*Payload]]: ...
    @overload
    def events(self, event: str, /, *, timeout: float | None = None) -> SyncEventStream[Any]: ...
    def events(self, event: Any, /, *, timeout: float | None = None) -> SyncEventStream[Any]:
        """The events from now on: a value each, a tuple where it has several.

        Iteration ends when the connection does, raises what a server refused it
        with, and TimeoutError when no event comes for `timeout` seconds; it may go on
        after that. At most 1,024 unread events and `ClientSettings.max_unread_size`
        bytes are kept; beyond, it raises SlowConsumer.
        """
        stream = self._thread.run(_soon(lambda: self._connection.events(event)))
        return SyncEventStream(self._thread, cast("Stream", stream), timeout)

    def _listen(
        self, event: Any, handler: Callable[..., Any], add: Callable[..., Unsubscribe]
    ) -> Unsubscribe:
        if inspect.iscoroutinefunction(handler):
            raise TypeError(f"{handler!r} is asynchronous; a SyncConnection calls plain functions")
        name = event if isinstance(event, str) else event.name
        dispatched = Dispatched(handler, name, self._handlers)
        remove = self._thread.run(_soon(lambda: add(event, dispatched)))

        def unsubscribe() -> None:
            if not self._thread.closed:
                self._thread.run(_soon(remove))

        return unsubscribe

    def _failed(self, event: str, error: Exception) -> None:
        self._thread.post(self._connection._listeners.failed, event, error)

    # --- Life ------------------------------------------------------------------

    def open(self) -> Self:
        """Wait until the connection is open. Raises what the server refused it with."""
        try:
            self._thread.run(self._connection._open())
        except BaseException:
            if not self._thread.closed:
                self.close()
            raise
        return self

    def close(self) -> None:
        """Close the connection, after its handlers; calls under way fail. Idempotent."""
        try:
            if not self._thread.closed:
                self._thread.run(self._connection.dispose())
        finally:
            self._handlers.close()

    dispose = close
    """As the asynchronous client calls it."""

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<blocking {repr(self._connection)[1:]}"


class SyncEventStream(Generic[T]):
    """`for value in conn.events(Counter.new_count)`.

    Where several threads read it, each event goes to one of them.
    """

    def __init__(self, thread: LoopThread, stream: Stream, timeout: float | None) -> None:
        self._thread = thread
        self._stream = stream
        self._events = aiter(stream)
        self._timeout = timeout
        self._next: asyncio.Task[Any] | None = None
        self._reading = threading.Lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._reading:
            found = self._thread.run(self._read())
        if found is _END:
            raise StopIteration
        return cast("T", found)

    def close(self) -> None:
        """Stop listening; also done by the end of the connection. Idempotent."""
        if not self._thread.closed:
            self._thread.run(self._close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def _read(self) -> object:
        if self._next is None:
            self._next = asyncio.ensure_future(self._step())
        # Not cancelled when time is up: that would end the stream, and lose an event.
        await asyncio.wait([self._next], timeout=self._timeout)
        if not self._next.done():
            raise TimeoutError(f"No event came within {self._timeout:g} s.")
        task, self._next = self._next, None
        return task.result()

    async def _step(self) -> object:
        return await anext(self._events, _END)

    async def _close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait([self._next])
        await self._stream.aclose()


async def _soon(work: Callable[[], T]) -> T:
    """A function, to be called on the loop: listeners belong to its thread."""
    return work()
