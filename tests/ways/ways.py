"""Every way from a client to an actor: deployment, transport and encoding.

A deployment is a server as a user starts it, once for all tests; `inline` is the
client of a server inside the test's own process, which the same deployment's store
lies under. Tests have keys of their own, so that none meets the actors of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from redis_server import RedisServer
from served_command import ServedCommand
from ways_actors import App

from rivet_ray import Client

PATIENCE = 20.0
"""Seconds that a call may take; the first on Ray starts the host."""
REPLICAS = {"memory": 1, "file": 1, "ray": 2}
"""The gateways of each deployment."""

HandleT = TypeVar("HandleT")


@dataclass(frozen=True)
class Way:
    deployment: str
    transport: str
    encoding: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.deployment, self.transport, self.encoding)))


OUTSIDE = [
    Way(deployment, transport, encoding)
    for deployment in REPLICAS
    for transport in ("http", "websocket", "sse")
    for encoding in ("json", "cbor")
]
"""Over the network, where `on_auth` decides."""
INLINE = [Way("memory", "inline"), Way("file", "inline")]
CALLING = [*OUTSIDE, *INLINE]
CONNECTING = [way for way in CALLING if way.transport != "http"]


def over(ways: list[Way]) -> list[Any]:
    """The ways as parameters of a test; those on Ray take long, and are marked so."""
    return [
        pytest.param(way, id=str(way), marks=[pytest.mark.slow] * (way.deployment == "ray"))
        for way in ways
    ]


class Deployments:
    """The servers, each started when the first test needs it."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._urls: dict[str, str] = {}

    def url(self, name: str) -> str:
        if name not in self._urls:
            directory = self._directory / name
            directory.mkdir()
            command = ServedCommand(directory, *self._arguments(name, directory))
            self._urls[name] = self._stack.enter_context(command).url
        return self._urls[name]

    def _arguments(self, name: str, directory: Path) -> list[str]:
        if name != "ray":
            store = "memory://" if name == "memory" else f"file://{directory}/state"
            return ["dev", "ways_actors:App", "--store", store]
        redis = RedisServer(directory).start()
        self._stack.callback(redis.stop)
        return [
            *("serve", "ways_actors:App", "--ray", "--store", redis.url()),
            *("--topology", "coordinate", "--replicas", "2", "--spare-workers", "0"),
        ]


class World:
    """One way, ready to be used."""

    def __init__(self, way: Way, client: Client) -> None:
        self.way = way
        self.client = client
        """Knows actors by name."""
        self.app = App(client)
        """The same client, typed."""

    @asynccontextmanager
    async def reach(self, handle: HandleT) -> AsyncIterator[HandleT]:
        """A handle whose calls go by this way: over a connection, if its transport is one."""
        if self.way.transport in ("http", "inline"):
            yield handle
            return
        opened: Any = handle
        async with opened.connect() as connection:
            yield connection.actor


@asynccontextmanager
async def opened(way: Way, deployments: Deployments, directory: Path) -> AsyncIterator[World]:
    if way.transport == "inline":
        store = "memory://" if way.deployment == "memory" else f"file://{directory}"
        server = App.create_server(store=store)
        async with server:
            caller: Any = server.client._caller
            yield World(way, caller)
        return
    # A call uses HTTP whatever its connections use.
    transport: Any = "auto" if way.transport == "http" else way.transport
    url = deployments.url(way.deployment)
    async with Client(url, encoding=way.encoding, timeout=PATIENCE, transport=transport) as client:
        yield World(way, client)


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait for something that other parties bring about."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.005)
