"""Handles: an actor's actions, wherever the actor is."""

from __future__ import annotations

from collections.abc import AsyncIterable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, overload

from typing_extensions import ParamSpec, TypeVar

from rivet_ray.client.interface import Interface, Operation, decode_plain, operation_of
from rivet_ray.client.transport import NO_OPTIONS, Fetch, Options
from rivet_ray.definition.actions import Action
from rivet_ray.definition.remote import Connection, ParamsLike
from rivet_ray.protocol import values

if TYPE_CHECKING:
    import httpx
    from websockets.asyncio.client import ClientConnection

P = ParamSpec("P")
R = TypeVar("R")


class Channel(Protocol):
    """The way of a handle to its actor: an address, or a connection."""

    @property
    def label(self) -> str:
        """The actor, for people: `counter ["k"]`."""
        ...

    async def invoke(self, action: str, arguments: bytes, options: Options) -> bytes | None:
        """Run an action by its wire name."""
        ...

    async def resolve(self) -> str: ...

    def connect(self, interface: Interface | None, params: ParamsLike) -> Connection[Any]: ...

    async def fetch(self, fetch: Fetch, options: Options) -> httpx.Response: ...

    def websocket(
        self, path: str, protocols: Sequence[str]
    ) -> AbstractAsyncContextManager[ClientConnection]: ...


class RemoteAction:
    """One action of one actor: `handle.increment`."""

    __slots__ = ("_channel", "_operation", "_options")

    def __init__(self, channel: Channel, operation: Operation, options: Options) -> None:
        self._channel = channel
        self._operation = operation
        self._options = options

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """The arguments are encoded now: what happens to them later does not matter."""
        return self._run(self._operation.encode(args, kwargs))

    async def _run(self, arguments: bytes) -> Any:
        name = self._operation.name
        return self._operation.decode(await self._channel.invoke(name, arguments, self._options))

    @property
    def local(self) -> NoReturn:
        raise AttributeError(
            f"{self._operation.label}.local works inside the actor only; "
            f"on a handle call the action itself: await handle.{self._operation.name}(…)"
        )

    def __repr__(self) -> str:
        return f"<action {self._operation.name} of {self._channel.label}>"


def _call(
    channel: Channel,
    options: Options,
    action: Action[Any, ..., Any, Any] | str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Coroutine[Any, Any, Any]:
    if not isinstance(action, str):
        return RemoteAction(channel, operation_of(action), options)(*args, **kwargs)
    if kwargs:
        raise TypeError(
            f"{action!r}: arguments are positional on the wire; give them without "
            "names, or give the action by reference: handle.call(Counter.increment, …)"
        )
    return _call_plain(channel, options, action, values.encode(args))


async def _call_plain(channel: Channel, options: Options, action: str, arguments: bytes) -> Any:
    return decode_plain(await channel.invoke(action, arguments, options))


class ActorHandle:
    """A handle to an actor whose class the caller need not have.

    counter = client.actor("counter", "k")
    await counter.call("increment", 5)
    await counter.call(Counter.increment, 5)   # typed
    """

    __slots__ = ("_channel", "_options")

    def __init__(self, channel: Channel, options: Options = NO_OPTIONS) -> None:
        self._channel = channel
        self._options = options

    @overload
    def call(
        self, action: Action[Any, P, R, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def call(self, action: str, /, *args: Any) -> Coroutine[Any, Any, Any]: ...
    def call(self, action: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Run an action, by reference or by its name on the wire.

        By name the result is plain JSON-like values. Cancelling it gives up the
        answer, not necessarily the action.
        """
        return _call(self._channel, self._options, action, args, kwargs)

    def with_options(
        self, *, idempotency_key: str | None = None, timeout: float | None = None
    ) -> ActorHandle:
        """The same actor, with options for each call.

        Calls with the same `idempotency_key` take effect at most once and all
        get the first one's answer, over crashes too. `timeout` is how many
        seconds a call waits.
        """
        return ActorHandle(self._channel, Options(idempotency_key, timeout))

    def connect(self, *, params: ParamsLike = None) -> Connection[ActorHandle]:
        """A connection, opened by `async with`, `await`, its first action or handler.

        Who waits for it is told what went wrong; a handler alone waits for nothing,
        and it is tried again: see `Connection`.

        `params` are those of the handle where they are not given. A function is
        called before each opening, also after a cut.
        """
        return self._channel.connect(None, params)

    async def resolve(self) -> str:
        """The actor's id, after creating it where that is asked for.

        The handle keeps it: from now on it means this very actor.
        """
        return await self._channel.resolve()

    async def fetch(
        self,
        path: str = "",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | str | AsyncIterable[bytes] | None = None,
        stream: bool = False,
    ) -> httpx.Response:
        """An HTTP request to the actor's `on_fetch`.

        `path` may have a query. Answers of any status are returned; those of the
        server itself carry `X-RivetKit-Outcome`. With `stream` the body has not been
        read: close the response with `aclose`. Raises RequestFailed.
        """
        request = Fetch(path, method, headers, body, stream)
        return await self._channel.fetch(request, self._options)

    def websocket(
        self, path: str = "", *, protocols: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[ClientConnection]:
        """A WebSocket to the actor's `on_websocket`; `protocols` are for the actor.

        `async with handle.websocket("live") as socket:`; see `websockets`. An actor
        that does not let it in closes it, with a code and a reason.
        """
        return self._channel.websocket(path, protocols)

    def __repr__(self) -> str:
        return f"<handle of {self._channel.label}>"


class TypedHandle:
    """A handle to an actor of a known class, and typed as that class."""

    __slots__ = ("__channel", "__interface", "__options")
    __channel: Channel
    __interface: Interface
    __options: Options

    def __init__(
        self, channel: Channel, interface: Interface, options: Options = NO_OPTIONS
    ) -> None:
        object.__setattr__(self, "_TypedHandle__channel", channel)
        object.__setattr__(self, "_TypedHandle__options", options)
        object.__setattr__(self, "_TypedHandle__interface", interface)

    def connect(self, *, params: ParamsLike = None) -> Connection[Any]:
        return self.__channel.connect(self.__interface, params)

    async def resolve(self) -> str:
        return await self.__channel.resolve()

    def with_options(
        self, *, idempotency_key: str | None = None, timeout: float | None = None
    ) -> TypedHandle:
        options = Options(idempotency_key, timeout)
        return TypedHandle(self.__channel, self.__interface, options)

    def fetch(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, httpx.Response]:
        return ActorHandle(self.__channel, self.__options).fetch(*args, **kwargs)

    def websocket(
        self, path: str = "", *, protocols: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[ClientConnection]:
        return self.__channel.websocket(path, protocols)

    def __getattr__(self, name: str) -> Any:
        # Also asked for the slots of a half-made copy, hence no use of them yet.
        if name.startswith(("__", "_TypedHandle__")):
            raise AttributeError(name)
        operation = self.__interface.operations.get(name)
        if operation is not None:
            return RemoteAction(self.__channel, operation, self.__options)
        if name == "call":
            return ActorHandle(self.__channel, self.__options).call
        raise AttributeError(self.__interface.why_not(name), name=name, obj=self)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(
            f"{name!r} cannot be set on a handle of {self.__interface.actor.__name__}: "
            "what an actor holds is changed by its actions only"
        )

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __dir__(self) -> list[str]:
        own = {"call", "connect", "fetch", "resolve", "websocket", "with_options"}
        return sorted({*self.__interface.operations, *own})

    def __repr__(self) -> str:
        return f"<handle of {self.__channel.label}>"
