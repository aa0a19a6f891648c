"""`Client`: the way to the actors of a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, cast

from typing_extensions import TypeVar

from rivet_ray.client import given
from rivet_ray.client.connection import ActorConnection
from rivet_ray.client.handle import ActorHandle, TypedHandle
from rivet_ray.client.inputs import Encoded, encoded_input
from rivet_ray.client.interface import Interface
from rivet_ray.client.settings import DEFAULTS, ClientSettings, Held
from rivet_ray.client.transport import ConnectionTransport, Fetch, Options, Transport
from rivet_ray.definition import user_code
from rivet_ray.definition.remote import ActorAccessor, Connection, KeyLike, ParamsLike
from rivet_ray.errors import Outcome, RequestFailed
from rivet_ray.ids import key_from
from rivet_ray.protocol.queries import (
    ActorQuery,
    Create,
    GetById,
    GetByKey,
    GetOrCreate,
    check_key,
)
from rivet_ray.protocol.subprotocols import Resume

if TYPE_CHECKING:
    import httpx
    from websockets.asyncio.client import ClientConnection

Actor_T = TypeVar("Actor_T")


class Client:
    """A client of one server.

        async with Client("http://localhost:8080") as client:
            counter = client.actor("counter", "k")
            await counter.call("increment", 5)

    `App.client(url)` is the same with types. `encoding` is `cbor` or `json`;
    `timeout` is how many seconds a call waits for its answer; `transport` is what
    carries connections, `websocket` or `sse`: by default a WebSocket, or an event
    stream where something on the way lets no WebSocket through, which is tried again
    for connections that open five minutes later. A connection that is cut comes back
    by itself, and gets the events that it missed; with `reconnect=False` it ends.
    Every `heartbeat` seconds it asks whether the server is still there; one that does
    not answer for as long, or does not give the sign of life that its event stream
    announced, counts as a cut. None for never.

    `params` of handles and connections are what `on_auth` and hooks get: a value, or
    a function, plain or `async`, which is called before each call and before each
    opening of a connection, so that a token may be renewed. What it raises, the call
    raises, or the first opening; a connection that comes back tells it to `error`
    handlers, and tries again. It should not block: `SyncClient` calls it in a thread.
    `settings` bound what the client holds.
    Raises ValueError for what cannot be used.
    """

    def __init__(
        self,
        url: str = "http://localhost:8080",
        *,
        encoding: str = "cbor",
        timeout: float = 65.0,
        transport: Literal["auto", "websocket", "sse"] = "auto",
        reconnect: bool = True,
        heartbeat: float | None = 10.0,
        settings: ClientSettings = DEFAULTS,
    ) -> None:
        # Imported here so that a server's own client loads no HTTP client.
        from rivet_ray.client.http import HttpTransport

        held = Held(settings)
        self._setup(
            HttpTransport(
                url,
                encoding=encoding,
                timeout=timeout,
                transport=transport,
                heartbeat=heartbeat,
                settings=settings,
                held=held,
            ),
            timeout,
            reconnect,
            settings,
            held,
        )

    @classmethod
    def over(cls, transport: Transport, *, timeout: float = 65.0, reconnect: bool = False) -> Self:
        """A client on a transport of another kind, which it then owns."""
        client = cls.__new__(cls)
        client._setup(transport, timeout, reconnect, DEFAULTS, Held())
        return client

    def _setup(
        self,
        transport: Transport,
        timeout: float,
        reconnect: bool,
        settings: ClientSettings,
        held: Held,
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._held = held
        self._reconnect = reconnect
        self._timeout = timeout
        self._accessors: dict[tuple[str, type[Any]], Accessor[Any]] = {}
        self._connections: set[ActorConnection[Any]] = set()
        self._closed = False

    # --- Actors of a known class -----------------------------------------------

    def accessor(self, name: str, actor: type[Actor_T]) -> ActorAccessor[Actor_T]:
        """The actors of the type that the server's registry calls `name`."""
        found = self._accessors.get((name, actor))
        if found is None:
            found = self._accessors[name, actor] = Accessor[Actor_T](self, name, Interface(actor))
        return found

    # --- Actors by name ---------------------------------------------------------

    def actor(
        self,
        name: str,
        key: KeyLike = (),
        *,
        params: ParamsLike = None,
        input: Any = None,
        region: str | None = None,
    ) -> ActorHandle:
        """A handle to the actor of this type and key; the first call creates it."""
        return ActorHandle(self._get_or_create(name, key, encoded_input(input), region, params))

    def get(self, name: str, key: KeyLike = (), *, params: ParamsLike = None) -> ActorHandle:
        """A handle to an actor that exists; its calls raise ActorNotFound if not."""
        return ActorHandle(self._get(name, key, params))

    async def create(
        self,
        name: str,
        key: KeyLike = (),
        input: Any = None,
        *,
        params: ParamsLike = None,
        region: str | None = None,
    ) -> ActorHandle:
        """Create the actor now. Raises ActorAlreadyExists when the key is taken."""
        return ActorHandle(await self._create(name, key, encoded_input(input), region, params))

    def get_with_id(self, actor_id: str, *, params: ParamsLike = None) -> ActorHandle:
        """A handle by the actor's id."""
        return ActorHandle(self._by_id(None, actor_id, params))

    # --- Life --------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection and socket; calls fail from now on. Idempotent."""
        self._closed = True
        connections = list(self._connections)
        await asyncio.gather(*(connection.dispose() for connection in connections))
        await self._transport.aclose()

    # --- For handles ----------------------------------------------------------------

    def _get(self, name: str, key: KeyLike, params: ParamsLike) -> Address:
        return Address(self, name, GetByKey(name, _checked(key)), params)

    def _get_or_create(
        self,
        name: str,
        key: KeyLike,
        input: Encoded,
        region: str | None,
        params: Any,
    ) -> Address:
        query = GetOrCreate(name, _checked(key), input, region)
        return Address(self, name, query, params)

    async def _create(
        self,
        name: str,
        key: KeyLike,
        input: Encoded,
        region: str | None,
        params: Any,
    ) -> Address:
        query = Create(name, _checked(key), input, region)
        address = Address(self, name, query, params)
        await address.resolve()
        return address

    def _by_id(self, name: str | None, actor_id: str, params: ParamsLike) -> Address:
        return Address(self, name, GetById(actor_id), params)

    def _usable(self) -> Transport:
        if self._closed:
            raise RequestFailed("This client is closed.", outcome=Outcome.NOT_STARTED)
        return self._transport


