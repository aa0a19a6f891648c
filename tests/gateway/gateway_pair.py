"""Two gateways to one host, each over a link of its own, as two replicas of Ray Serve have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from gateway_servers import Actors
from gateway_wire import PATIENCE, Site, Wire, eventually

from rivet_ray.definition import ActorDefinition
from rivet_ray.gateway import GatewaySettings, create_app
from rivet_ray.gateway.server import Server, bind, uvicorn_config
from rivet_ray.link import LinkClient, LinkServer
from rivet_ray.link.faults import LinkError
from rivet_ray.protocol import port
from rivet_ray.registry import setup
from rivet_ray.runtime import Directory, FollowingClient, Standalone
from rivet_ray.runtime.following import OnLost

SECRET = b"a secret of the tests"


class Beside:
    """The backend of one of the gateways; see `rivet_ray.gateway.backend.Backend`."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._link: LinkClient | None = None
        self.calls = FollowingClient(self._connect)
        self.may_connect = True

    @property
    def definitions(self) -> Mapping[str, ActorDefinition]:
        return self._home.host.definitions

    @property
    def directory(self) -> Directory:
        return self._home.host.directory

    @property
    def started(self) -> bool:
        return True

    async def start(self) -> None:
        """Everything is there already."""

    async def close(self) -> None:
        self.calls.close()

    async def _connect(self, lost: OnLost) -> port.Hosting:
        if not self.may_connect:
            raise ConnectionRefusedError("the test does not let it")
        self._link = LinkClient(self._home.links.address, SECRET, on_lost=lost)
        await self._link.connect()
        return self._link

    def cut(self, *, back: bool) -> None:
        """Lose the link; whether it may be connected again."""
        self.may_connect = back
        assert self._link is not None
        assert self._link._connection is not None
        self._link._connection.drop(LinkError("cut by the test"))


class Home:
    """The host that both share."""

    def __init__(self, host: Standalone) -> None:
        self.host = host
        self.links = LinkServer(host.host, SECRET)


class Pair:
    """`one` and `two` are the same system through two gateways."""

    def __init__(self, backends: list[Beside], sites: list[Site]) -> None:
        self.first, self.second = backends
        self.one, self.two = sites


@asynccontextmanager
async def pair(
    wire: Wire, actors: Actors, settings: GatewaySettings | None = None
) -> AsyncIterator[Pair]:
    host = Standalone(setup(use=actors).definitions(), "memory://")
    await host.start()
    home = Home(host)
    await home.links.start()
    async with AsyncExitStack() as exits:
        exits.push_async_callback(host.close)
        exits.push_async_callback(home.links.close)
        backends = [Beside(home) for _ in range(2)]
        sites = []
        for backend in backends:
            address = await exits.enter_async_context(_listening(backend, settings))
            client = await exits.enter_async_context(httpx.AsyncClient(timeout=10 * PATIENCE))
            sites.append(Site(address, wire, client))
        yield Pair(backends, sites)


@asynccontextmanager
async def _listening(backend: Beside, settings: GatewaySettings | None) -> AsyncIterator[str]:
    with bind("127.0.0.1", 0) as listener:
        number = listener.getsockname()[1]
        config = uvicorn_config(create_app(backend, settings), "127.0.0.1", number, log_config=None)
        server = Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))

        async def started() -> bool:
            return server.started

        await eventually(started)
        try:
            yield f"127.0.0.1:{number}"
        finally:
            server.should_exit = True
            await serving
