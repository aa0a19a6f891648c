"""What clients may hold before anybody has let them in: bytes, places and time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from gateway_wire import PATIENCE, Serve, Site, eventually, get_or_create
from websockets.frames import Frame, Opcode

from rivet_ray import Actor, action
from rivet_ray.gateway import GatewaySettings
from rivet_ray.gateway.front import most_connections
from rivet_ray.gateway.websocket_protocol import PIECE

pytestmark = pytest.mark.parametrize("port", ["direct"])
KIB, MIB = 1024, 1024 * 1024
WEBSOCKET = "/registry/actors/connect/websocket"
RAW = "/registry/actors/raw/websocket/"
GATE: list[asyncio.Event] = []


class Echo(Actor[None]):
    public = True

    @action
    def echo(self, value: Any) -> Any:
        return value

    @action
    def length(self, text: str) -> int:
        return len(text)

    async def on_websocket(self, socket: Any) -> None:
        await socket.accept()
        while True:
            await socket.send_text(str(len(await socket.receive_text())))


class Slow(Actor[None]):
    """Lets nobody in before the test says so."""

    @classmethod
    async def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> None:
        await GATE[-1].wait()


ACTORS: dict[str, Any] = {"echo": Echo, "slow": Slow}
A = get_or_create("echo", "a")


class Peer:
    """A client that sends whatever it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.sent = 0
        self.told = b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.sent += len(data)

    async def flood(self, part: bytes, most: int) -> None:
        """Send it again and again, until the server closes."""
        reading = asyncio.create_task(self._read())
        with suppress(OSError):
            while self.sent < most and not reading.done():
                await self.send(part)
                await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            self.told = await reading

    async def _read(self) -> bytes:
        try:
            return await self.reader.read()
        except OSError:
            return b""

    async def rest(self) -> bytes:
        """What the server says until it closes."""
        async with asyncio.timeout(PATIENCE):
            return self.told or await self._read()

    async def head(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")


@asynccontextmanager
async def peer(site: Site) -> AsyncIterator[Peer]:
    host, _, port = site.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()


async def counts(site: Site) -> dict[str, Any]:
    answer = await site.http.get(f"http://{site.address}/metadata")
    found: dict[str, Any] = answer.json()["gateway"]
    return found


async def still_serves(site: Site) -> None:
    assert (await site.call(A, "echo", 1)).output == 1


def opening(site: Site, path: str = WEBSOCKET, query: Any = A) -> bytes:
    lines = (
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Sec-WebSocket-Protocol: {', '.join(site.protocols(query))}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def frame(site: Site, data: bytes, *, fin: bool = True, first: bool = True) -> bytes:
    kind = Opcode.TEXT if site.wire.name == "json" else Opcode.BINARY
    return Frame(kind if first else Opcode.CONT, data, fin=fin).serialize(mask=True)


# --- Heads --------------------------------------------------------------------------


HEADS = {
    "an address": (b"GET /", b"x" * KIB, 414),
    "a header": (b"GET / HTTP/1.1\r\nX: ", b"x" * KIB, 431),
    "many headers": (b"GET / HTTP/1.1\r\n", b"a:b\r\n" * 100, 431),
    "a query": (b"POST /actors/resolve HTTP/1.1\r\nX-RivetKit-Query: ", b"[" * KIB, 431),
}


@pytest.mark.parametrize("head", HEADS)
async def test_a_head_that_never_ends(head: str, serve: Serve) -> None:
    site = await serve(ACTORS)
    begin, part, status = HEADS[head]
    async with peer(site) as stranger:
        await stranger.send(begin)
        await stranger.flood(part, 8 * MIB)
        answer = await stranger.rest()
    assert stranger.sent < 4 * MIB, "it was cut off"
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:100]
    assert b"x-rivetkit-outcome: not_started" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["c"] == "message_too_long"
    assert (await counts(site))["headsTooLong"] == 1
    await still_serves(site)


async def test_the_longest_head(serve: Serve) -> None:
    site = await serve(ACTORS, settings=GatewaySettings(max_head_size=20_000))
    headers = site.headers(A) | {"X-Filling": "x" * 15_000}
    answer = await site.post("/actors/actions/echo", headers, site.wire.dumps({"a": [1]}))
    assert answer.output == 1
    headers["X-Filling"] = "x" * 20_000
    answer = await site.post("/actors/actions/echo", headers, site.wire.dumps({"a": [1]}))
    assert answer.status == 431
    assert answer.outcome == "not_started"


async def test_trailers_that_never_end(serve: Serve) -> None:
    """They come behind a body, and are headers too."""
    site = await serve(ACTORS)
    lines = [f"{name}: {value}" for name, value in site.headers(A).items()]
    head = ["POST /actors/actions/echo HTTP/1.1", "Host: x", *lines, "Transfer-Encoding: chunked"]
    async with peer(site) as stranger:
        await stranger.send("\r\n".join([*head, "", ""]).encode() + b"1\r\n{\r\n0\r\n")
        await stranger.flood(b"a:b\r\n" * 100, 8 * MIB)
        await stranger.rest()
    assert stranger.sent < 4 * MIB
    await still_serves(site)


async def test_heads_of_many_clients_share_a_bound(serve: Serve) -> None:
    settings = GatewaySettings(max_unread_size=200_000, max_bodies_size=200_000)
    site = await serve(ACTORS, settings=settings)
    async with peer(site) as one, peer(site) as two:
        for stranger in (one, two):
            await stranger.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 110_000)

        async def refused() -> bool:
            return "gateway's unread" in (await counts(site))["refused"]

        await eventually(refused)
        await still_serves(site)
        assert (await counts(site))["heldBytes"] >= 110_000
    await released(site)


