"""A host behind a link, gateways in front of it, and raw peers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from rivet_ray import Actor, Conn, Event, UserError, action
from rivet_ray.asgi import serve_exchange
from rivet_ray.link import LinkClient, LinkServer, LinkSettings
from rivet_ray.link.frames import FrameReader, frame
from rivet_ray.link.handshake import Handshake
from rivet_ray.protocol import values
from rivet_ray.protocol.port import Attached, Deliver
from rivet_ray.protocol.queries import GetOrCreate
from rivet_ray.registry import setup
from rivet_ray.runtime import Directory, Host, HostClient, HostSettings
from rivet_ray.testing import ManualClock
from rivet_ray_drivers.memory import MemoryStore

SECRET = b"a secret of the cluster, for tests"
PATIENCE = 5.0
"""Seconds after which a test stops waiting for something that should have come."""


async def eventually(condition: Callable[[], object]) -> None:
    """Until it holds. Sockets take real time."""
    for _ in range(int(PATIENCE * 1000)):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError("it does not come")


async def loose(scope: Any, receive: Any, send: Any) -> None:
    """An application that takes `more_body` for whatever is true or false."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one ", "more_body": 1})
    await send({"type": "http.response.body", "body": b"two", "more_body": None})


@dataclass
class State:
    count: int = 0


class Counter(Actor[State]):
    counted = Event[int]()
    texts = Event[str]()
    gone: ClassVar[list[str]] = []
    codes: ClassVar[list[int]] = []

    @action
    def increment(self, amount: int = 1) -> int:
        self.state.count += amount
        self.broadcast(Counter.counted, self.state.count)
        return self.state.count

    @action
    def echo(self, text: str) -> str:
        return text

    @action
    def text(self, size: int) -> str:
        return "x" * size

    @action
    def shout(self, size: int) -> None:
        self.broadcast(Counter.texts, "x" * size)

    @action
    def whisper(self, connection: str) -> None:
        for conn in self.conns:
            if conn.id == connection:
                conn.send("\ud800")

    @action
    def fail(self) -> None:
        raise UserError("no", "refused", {"why": "because"})

    @action
    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def on_fetch(self, request: Request) -> Any:
        match request.url.path:
            case "/long":
                return b"x" * 50_000
            case "/head":
                return Response(b"x" * 50_000, headers={"x-long": "x" * 50_000})
            case "/loose":
                return loose
        return b"short"

    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        while (message := await websocket.receive())["type"] == "websocket.receive":
            await websocket.send_bytes(b"x" * int(message["bytes"]))
        Counter.codes.append(message["code"])

    def on_disconnect(self, conn: Conn[Any, Any, Any]) -> None:
        Counter.gone.append(conn.id)


@dataclass
class Listener:
    """A sink that remembers."""

    seen: list[Any] = field(default_factory=list[Any])

    def attached(self, message: Attached) -> None:
        self.seen.append("attached")

    def deliver(self, message: Deliver) -> None:
        self.seen.append((message.event, *values.decode(message.arguments)))

    def closed(self, code: int, reason: str) -> None:
        self.seen.append((code, reason))


class Gateway:
    """A `HostClient` over a `LinkClient`, with arguments and outputs as values."""

    def __init__(self, link: LinkClient) -> None:
        self.link = link
        self.lost: list[Exception | None] = []
        link.on_lost = self.lost.append
        self.calls = HostClient(link)

    async def call(self, actor: str, action: str, *args: Any, **options: Any) -> Any:
        async with asyncio.timeout(PATIENCE):
            output = await self.calls.call(actor, action, values.encode(args), **options)
        return None if output is None else values.decode(output)


class World:
    """A host of `Counter` actors behind a server, on time that stands still."""

    def __init__(self, settings: LinkSettings | None = None, secret: bytes = SECRET) -> None:
        Counter.gone, Counter.codes = [], []
        self.clock = ManualClock()
        self.settings = settings or LinkSettings()
        definitions = setup(use={"counter": Counter}).definitions()
        store = MemoryStore()
        # Some calls never end, and closing a host waits for them.
        limits = HostSettings(stop_grace=0.05)
        self.host = Host(
            definitions, store, clock=self.clock, settings=limits, handle=serve_exchange
        )
        self.directory = Directory(definitions, store, self.clock)
        self.server = LinkServer(self.host, secret, clock=self.clock, settings=self.settings)
        self.gateways: list[Gateway] = []

    async def start(self) -> None:
        await self.server.start()

    async def gateway(self, settings: LinkSettings | None = None) -> Gateway:
        link = LinkClient(
            self.server.address, SECRET, clock=self.clock, settings=settings or self.settings
        )
        async with asyncio.timeout(PATIENCE):
            await link.connect()
        self.gateways.append(Gateway(link))
        return self.gateways[-1]

    async def actor(self, key: str = "k") -> str:
        return (await self.directory.resolve(GetOrCreate("counter", [key]))).id

    async def raw(self, *, limit: int = 65536) -> Raw:
        host, _, port = self.server.address.rpartition(":")
        return Raw(*await asyncio.open_connection(host, int(port), limit=limit))

    async def close(self) -> None:
        for gateway in self.gateways:
            await gateway.link.close()
        await self.clock.until(self.host.close())
        await self.server.close()
        assert self.server.links == 0
        assert not self.host._sessions
        assert self.clock.pending == 0, "a timer outlives the link"


class Raw:
    """A peer on a bare socket, which does what a test tells it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader(1 << 30)

    def send(self, payload: bytes) -> None:
        self.writer.write(frame(payload))

    def send_value(self, value: object) -> None:
        self.send(msgspec.msgpack.encode(value))

    async def receive(self) -> bytes | None:
        """The next payload, or None at the end."""
        async with asyncio.timeout(PATIENCE):
            while (payload := self._frames.next()) is None:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._frames.feed(data)
        return payload

    async def prove(self, handshake: Handshake | None = None) -> bytes | None:
        """The handshake as a gateway; the last payload of the host."""
        shake = handshake or Handshake("gateway", SECRET)
        self.send(shake.hello())
        hello = await self.receive()
        assert hello is not None
        proof = shake.receive(hello)
        assert proof is not None
        self.send(proof)
        return await self.receive()

    async def prove_host(self) -> None:
        """The handshake as a host."""
        shake = Handshake("host", SECRET)
        self.send(shake.hello())
        for _ in range(2):
            payload = await self.receive()
            assert payload is not None
            answer = shake.receive(payload)
        assert answer is not None
        self.send(answer)

    def stop_reading(self) -> None:
        transport: Any = self.writer.transport
        transport.pause_reading()

    async def ended(self) -> bool:
        """Whether the other end has closed; skips what it still says."""
        while await self.receive() is not None:
            pass
        return True

    async def close(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def fake_host(clock: ManualClock) -> AsyncIterator[tuple[LinkClient, asyncio.Future[Raw]]]:
    """A client, and what connects when it connects."""
    arrived: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(Raw(reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield LinkClient(f"127.0.0.1:{port}", SECRET, clock=clock), arrived
    finally:
        if arrived.done():
            await arrived.result().close()
        server.close()
        await server.wait_closed()


Serve = Callable[..., Awaitable[World]]
Connect = Callable[..., Awaitable[tuple[World, Gateway]]]
