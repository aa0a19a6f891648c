"""Openings of WebSockets that are none, and frames that are none: always an answer."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import pytest
from gateway_wire import PATIENCE, Serve, Site, get_or_create
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from rivet_ray import Actor, action
from rivet_ray.client.client import Client
from rivet_ray.gateway.websocket_protocol import MAX_LINE

PATH = "/registry/actors/connect/websocket"
SLOW: list[asyncio.Event] = []


class Echo(Actor[None]):
    public = True

    @action
    def echo(self, value: Any) -> Any:
        return value


@dataclass
class Length:
    value: int


class Given(Actor[Length, None, Any, str | None]):
    """What it was given when it was created, and by whom it is called."""

    public = True

    def create_state(self, input: str | None) -> Length:
        return Length(len(input or ""))

    @action
    def length(self) -> int:
        return self.state.value

    @action
    def params(self) -> Any:
        return self.conn.params


class Slow(Actor[None]):
    """Lets nobody in before the test says so."""

    @classmethod
    async def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> None:
        await SLOW[-1].wait()


ACTORS: dict[str, Any] = {"echo": Echo, "slow": Slow}
A = get_or_create("echo", "a")


def opening(*more: str, path: str = PATH) -> bytes:
    lines = (
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    return "\r\n".join((*lines, *more, "", "")).encode("latin-1")


async def answered(site: Site, *parts: bytes) -> bytes:
    """The head of the answer. HAProxy may keep the connection for another request."""
    host, _, port = site.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(PATIENCE):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.02)
            return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (opening(path=f"{PATH}?query={'q' * MAX_LINE}"), 414),
        (opening(f"Sec-WebSocket-Protocol: query.{'q' * MAX_LINE}"), 431),
        (opening(*(f"X-{number}: 1" for number in range(128))), 431),
        (opening("Content-Length: 5") + b"hello", 400),
        (opening("Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n", 400),
        (opening("Sec-WebSocket-Protocol: "), 400),
        (opening("Sec-WebSocket-Key: again"), 400),
    ],
    ids=["address", "header", "headers", "body", "chunks", "protocol", "key"],
)
@pytest.mark.parametrize("port", ["direct", "served"])
async def test_no_opening(serve: Serve, sent: bytes, status: int, port: str) -> None:
    site = await serve(ACTORS)
    head = await answered(site, sent)
    found = int(head.split()[1])
    # HAProxy has an answer of its own to some of them.
    assert found == status or (port == "served" and 400 <= found < 500), head


@pytest.mark.parametrize("port", ["direct"])
async def test_what_an_opening_has_room_for(serve: Serve) -> None:
    """As much as the same takes over HTTP: the longest parameters, and a large input."""
    site = await serve({"given": Given})
    longest = "é" * 2047
    async with Client(f"http://{site.address}", transport="websocket") as client:
        async with client.actor("given", "a").connect(params=longest) as given:
            assert await given.actor.call("params") == longest
        large = client.actor("given", "b", input="x" * 60_000)
        async with large.connect() as connection:
            assert await connection.actor.call("length") == 60_000


@pytest.mark.parametrize("port", ["direct"])
async def test_a_bad_frame_before_the_answer(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """What stands where a socket may be opened later; nobody waits for it then."""
    site = await serve(ACTORS)
    SLOW.append(asyncio.Event())
    protocols = ", ".join(site.protocols(get_or_create("slow")))
    path = "/registry/actors/raw/websocket/"
    sent = opening(f"Sec-WebSocket-Protocol: {protocols}", path=path)
    assert (await answered(site, sent, b"\xff" * 16)).startswith(b"HTTP/1.1 400 ")
    SLOW[-1].set()
    async with site.connect(A) as socket:
        assert await socket.ask(0, "echo", 1) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_text_that_is_none(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        await socket.connection.send(b'"\xff"', text=True)
        with pytest.raises(ConnectionClosedError) as closed:
            await socket.connection.recv()
    assert closed.value.rcvd == Close(1007, "malformed_message")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