async def released(site: Site) -> None:
    async def nothing() -> bool:
        return bool((await counts(site))["heldBytes"] == 0)

    await eventually(nothing)


async def test_many_requests_before_the_first_is_answered(serve: Serve) -> None:
    site = await serve(ACTORS)
    GATE.append(asyncio.Event())
    lines = [f"{name}: {value}" for name, value in site.headers(get_or_create("slow")).items()]
    request = "\r\n".join(["POST /actors/resolve HTTP/1.1", "Host: x", *lines, "Content-Length: 0"])
    async with peer(site) as stranger:
        with suppress(OSError):
            await stranger.send(f"{request}\r\n\r\n".encode() * 200)
        await stranger.rest()
    GATE[-1].set()
    assert (await counts(site))["connectionsRefused"] == 1
    await still_serves(site)


# --- Bodies ---------------------------------------------------------------------------


async def test_bodies_of_many_clients_share_a_bound(serve: Serve) -> None:
    """A long one is refused as not started, and a short one always has room."""
    settings = GatewaySettings(max_unread_size=3 * MIB, max_bodies_size=2 * MIB)
    site = await serve(ACTORS, settings=settings)
    lines = [f"{name}: {value}" for name, value in site.headers(A).items()]
    head = ["POST /actors/actions/length HTTP/1.1", "Host: x", *lines, f"Content-Length: {3 * MIB}"]
    async with peer(site) as stranger:
        await stranger.send("\r\n".join([*head, "", ""]).encode() + b"x" * (3 * MIB // 2))

        async def held() -> bool:
            return bool((await counts(site))["heldBytes"] > MIB)

        await eventually(held)
        answer = await site.call(A, "length", "x" * MIB)
        assert (answer.status, answer.code, answer.outcome) == (503, "overloaded", "not_started")
        assert (await counts(site))["refused"] == {"gateway's bodies": 1}
        assert (await site.call(A, "length", "x" * 10_000)).output == 10_000
    await released(site)
    assert (await site.call(A, "length", "x" * MIB)).output == MIB


# --- Messages -------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", ["one frame", "fragments"])
@pytest.mark.parametrize("admitted", [True, False])
async def test_a_message_that_never_ends(pieces: str, admitted: bool, serve: Serve) -> None:
    """Also before its client is let in."""
    site = await serve(ACTORS)
    GATE.append(asyncio.Event())
    async with peer(site) as stranger:
        await stranger.send(opening(site, query=A if admitted else get_or_create("slow")))
        assert b" 101 " in await stranger.head()
        if pieces == "one frame":
            await stranger.send(frame(site, b"x" * MIB)[: 200 * KIB])
        else:
            await stranger.send(frame(site, b"x" * KIB, fin=False))
            await stranger.flood(frame(site, b"x" * KIB, fin=False, first=False), 8 * MIB)
        assert b"\x03\xf3message_too_long" in await stranger.rest()
    found = await counts(site)
    assert found["messagesTooLong"] == 1
    assert found["mostHeldBytes"] < MIB // 2
    GATE[-1].set()
    await still_serves(site)
    await released(site)


async def test_unfinished_messages_share_a_bound(serve: Serve) -> None:
    settings = GatewaySettings(max_unread_size=200_000, max_bodies_size=200_000)
    site = await serve(ACTORS, settings=settings)
    async with peer(site) as one, peer(site) as two:
        for stranger in (one, two):
            await stranger.send(opening(site))
            assert b" 101 " in await stranger.head()
            await stranger.send(frame(site, b"x" * 60_000, fin=False) * 1)
            await stranger.send(frame(site, b"x" * 60_000, fin=False, first=False))
        assert b"\x03\xf5overloaded" in await two.rest()
        await still_serves(site)
    await released(site)


async def test_pieces_of_no_length(serve: Serve) -> None:
    """The end of a message in very many pieces is still its end."""
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        text = site.wire.frame({"b": {"ar": {"i": 1, "n": "echo", "a": ["fine"]}}})
        empty: Any = b"" if isinstance(text, bytes) else ""
        await socket.connection.send([text[:9], *[empty] * 5_000, text[9:]])
        assert await socket.answer(1) == "fine"


async def test_many_messages_at_once_come_in_order(serve: Serve) -> None:
    """More than are parsed at once, one of them at a border."""
    site = await serve(ACTORS)
    async with peer(site) as stranger:
        await stranger.send(opening(site))
        assert b" 101 " in await stranger.head()
        calls = b"".join(
            frame(
                site,
                site.wire.dumps({"b": {"ar": {"i": number, "n": "echo", "a": ["x" * number]}}}),
            )
            for number in range(200)
        )
        assert len(calls) > 10 * PIECE
        await stranger.send(calls)
        seen = b""
        async with asyncio.timeout(PATIENCE):
            while b"x" * 199 not in seen:
                seen += await stranger.reader.read(65_536)
        assert all(b"x" * number in seen for number in range(200))


async def test_pings_of_a_client_that_does_not_read(serve: Serve) -> None:
    """Their answers would gather without end."""
    site = await serve(ACTORS)
    async with peer(site) as stranger:
        await stranger.send(opening(site))
        await stranger.head()
        ping = Frame(Opcode.PING, b"x" * 125).serialize(mask=True)
        for _ in range(100):
            await stranger.send(ping * 1_000)
        await still_serves(site)


async def test_raw_messages_have_a_bound_of_their_own(serve: Serve) -> None:
    site = await serve(ACTORS, settings=GatewaySettings(max_raw_message_size=MIB))
    async with site.offering(
        site.protocols(A), query="", mount="/registry"
    ) as socket:  # The other path is not changed by it.
        await socket.init()
    async with peer(site) as stranger:
        await stranger.send(opening(site, RAW))
        assert b" 101 " in await stranger.head()
        await stranger.send(Frame(Opcode.TEXT, b"x" * (MIB - 1)).serialize(mask=True))
        async with asyncio.timeout(PATIENCE):
            assert str(MIB - 1).encode() in await stranger.reader.read(100)
        await stranger.send(Frame(Opcode.TEXT, b"x" * (MIB + 1)).serialize(mask=True))
        assert b"\x03\xf1message_too_long" in await stranger.rest()


# --- Places ---------------------------------------------------------------------------


def test_the_default_leaves_open_files_for_others(port: str) -> None:
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert most_connections() > 0
    assert files == resource.RLIM_INFINITY or most_connections() <= files - 64


@pytest.mark.parametrize("sent", [b"", b"POST /actors/resolve HTTP/1.1\r\nX-A"])
async def test_a_client_that_says_nothing(sent: bytes, serve: Serve) -> None:
    """At first, or in the middle of a head."""
    site = await serve(ACTORS, settings=GatewaySettings(head_timeout=0.2))
    async with peer(site) as stranger:
        await stranger.send(sent)
        assert await stranger.rest() == b""
    assert (await counts(site))["silentConnections"] == 1
    await still_serves(site)


async def test_a_head_that_trickles(serve: Serve) -> None:
    """Each byte comes in time, and the head does not."""
    site = await serve(ACTORS, settings=GatewaySettings(head_timeout=0.3))
    async with peer(site) as stranger:

        async def trickle() -> None:
            with suppress(OSError):
                await stranger.send(b"GET / HTTP/1.1\r\nX: ")
                for _ in range(1_000):
                    await stranger.send(b"x")
                    await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        await stranger.rest()
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)
    assert stranger.sent < 60
    await still_serves(site)


async def test_a_later_head_that_does_not_come(serve: Serve) -> None:
    """Its client has begun it, so uvicorn's own timeout is over."""
    site = await serve(ACTORS, settings=GatewaySettings(head_timeout=0.2))
    async with peer(site) as stranger:
        await stranger.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in await stranger.head()
        await stranger.send(b"GET")
        await stranger.rest()
    assert (await counts(site))["silentConnections"] == 1


async def test_a_body_that_nobody_reads_and_that_does_not_end(serve: Serve) -> None:
    site = await serve(ACTORS, settings=GatewaySettings(head_timeout=0.2))
    async with peer(site) as stranger:
        await stranger.send(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n")
        assert b"404" in await stranger.head()
        await stranger.send(b"x")
        await stranger.rest()


async def test_a_request_that_takes_long_is_not_silence(serve: Serve) -> None:
    site = await serve(ACTORS, settings=GatewaySettings(head_timeout=0.1))
    GATE.append(asyncio.Event())
    call = asyncio.create_task(site.resolve(get_or_create("slow")))
    async with site.connect(A) as socket:
        await asyncio.sleep(0.3)
        assert await socket.ask(0, "echo", 1) == 1
    GATE[-1].set()
    assert (await call).status == 200


async def test_silent_clients_make_way(serve: Serve) -> None:
    """Whoever takes all places and says nothing keeps nobody out."""
    site = await serve(ACTORS, settings=GatewaySettings(max_connections=8))
    host, _, port = site.address.rpartition(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(30)]
    await still_serves(site)
    async with site.connect(A) as socket:
        assert await socket.ask(0, "echo", 1) == 1
        found = await counts(site)
        assert found["silentConnections"] >= 22
        assert found["connectionsRefused"] == 0
    for _, writer in silent:
        writer.close()


async def test_no_place_is_left(serve: Serve) -> None:
    """Nobody who is served loses their place."""
    site = await serve(ACTORS, settings=GatewaySettings(max_connections=3))
    async with site.connect(A) as one, site.connect(A) as two, site.connect(A) as three:
        async with peer(site) as stranger:
            answer = await stranger.rest()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["c"] == "overloaded"
        for socket in (one, two, three):
            assert await socket.ask(0, "echo", 1) == 1
    await still_serves(site)
    assert (await counts(site))["connectionsRefused"] == 1


async def test_places_of_one_address(serve: Serve) -> None:
    """A socket keeps the place that its request had, and gives it back."""
    site = await serve(ACTORS, settings=GatewaySettings(max_connections_per_address=2))
    for _ in range(3):
        async with site.connect(A), peer(site) as second:
            await second.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" in await second.head()
            async with peer(site) as third:
                assert (await third.rest()).startswith(b"HTTP/1.1 503 ")

        async def free() -> bool:
            with suppress(Exception):
                return (await site.call(A, "echo", 1)).status == 200
            return False

        await eventually(free)
        await site.http.aclose()
        site.http = type(site.http)(timeout=PATIENCE, verify=False)
    await site.http.aclose()
