"""`SyncClient`: the client for code that blocks."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, Self, cast, overload

from typing_extensions import TypeVar

from rivet_ray.client.client import Client
from rivet_ray.client.given import in_a_thread
from rivet_ray.client.handle import ActorHandle
from rivet_ray.client.loop_thread import LoopThread
from rivet_ray.client.settings import DEFAULTS, ClientSettings
from rivet_ray.client.sync_handle import SyncHandle
from rivet_ray.definition import Actor, ActorRegistry
from rivet_ray.definition.remote import KeyLike, ParamsLike

ActorT = TypeVar("ActorT", bound=Actor[Any, Any, Any, Any, Any])


class SyncClient:
    """A client of one server for code without asyncio: Flask, Django views, scripts, workers.

        with App.sync_client("http://localhost:8080") as client:
            counter = client.get_or_create(Counter, "k")
            counter.call(Counter.increment, 5)

    The actor type is a class of `registry`, or the name that the server knows
    it by. One client serves any number of threads. It drives the asynchronous
    client in a thread of its own, which starts with the first call; so it may be
    made before a process forks, if it is used after that only. On the thread of
    an event loop every method that waits raises RuntimeError.

    `encoding` is `cbor` or `json`; `timeout` is how many seconds a call waits
    for its answer; the rest is that of `Client`. A function that makes `params` is
    called in a thread, and may block. Raises ValueError for a URL or an encoding that
    cannot be used.
    """

    def __init__(
        self,
        url: str = "http://localhost:8080",
        *,
        registry: type[ActorRegistry] | None = None,
        encoding: str = "cbor",
        timeout: float = 65.0,
        transport: Literal["auto", "websocket", "sse"] = "auto",
        reconnect: bool = True,
        heartbeat: float | None = 10.0,
        settings: ClientSettings = DEFAULTS,
    ) -> None:
        self._client = Client(
            url,
            encoding=encoding,
            timeout=timeout,
            transport=transport,
            reconnect=reconnect,
            heartbeat=heartbeat,
            settings=settings,
        )
        self._thread = LoopThread(f"rivet_ray client of {url}", self._client.aclose)
        self._names: dict[type[Any], list[str]] = {}
        for name, used in (registry.__uses__ if registry is not None else {}).items():
            self._names.setdefault(used.actor, []).append(name)

    # --- Actors -----------------------------------------------------------------

    @overload
    def get(
        self, actor: type[ActorT], key: KeyLike = (), *, params: ParamsLike = None
    ) -> SyncHandle[ActorT]: ...
    @overload
    def get(
        self, actor: str, key: KeyLike = (), *, params: ParamsLike = None
    ) -> SyncHandle[Any]: ...
    def get(self, actor: Any, key: KeyLike = (), *, params: ParamsLike = None) -> SyncHandle[Any]:
        """A handle to an actor that exists; its calls raise ActorNotFound if not."""
        return self._handle(
            actor, self._client.get(self._name(actor), key, params=in_a_thread(params))
        )

    @overload
    def get_or_create(
        self,
        actor: type[ActorT],
        key: KeyLike = (),
        input: Any = None,
        *,
        region: str | None = None,
        params: ParamsLike = None,
    ) -> SyncHandle[ActorT]: ...
    @overload
    def get_or_create(
        self,
        actor: str,
        key: KeyLike = (),
        input: Any = None,
        *,
        region: str | None = None,
        params: ParamsLike = None,
    ) -> SyncHandle[Any]: ...
    def get_or_create(
        self,
        actor: Any,
        key: KeyLike = (),
        input: Any = None,
        *,
        region: str | None = None,
        params: ParamsLike = None,
    ) -> SyncHandle[Any]:
        """A handle to the actor of this key; the first call creates it."""
        name = self._name(actor)
        handle = self._client.actor(
            name, key, input=input, region=region, params=in_a_thread(params)
        )
        return self._handle(actor, handle)

    @overload
    def create(
        self,
        actor: type[ActorT],
        key: KeyLike = (),
        input: Any = None,
        *,
        region: str | None = None,
        params: ParamsLike = None,
    ) -> SyncHandle[ActorT]: ...
    @overload
    def create(
        self,
        actor: str,
        key: KeyLike = (),
        input: Any = None,
        *,
        region: str | None = None,
        params: ParamsLike = None,
    ) -> SyncHandle[Any]: ...
    def create(
        self,
        actor: Any,
        key: KeyLike = (),
        input: Any = None,
        *,
        region: str | None = None,
        params: ParamsLike = None,
    ) -> SyncHandle[Any]:
        """Create the actor now. Raises ActorAlreadyExists when the key is taken."""
        name = self._name(actor)
        creating = self._client.create(name, key, input, region=region, params=in_a_thread(params))
        return self._handle(actor, self._thread.run(creating))

    @overload
    def get_with_id(
        self, actor: type[ActorT], actor_id: str, *, params: ParamsLike = None
    ) -> SyncHandle[ActorT]: ...
    @overload
    def get_with_id(
        self, actor: str, actor_id: str, *, params: ParamsLike = None
    ) -> SyncHandle[Any]: ...
    def get_with_id(
        self, actor: Any, actor_id: str, *, params: ParamsLike = None
    ) -> SyncHandle[Any]:
        """A handle by the actor's id."""
        address = self._client._by_id(self._name(actor), actor_id, in_a_thread(params))
        return self._handle(actor, ActorHandle(address))

    # --- Life --------------------------------------------------------------------

    def close(self) -> None:
        """Close every connection and socket; calls under way fail. Idempotent."""
        self._thread.close()

    def __enter__(self) -> Self:
        self._thread.check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _handle(self, actor: Any, handle: ActorHandle) -> SyncHandle[Any]:
        known = cast("type[Any]", actor) if isinstance(actor, type) else None
        return SyncHandle(self._thread, handle, known)

    def _name(self, actor: type[Any] | str) -> str:
        if isinstance(actor, str):
            return actor
        names = self._names.get(actor, [])
        if len(names) == 1:
            return names[0]
        own = actor.__name__
        if names:
            raise TypeError(
                f"{own} has several names in its registry: {', '.join(names)}; give one of them"
            )
        raise TypeError(
            f"{own} is in no registry of this client, so its name is not known. Make the client "
            f"with App.sync_client(…), or give the name that the server knows {own} by"
        )
