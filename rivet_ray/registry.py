"""`Registry`: where an application's parts are put together (floor 6).

The parts are imported when they are used, so that a client needs no server
packages and the other way round.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self

from typing_extensions import TypeVar

from rivet_ray.client.client import Client
from rivet_ray.client.settings import DEFAULTS, ClientSettings
from rivet_ray.client.synchronous import SyncClient
from rivet_ray.definition import CORS, Actor, ActorRegistry, Use
from rivet_ray.definition import use as make_use
from rivet_ray.errors import DefinitionError
from rivet_ray.shutdown import CLOSE, GRACE

__all__ = ["Client", "Registry", "Server", "SyncClient", "merge", "setup"]

if TYPE_CHECKING:
    from fastapi import FastAPI

    from rivet_ray.gateway import GatewaySettings
    from rivet_ray.runtime import HostSettings, Standalone

DEFAULT_STORE = "file://./.rivet"
"""Where state is kept if nothing else is said: a directory of the current one."""

SERVED_WITH = {
    "__cors__": "CORS",
    "__host_settings__": "host_settings",
    "__gateway_settings__": "gateway_settings",
}
"""What a registry says of how it is served."""

RegistryT = TypeVar("RegistryT", bound="Registry")


class Registry(ActorRegistry):
    """The actor types of an application.

        class App(Registry):
            counter = use(Counter)

        App.run_server()                                 # serve them
        async with App.client("http://localhost:8080") as client:
            await client.counter.get_or_create("k").increment(5)

    The class is the registry. Its instances are clients, typed by it.

    The keywords of the class hold wherever the registry is served:

        class App(Registry, cors=CORS(...), host_settings=HostSettings(...)):

    `cors` says which pages of other origins may call. `host_settings` and
    `gateway_settings` bound what is held for callers; see `HostSettings` of
    `rivet_ray.runtime` and `GatewaySettings` of `rivet_ray.gateway`.
    """

    __cors__: ClassVar[CORS | None] = None
    __host_settings__: ClassVar[HostSettings | None] = None
    __gateway_settings__: ClassVar[GatewaySettings | None] = None

    def __init_subclass__(
        cls,
        *,
        cors: CORS | None = None,
        host_settings: HostSettings | None = None,
        gateway_settings: GatewaySettings | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.__cors__ = cors or cls.__cors__
        cls.__host_settings__ = host_settings or cls.__host_settings__
        cls.__gateway_settings__ = gateway_settings or cls.__gateway_settings__

    @classmethod
    def client(
        cls,
        url: str = "http://localhost:8080",
        *,
        encoding: str = "cbor",
        timeout: float = 65.0,
        transport: Literal["auto", "websocket", "sse"] = "auto",
        reconnect: bool = True,
        heartbeat: float | None = 10.0,
        settings: ClientSettings | None = None,
    ) -> Self:
        """A client of a server at `url`; a path in the URL is kept.

        `encoding` is `cbor` or `json`. `timeout` is how many seconds a call
        waits for its answer. `transport` is what carries connections: `websocket`
        or `sse`, by default the latter where something on the way lets no WebSocket
        through. A connection that is cut comes back by itself; with
        `reconnect=False` it ends. Every `heartbeat` seconds it is asked whether its
        server is still there: see `Client`. `settings` bound what it holds. Use it as
        `async with`, or call `aclose`.
        """
        client = Client(
            url,
            encoding=encoding,
            timeout=timeout,
            transport=transport,
            reconnect=reconnect,
            heartbeat=heartbeat,
            settings=settings or DEFAULTS,
        )
        return cls(client)

    @classmethod
    def sync_client(
        cls,
        url: str = "http://localhost:8080",
        *,
        encoding: str = "cbor",
        timeout: float = 65.0,
        transport: Literal["auto", "websocket", "sse"] = "auto",
        reconnect: bool = True,
        heartbeat: float | None = 10.0,
        settings: ClientSettings | None = None,
    ) -> SyncClient:
        """A client for code that blocks, by reference:

            with App.sync_client(url) as client:
                client.get_or_create(Counter, "k").call(Counter.increment, 5)

        It takes what `client` takes. Use it as `with`, or call `close`.
        """
        return SyncClient(
            url,
            registry=cls,
            encoding=encoding,
            timeout=timeout,
            transport=transport,
            reconnect=reconnect,
            heartbeat=heartbeat,
            settings=settings or DEFAULTS,
        )

    @classmethod
    def create_server(
        cls,
        *,
        store: str = DEFAULT_STORE,
        settings: GatewaySettings | None = None,
        cors: CORS | None = None,
        grace: float = GRACE,
    ) -> Server[Self]:
        """A server to mount into an application of your own: see `Server`.

        `store` is a URL: `file://./.rivet`, the default, keeps state in that
        directory; `memory://` keeps it as long as the process lives. It is
        opened with the first use. `settings` and `cors` are those of the registry where
        they are not given; an application of yours that has its own CORS needs none here. Of
        `grace` seconds that a stop may take the actors have CLOSE of `rivet_ray.shutdown`, 15
        of 25.
        """
        from rivet_ray.asgi import serve_exchange
        from rivet_ray.client.between import between_actors
        from rivet_ray.client.inline import InlineTransport
        from rivet_ray.gateway import create_app
        from rivet_ray.runtime import Standalone

        backend = Standalone(
            cls.definitions(),
            store,
            settings=host_settings_of(cls, close_timeout=grace * CLOSE),
            connect=between_actors,
            handle=serve_exchange,
        )
        return Server(
            handler=create_app(backend, settings_of(cls, settings, cors)),
            client=cls(Client.over(InlineTransport(backend))),
            _backend=backend,
        )

    @classmethod
    def run_server(
        cls,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        store: str = DEFAULT_STORE,
        settings: GatewaySettings | None = None,
        cors: CORS | None = None,
        grace: float = GRACE,
    ) -> None:
        """Serve the actors until Ctrl-C or SIGTERM; blocks.

        The process has ended `grace` seconds after the first signal, whatever code and
        store do, and at once at a second one. Raises RuntimeError on an event loop's thread.

        `port` is the environment's PORT, or 8080, where it is not given.
        """
        from rivet_ray.gateway.server import check_no_loop, run

        check_no_loop()
        server = cls.create_server(store=store, settings=settings, cors=cors, grace=grace)
        run(server.handler, host=host, port=port, grace=grace)

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
        """Close the client's connections and sockets."""
        await self._caller.aclose()


