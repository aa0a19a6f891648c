"""Two small servers that speak the documented dialect, to test the client against.

They share the codecs with the client and nothing else. Bytes of the dialect itself
are pinned by the tests of `rivet_ray.protocol`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from rivet_ray import Actor, Event, action
from rivet_ray.client import Client
from rivet_ray.definition.remote import Connection
from rivet_ray.protocol import v0, values
from rivet_ray.protocol.encodings import ENCODINGS, Encoding
from rivet_ray.protocol.subprotocols import parse_protocols


@dataclass
class Point:
    x: int
    y: int


@dataclass
class CounterState:
    count: int = 0


class Counter(Actor[CounterState]):
    new_count = Event[int]()
    moved = Event[str, Point]()

    @action
    def increment(self, amount: int = 1) -> int:
        return amount

    @action(name="whereIs")
    def where(self, name: str, scale: int = 1, offset: int = 0) -> Point:
        return Point(scale, offset)

    @action
    async def reset(self) -> None:
        pass

    def _secret(self) -> None:
        pass

    def helper(self) -> None:
        pass


# --- HTTP ---------------------------------------------------------------------


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def encoding(self) -> Encoding:
        return ENCODINGS[self.headers["x-rivetkit-encoding"]]

    @property
    def arguments(self) -> Any:
        return values.decode(v0.decode_action_request(self.encoding, self.body))


@dataclass
class Answer:
    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])


def output(request: Request, value: Any) -> Answer:
    return Answer(v0.encode_action_response(request.encoding, values.encode(value)))


def failure(request: Request, status: int, error: v0.ErrorMessage, **headers: str) -> Answer:
    return Answer(v0.encode_error(request.encoding, error), status, headers)


Respond = Callable[[Request], Awaitable[Answer | None]]


@dataclass
class HttpServer:
    url: str
    requests: list[Request]


@asynccontextmanager
async def http_server(respond: Respond) -> AsyncIterator[HttpServer]:
    """An HTTP server; `respond` returns None to cut the connection instead."""
    requests: list[Request] = []
    tasks: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("ascii").split("\r\n")[:-2]
                method, path, _ = first.split(" ")
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines)
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                request = Request(method, path, headers, body)
                requests.append(request)
                answer = await respond(request)
                if answer is None:
                    break
                fields = {**answer.headers, "Content-Length": str(len(answer.body))}
                lines = [f"HTTP/1.1 {answer.status} X", *(f"{k}: {v}" for k, v in fields.items())]
                writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(connection(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield HttpServer(f"http://127.0.0.1:{port}", requests)
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


# --- WebSocket ----------------------------------------------------------------


class Peer:
    """The server's end of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        assert socket.request is not None
        self.path = socket.request.path
        self.headers = socket.request.headers
        offered = [
            protocol.strip()
            for line in self.headers.get_all("Sec-WebSocket-Protocol")
            for protocol in line.split(",")
        ]
        self.asked = parse_protocols(offered)
        self.encoding = ENCODINGS[self.asked.encoding or "json"]

    async def send(self, message: v0.ToClient) -> None:
        frame = v0.encode_to_client(self.encoding, message)
        await self.socket.send(frame, text=not self.encoding.binary)

    async def init(self) -> None:
        await self.send(v0.Init("actor-1", "conn-1", "token-1"))

    async def event(self, name: str, *arguments: Any) -> None:
        await self.send(v0.EventMessage(name, values.encode(arguments)))

    async def answer(self, request: v0.ActionRequest, value: Any) -> None:
        await self.send(v0.ActionResponse(request.id, values.encode(value)))

    async def receive(self) -> v0.ToServer:
        return v0.decode_to_server(self.encoding, await self.socket.recv())

    async def action(self) -> v0.ActionRequest:
        message = await self.receive()
        assert isinstance(message, v0.ActionRequest), message
        return message

    async def subscription(self) -> tuple[str, bool]:
        message = await self.receive()
        assert isinstance(message, v0.SubscriptionRequest), message
        return message.event, message.subscribe


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class SocketServer:
    url: str
    peers: list[Peer]
    failures: list[BaseException]


async def three(peer: Peer, request: v0.ActionRequest) -> None:
    """A script: three events before the answer."""
    for number in range(3):
        await peer.event("new_count", number)


def connection_to_counter(client: Client) -> Connection[Counter]:
    return client.accessor("counter", Counter).get_or_create("k").connect()


@asynccontextmanager
async def socket_server(script: Script) -> AsyncIterator[SocketServer]:
    """A WebSocket server that plays `script` on every connection.

    The connection closes with 1000 where the script returns. A failed assertion
    of a script fails the test.
    """
    peers: list[Peer] = []
    failures: list[BaseException] = []

    async def play(socket: ServerConnection) -> None:
        peer = Peer(socket)
        peers.append(peer)
        try:
            await script(peer)
        except AssertionError as error:
            failures.append(error)

    def select(socket: ServerConnection, offered: list[Subprotocol]) -> Subprotocol:
        assert offered[-1] == "rivetkit"
        return Subprotocol("rivetkit")

    async with serve(
        play, "127.0.0.1", 0, select_subprotocol=select, compression=None, max_size=None
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield SocketServer(f"http://127.0.0.1:{port}", peers, failures)
    if failures:
        raise failures[0]


async def echo(peer: Peer) -> None:
    """Every action returns its first argument."""
    await peer.init()
    async for frame in peer.socket:
        message = v0.decode_to_server(peer.encoding, frame)
        if isinstance(message, v0.ActionRequest):
            await peer.answer(message, (values.decode(message.arguments) or [None])[0])


Step = Callable[[Peer, v0.ActionRequest], Any]


class Played:
    """A server that notes subscriptions and calls, and runs a step for each call."""

    def __init__(self, step: Step | None = None) -> None:
        self.step = step
        self.seen: list[Any] = []

    async def __call__(self, peer: Peer) -> None:
        await peer.init()
        async for frame in peer.socket:
            message = v0.decode_to_server(peer.encoding, frame)
            if isinstance(message, v0.SubscriptionRequest):
                self.seen.append((message.event, message.subscribe))
            else:
                self.seen.append(message.name)
                if self.step is not None:
                    await self.step(peer, message)
                await peer.answer(message, 0)