class Address:
    """Where a handle's actor is, and the way there: the handle's channel."""

    __slots__ = ("_client", "_params", "_query", "label")

    def __init__(
        self, client: Client, name: str | None, query: ActorQuery, params: ParamsLike
    ) -> None:
        given.check(params)
        self._client = client
        self._query = query
        self._params = params
        if isinstance(query, GetById):
            self.label = f"{name or 'the actor'} with id {query.actor_id}"
        else:
            self.label = f"{query.name} {json.dumps(query.key, ensure_ascii=False)}"

    async def invoke(self, action: str, arguments: bytes, options: Options) -> bytes | None:
        client = self._client
        transport = client._usable()
        timeout = client._timeout if options.timeout is None else options.timeout
        params, left = await given.within(self._params, timeout)
        return await transport.call(
            self._query, action, arguments, params, left, options.idempotency_key
        )

    async def resolve(self) -> str:
        if not isinstance(self._query, GetById):
            transport = self._client._usable()
            params, _ = await given.within(self._params, self._client._timeout)
            self._query = GetById(await transport.resolve(self._query, params))
        return self._query.actor_id

    async def fetch(self, fetch: Fetch, options: Options) -> httpx.Response:
        client = self._client
        transport = client._usable()
        timeout = client._timeout if options.timeout is None else options.timeout
        params, left = await given.within(self._params, timeout)
        return await transport.fetch(self._query, params, fetch, left)

    def websocket(
        self, path: str, protocols: Sequence[str]
    ) -> AbstractAsyncContextManager[ClientConnection]:
        transport = self._client._usable()
        if callable(self._params):
            return self._websocket(transport, path, protocols)
        return transport.websocket(self._query, self._params, path, protocols)

    @asynccontextmanager
    async def _websocket(
        self, transport: Transport, path: str, protocols: Sequence[str]
    ) -> AsyncGenerator[ClientConnection]:
        params, _ = await given.within(self._params, self._client._timeout)
        async with transport.websocket(self._query, params, path, protocols) as socket:
            yield socket

    def connect(self, interface: Interface | None, params: ParamsLike) -> Connection[Any]:
        client = self._client
        transport, query = client._usable(), self._query
        source = self._params if params is None else params
        given.check(source)

        async def dial(resume: Resume) -> ConnectionTransport:
            try:
                found = await user_code.settle(self.label, given.now, source)
            except Exception as error:
                raise given.ParamsFault(error) from error
            return transport.connect(query, found, resume)

        return ActorConnection[Any](
            dial,
            interface,
            self.label,
            timeout=client._timeout,
            reconnect=client._reconnect,
            settings=client._settings,
            held=client._held,
            started=client._connections.add,
            ended=client._connections.discard,
        )


class Accessor(Generic[Actor_T]):
    """The actors of one type, typed as their class: `client.counter`."""

    __slots__ = ("_client", "_interface", "_name")

    def __init__(self, client: Client, name: str, interface: Interface) -> None:
        self._client = client
        self._name = name
        self._interface = interface

    def get(self, key: KeyLike = (), *, params: ParamsLike = None) -> Actor_T:
        return self._handle(self._client._get(self._name, key, params))

    def get_or_create(
        self,
        key: KeyLike = (),
        input: Any = None,
        *,
        region: str | None = None,
        params: ParamsLike = None,
    ) -> Actor_T:
        return self._handle(
            self._client._get_or_create(
                self._name, key, encoded_input(input, self._interface), region, params
            )
        )

    async def create(
        self,
        key: KeyLike = (),
        input: Any = None,
        *,
        region: str | None = None,
        params: ParamsLike = None,
    ) -> Actor_T:
        return self._handle(
            await self._client._create(
                self._name, key, encoded_input(input, self._interface), region, params
            )
        )

    def get_with_id(self, actor_id: str, *, params: ParamsLike = None) -> Actor_T:
        return self._handle(self._client._by_id(self._name, actor_id, params))

    def _handle(self, address: Address) -> Actor_T:
        # Python has no mapped types: to type checkers a handle is its actor.
        return cast("Actor_T", TypedHandle(address, self._interface))

    def __repr__(self) -> str:
        return f"<actors of type {self._name}>"


def _checked(key: KeyLike) -> list[str]:
    parts = list(key_from(key))
    check_key(parts)
    return parts
