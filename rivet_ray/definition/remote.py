"""What a caller holds: the typed shapes of handles and client connections.

The client implements these. They stand here so that an actor class and its
registry can be typed without importing any client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol, Self, get_args, overload
from uuid import UUID

import msgspec
from typing_extensions import TypeVar, TypeVarTuple, Unpack

from rivet_ray.definition.events import Event

Actor_co = TypeVar("Actor_co", covariant=True)
Actor_T = TypeVar("Actor_T")
Payload = TypeVarTuple("Payload")
T = TypeVar("T")

KeyLike = str | Sequence[str]


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


class _Model(Protocol):
    """A pydantic model."""

    def model_dump_json(self) -> str: ...


Value = (
    int
    | float
    | str
    | bytes
    | date
    | time
    | timedelta
    | Decimal
    | Enum
    | UUID
    | Mapping[Any, Any]
    | Sequence[Any]
    | Set[Any]
    | msgspec.Struct
    | _Dataclass
    | _Model
    | None
)
"""What can travel. The types of what it holds are checked where it is encoded."""
ParamsLike = Value | Callable[[], Value] | Callable[[], Awaitable[Value]]
"""Connection parameters, or what makes them: called before each opening of a
connection, the later ones included, and before each call of a handle."""
Lifecycle = Literal["connected", "disconnected", "reconnected", "resync", "error"]
LIFECYCLE: frozenset[str] = frozenset(get_args(Lifecycle))
Unsubscribe = Callable[[], None]


class ActorAccessor(Protocol[Actor_co]):
    """The actors of one type: `client.counter`."""

    def get(self, key: KeyLike = (), *, params: ParamsLike = None) -> Actor_co:
        """A handle to an actor that exists; its calls raise ActorNotFound if not."""
        ...

    def get_or_create(
        self,
        key: KeyLike = (),
        input: Any = None,
        *,
        region: str | None = None,
        params: ParamsLike = None,
    ) -> Actor_co:
        """A handle to the actor of this key; the first call creates it."""
        ...

    async def create(
        self,
        key: KeyLike = (),
        input: Any = None,
        *,
        region: str | None = None,
        params: ParamsLike = None,
    ) -> Actor_co:
        """Create the actor now. Raises ActorAlreadyExists when the key is taken."""
        ...

    def get_with_id(self, actor_id: str, *, params: ParamsLike = None) -> Actor_co:
        """A handle by the actor's id."""
        ...


class EventStream(Protocol[Actor_co]):
    """`async for value in conn.events(Counter.new_count)`."""

    def __aiter__(self) -> AsyncIterator[Actor_co]: ...


class Connection(Protocol[Actor_co]):
    """An open connection of a client to one actor.

    async with handle.connect() as conn:
        conn.on(Counter.new_count, print)
        await conn.actor.increment(1)

    Its first use opens it. `async with`, `await`, an action or the reading of a stream
    waits for that: what goes wrong is raised, and the connection is over. A handler
    opens it in the background, where an event loop runs: what goes wrong goes to
    `error` handlers, and unless the server refuses it for good it is tried again; who
    waits for it later is told of the next failure.
    """

    @property
    def actor(self) -> Actor_co:
        """The actor; its actions travel over this connection, in order."""
        ...

    @property
    def actor_id(self) -> str: ...

    @property
    def connection_id(self) -> str: ...

    @property
    def dropped_events(self) -> int:
        """How many events a handler or a stream missed because it was too slow."""
        ...

    @property
    def refused_calls(self) -> int:
        """How many calls failed with Overloaded because too much waited to be answered."""
        ...

    @overload
    def on(
        self, event: Event[*Payload], handler: Callable[[Unpack[Payload]], Any], /
    ) -> Unsubscribe: ...
    @overload
    def on(self, event: str, handler: Callable[..., Any], /) -> Unsubscribe: ...
    def on(self, event: Any, handler: Callable[..., Any], /) -> Unsubscribe:
        """Call `handler` for each event, in order, on the event loop.

        `event` is a reference, the name of an event, or one of the life-cycle
        events: `connected`, then `disconnected` at each cut and at the end,
        `reconnected` when it is open again, `resync` right after that where events
        may have been missed (read what you need anew), and `error`, with what
        failed: a handler, an event that cannot be read, or the connection itself
        where a server does not let it in, or not again, and it is over. Returns a
        function that ends the subscription. An asynchronous handler runs as a task
        of the connection; if too many run (`ClientSettings.max_unread_size`), it misses
        events, `dropped_events` counts them, and `error` handlers get one SlowConsumer.
        """
        ...

    @overload
    def once(
        self, event: Event[*Payload], handler: Callable[[Unpack[Payload]], Any], /
    ) -> Unsubscribe: ...
    @overload
    def once(self, event: str, handler: Callable[..., Any], /) -> Unsubscribe: ...
    def once(self, event: Any, handler: Callable[..., Any], /) -> Unsubscribe:
        """As `on`, for the next event only."""
        ...

    def off(
        self,
        event: Event[*tuple[Any, ...]] | str | None = None,
        handler: Callable[..., Any] | None = None,
        /,
    ) -> None:
        """Remove one handler, all handlers of an event, or all handlers."""
        ...

    @overload
    def events(  # pyright: ignore[reportOverlappingOverload]
        self, event: Event[T], /
    ) -> EventStream[T]: ...
    @overload
    def events(  # type: ignore[overload-cannot-match]
        self, event: Event[*Payload], /
    ) -> EventStream[tuple[*Payload]]: ...
    @overload
    def events(self, event: str, /) -> EventStream[Any]: ...
    def events(self, event: Any, /) -> EventStream[Any]:
        """The events from now on: a value each, a tuple where it has several.

        The stream ends when the connection does, and raises what a server refused
        it with, if it did. It keeps at most 1,024 unread events, and
        `ClientSettings.max_unread_size` bytes, and raises SlowConsumer beyond.
        """
        ...

    async def dispose(self) -> None:
        """Close the connection, remove all handlers; calls under way fail."""
        ...

    def __await__(self) -> Any:
        """Wait until the connection is open: `conn = await handle.connect()`."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Caller(Protocol):
    """What a client is made of: the way from a registry to its actors."""

    def accessor(self, name: str, actor: type[Actor_T]) -> ActorAccessor[Actor_T]:
        """The actors of the type that the registry calls `name`."""
        ...

    async def aclose(self) -> None:
        """Close every connection and socket."""
        ...