@dataclass(frozen=True)
class Server(Generic[RegistryT]):
    """A registry being served inside this process.

        server = App.create_server()
        app = FastAPI(lifespan=server.lifespan)
        app.mount("/registry", server.handler)

    Applications do not run the lifespan of what is mounted into them, so the
    application enters the server in its own: with `lifespan`, or with
    `async with server` in one that does more. Without it the first request
    starts the actors, and what they were doing is not finished at the end: what
    was acknowledged is saved all the same.
    """

    handler: FastAPI
    """The ASGI application. Its routes answer at `/…` and at `/registry/…`."""
    client: RegistryT
    """A client without network and without `on_auth`; for the server's own code."""
    _backend: Standalone = field(repr=False)

    async def __aenter__(self) -> Self:
        """Open the store and start what is due. Raises StoreError where it cannot be opened."""
        await self._backend.start()
        self.handler.state.watchdog.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let actions finish, save everything, close the store. It may be entered again."""
        self.handler.state.watchdog.stop()
        await self._backend.close()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncGenerator[None]:
        """The same as FastAPI, Starlette and Litestar take it: `lifespan=server.lifespan`."""
        async with self:
            yield


def settings_of(
    registry: type[Registry], settings: GatewaySettings | None = None, cors: CORS | None = None
) -> GatewaySettings:
    """The settings of a gateway to a registry: `cors` as given, in the settings, or its own."""
    from rivet_ray.gateway.settings import GatewaySettings

    chosen = settings or registry.__gateway_settings__ or GatewaySettings()
    return replace(chosen, cors=cors or chosen.cors or registry.__cors__)


def host_settings_of(registry: type[Registry], **served: Any) -> HostSettings:
    """The settings of a host of a registry; `served` are those that its server decides."""
    from rivet_ray.runtime import HostSettings

    return replace(registry.__host_settings__ or HostSettings(), **served)


def setup(
    *, use: Mapping[str, type[Actor[Any, Any, Any, Any, Any]]], cors: CORS | None = None
) -> type[Registry]:
    """A registry from a mapping: `setup(use={"counter": Counter})`.

    The same as a class that lists them, but a type checker does not know what
    its clients hold.
    """
    members = {name: make_use(actor) for name, actor in use.items()}
    made: type[Registry] = type("App", (Registry,), members)
    made.__cors__ = cors
    return made


def merge(registries: Sequence[type[Registry]]) -> type[Registry]:
    """One registry with the actor types, CORS and settings of all.

    Raises DefinitionError for a clash.
    """
    if len(registries) == 1:
        return registries[0]
    found: dict[str, Use[Any]] = {}
    faults: list[str] = []
    for registry in registries:
        for name, used in registry.__uses__.items():
            if name in found and found[name].actor is not used.actor:
                faults.append(f"two actor types are called {name!r}")
            found[name] = used
    said: dict[str, Any] = {}
    for attribute, what in SERVED_WITH.items():
        values = [getattr(item, attribute) for item in registries]
        values = [value for value in values if value is not None]
        if any(value != values[0] for value in values):
            faults.append(f"they have different {what}; give them the same, or one of them only")
        said[attribute] = values[0] if values else None
    if faults:
        raise DefinitionError(" + ".join(item.__qualname__ for item in registries), faults)
    members = {f"use_{name}": make_use(used.actor, name=name) for name, used in found.items()}
    made: type[Registry] = type("App", (Registry,), members | said)
    return made
