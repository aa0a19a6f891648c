"""Real servers, whose gateway talks to its host in each way that there is."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import httpx
from fastapi import FastAPI
from gateway_serve import HostBeside, Stack
from gateway_store import StoreOver
from gateway_wire import PATIENCE, Site, Wire, eventually

from rivet_ray import Actor
from rivet_ray.asgi import serve_exchange
from rivet_ray.gateway import GatewaySettings, create_app
from rivet_ray.gateway.server import Server, uvicorn_config
from rivet_ray.link import LinkClient, LinkServer
from rivet_ray.protocol import port
from rivet_ray.registry import setup
from rivet_ray.runtime import FollowingClient, HostClient, HostSettings, Standalone
from rivet_ray.runtime.following import OnLost
from rivet_ray.store import Store, open_store

Actors = Mapping[str, type[Actor[Any, Any, Any, Any, Any]]]

# --- A backend whose port is encoded ------------------------------------------


class EncodedSession:
    def __init__(self, session: port.HostSession) -> None:
        self._session = session

    def send(self, message: port.ToHost) -> None:
        self._session.send(port.decode_to_host(port.encode(message)))

    def close(self) -> None:
        self._session.close()


class EncodedHost:
    """Every message between gateway and host is encoded and decoded on the way."""

    def __init__(self, host: port.Hosting) -> None:
        self._host = host

    def open(self, receive: Callable[[port.ToGateway], None]) -> port.HostSession:
        session = self._host.open(
            lambda message: receive(port.decode_to_gateway(port.encode(message)))
        )
        return EncodedSession(session)


class EncodedStandalone(Standalone):
    async def _open(self) -> None:
        await super()._open()
        self.calls.close()
        self.calls = HostClient(EncodedHost(self.host))


class LinkedStandalone(Standalone):
    """Gateway and host talk over a link, as they do where they are two processes."""

    async def _open(self) -> None:
        await super()._open()
        self.calls.close()
        secret = b"a secret of the tests"
        self._link = LinkServer(self.host, secret)
        await self._link.start()

        async def connect(lost: OnLost) -> port.Hosting:
            link = LinkClient(self._link.address, secret, on_lost=lost)
            await link.connect()
            return link

        self.calls = FollowingClient(connect)

    async def close(self) -> None:
        await super().close()
        await self._link.close()


BACKENDS: dict[str, type[Standalone]] = {
    "direct": Standalone,
    "encoded": EncodedStandalone,
    "linked": LinkedStandalone,
}


@asynccontextmanager
async def serving(
    kind: str,
    wire: Wire,
    actors: Actors,
    *,
    store: str | Store | StoreOver = "memory://",
    settings: GatewaySettings | None = None,
    host_settings: HostSettings | None = None,
    stack: Stack | None = None,
) -> AsyncIterator[Site]:
    """A server with a gateway to a host on this event loop, and a client of it.

    On a stack the gateway is in a replica of Ray Serve and the store is in Redis;
    otherwise it is a uvicorn server, configured as the project does it.
    """
    definitions = setup(use=actors).definitions()
    async with AsyncExitStack() as exits:
        if stack is not None:
            address = stack.address
            given = await _over(store, stack.store(), exits)
            host = HostBeside(definitions, *given, settings=host_settings, handle=serve_exchange)
            await host.start()
            exits.push_async_callback(host.close)
            records = next(iter(actors.values())).__module__
            await exits.enter_async_context(stack.gateway(host, settings, records))
        else:
            backend = BACKENDS[kind](
                definitions, cast("Store", store), settings=host_settings, handle=serve_exchange
            )
            address = await exits.enter_async_context(_uvicorn(create_app(backend, settings)))
        client = httpx.AsyncClient(timeout=PATIENCE, verify=False)
        await exits.enter_async_context(client)
        yield Site(address, wire, client, stack)


async def _over(
    store: str | Store | StoreOver, url: str, exits: AsyncExitStack
) -> tuple[str, Store | StoreOver | None]:
    """The URL of the store, and what stands over it, if something does."""
    if isinstance(store, str):
        return url, None
    assert isinstance(store, StoreOver), "memory cannot be shared with another process"
    if store.url is None:
        store.url, store.below = url, await open_store(url)
        exits.push_async_callback(store.below.close)
    return store.url, store


@asynccontextmanager
async def _uvicorn(app: FastAPI) -> AsyncIterator[str]:
    # With its protocol named, asyncio switches Nagle's delay off.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    port_number = listener.getsockname()[1]
    # Without a log_config of its own, uvicorn's errors reach pytest's caplog.
    config = uvicorn_config(app, "127.0.0.1", port_number, log_config=None)
    config.load()
    server = Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    try:
        yield f"127.0.0.1:{port_number}"
    finally:
        await _stop(server)


async def _stop(server: Server) -> None:
    """uvicorn's own shutdown, without the tenth of a second that it sleeps."""
    for listener in server.servers:
        listener.close()
    state = server.server_state
    for connection in list(state.connections):
        connection.shutdown()

    async def idle() -> bool:
        return not state.connections and not state.tasks

    await eventually(idle)
    await server.lifespan.shutdown()
