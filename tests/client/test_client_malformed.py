"""A server that sends what is malformed: each call of its client settles, with a type.

The bytes are drawn; the server is otherwise as it should be.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import cbor2
import pytest
from client_servers import Peer, socket_server
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from rivet_ray import Client, RivetError, errors
from rivet_ray.client.interface import UnexpectedValue
from rivet_ray.errors import ActionTimedOut
from rivet_ray.protocol import v0
from rivet_ray.protocol.encodings import ENCODINGS

PATIENCE = 3.0
"""Seconds that a call may take; with an answer or a fault it takes a few milliseconds, and
up to a quarter of a second where a connection comes back."""

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

# --- What a server sends ------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([0, 1, 2**53, 2**53 + 1, -1, 1.0, "conn-1", "not_started", "unknown"]),
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
MEMBERS = ("ai", "ci", "ct", "c", "m", "md", "i", "o", "n", "a", "s", "oc")
INNER = st.dictionaries(st.sampled_from(MEMBERS), PLAIN, max_size=5)
BODIES = st.dictionaries(st.sampled_from(["i", "e", "ar", "ev", "x"]), INNER | PLAIN, max_size=2)
MESSAGES = BODIES.map(lambda body: {"b": body}) | PLAIN
NASTY = st.sampled_from(
    [
        *(b"", b"{", b"null", b'{"b":{}}', b'{"b":{"ar":{"i":NaN}}}', b"[" * 5_000, b"\xff\xfe"),
        *(
            b'{"b":{"ev":{"n":"\\ud800","a":[]}}}',
            b"\xa1",
            b"\x81" * 5_000,
            b"\xa1\x61b\xa1\x61i\xa0",
        ),
        *(
            b"\xc2\x49" + b"\xff" * 9,
            b"\xd8\x1d\x00",
            b"\x9b" + b"\xff" * 8,
            b"\xf9\x7e\x00",
            b"\xf7",
        ),
    ]
)


def as_bytes(encoding: str, value: Any) -> bytes:
    return json.dumps(value).encode() if encoding == "json" else cbor2.dumps(value)


def payloads(encoding: str) -> st.SearchStrategy[bytes]:
    """Messages to the client; few of them are as they should be."""

    def written(value: Any) -> bytes:
        return as_bytes(encoding, value)

    def cut(data: bytes, at: int, put: bytes) -> bytes:
        at %= len(data) + 1
        return data[:at] + put + data[at + 1 :]

    messages = MESSAGES.map(written)
    damaged = st.builds(cut, messages, st.integers(0, 200), st.binary(max_size=2))
    return messages | damaged | NASTY | HARMLESS.map(written) | st.binary(max_size=20)


TO_NOBODY = {"b": {"ar": {"i": 99, "o": "to nobody"}}}
HARMLESS = st.sampled_from(
    [
        TO_NOBODY,
        {"b": {"ar": {"i": 0, "o": "right", "x": 1}}, "x": 1},
        {"b": {"ev": {"n": "nobody", "a": [1]}}},
        {"b": {"ev": {"n": "x", "a": []}}},
        {"b": {"e": {"c": "late", "m": "", "ai": 99}}},
    ]
)
"""What a client passes over: answers to nobody, members that it does not know."""


Sent = tuple[bytes, bool]
"""A payload, and whether it goes in a frame of the wrong type."""


class Liar:
    """Opens as it should, or with what it is told, and sends it again before each answer."""

    def __init__(self) -> None:
        self.sent: Sent = (b"", False)
        self.first = False


class Liars(Liar):
    """On WebSockets."""

    async def __call__(self, peer: Peer) -> None:
        with suppress(ConnectionClosed):
            await self._serve(peer)

    async def _serve(self, peer: Peer) -> None:
        data, wrong = self.sent
        text = peer.encoding.binary is wrong
        if self.first:
            await peer.socket.send(data, text=text)
        else:
            await peer.init()
        async for frame in peer.socket:
            message = v0.decode_to_server(peer.encoding, frame)
            if isinstance(message, v0.ActionRequest):
                await peer.socket.send(data, text=text)
                await peer.answer(message, "right")


class Streams(Liar):
    """On event streams: `data:` of each event is what it is told."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The client left.
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = dict(
                line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line
            )
            body = await reader.readexactly(int(lines.get("content-length", 0)))
            encoding = ENCODINGS[lines["x-rivetkit-encoding"]]
            if head.startswith("GET "):
                self.stream = writer
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                init = v0.Init("actor-1", "conn-1", "token-1")
                self.tell(encoding, None if self.first else v0.encode_to_client(encoding, init))
                continue
            message = v0.decode_posted(encoding, body)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            if isinstance(message, v0.ActionRequest):
                self.tell(encoding, None)
                answer = v0.ActionResponse(message.id, b"\xa5right")
                self.tell(encoding, v0.encode_to_client(encoding, answer))

    def tell(self, encoding: Any, payload: bytes | None) -> None:
        """An event; with no payload, the one that was drawn, as its bytes or as it should be."""
        data, wrong = self.sent if payload is None else (payload, False)
        coded = base64.b64encode(data) if encoding.binary is not wrong else data
        self.stream.write(b"data: " + coded + b"\n\n")


@asynccontextmanager
async def liar(transport: str) -> AsyncIterator[tuple[str, Liar]]:
    if transport == "websocket":
        sockets = Liars()
        async with socket_server(sockets) as server:
            yield server.url, sockets
        return
    streams = Streams()
    server = await asyncio.start_server(streams.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", streams
    finally:
        server.close()


@asynccontextmanager
async def deceived(transport: Any, encoding: Any) -> AsyncIterator[tuple[Client, Liar]]:
    async with (
        liar(transport) as (url, server),
        Client(url, encoding=encoding, transport=transport, timeout=PATIENCE) as client,
    ):
        yield client, server


# --- What its client makes of it ----------------------------------------------


async def meet(client: Client, outcomes: Counter[str]) -> None:
    """A subscription and three calls on one connection; each call has an answer or an error."""
    connection = client.actor("counter").connect()
    connection.on("x", lambda *_: None)
    calls = [connection.actor.call("echo", 1), connection.actor.call("echo", 2)]
    settled = await asyncio.gather(*calls, return_exceptions=True)
    settled += await asyncio.gather(connection.actor.call("echo", 3), return_exceptions=True)
    for value in settled:
        if isinstance(value, BaseException):
            assert isinstance(value, RivetError), repr(value)
            assert not isinstance(value, ActionTimedOut), "nobody told the caller"
            outcomes[type(value).__name__] += 1
        else:
            outcomes["answered"] += 1
    async with asyncio.timeout(PATIENCE):
        await connection.dispose()


async def examples(
    transport: Any, encoding: str, count: int, caplog: pytest.LogCaptureFixture
) -> Counter[str]:
    outcomes = Counter[str]()
    loop = asyncio.get_running_loop()
    async with liar(transport) as (url, server):

        async def one() -> None:
            async with Client(
                url, encoding=encoding, transport=transport, timeout=PATIENCE
            ) as client:
                await meet(client, outcomes)

        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            st.tuples(payloads(encoding), st.integers(0, 9).map(lambda n: n == 0)), st.booleans()
        )
        @example((as_bytes(encoding, TO_NOBODY), False), False)
        def test(sent: Sent, first: bool) -> None:
            note(f"{sent!r}, {'instead of Init' if first else 'before each answer'}")
            server.sent, server.first = sent, first
            asyncio.run_coroutine_threadsafe(one(), loop).result(5 * PATIENCE)

        await asyncio.to_thread(test)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    return outcomes


BOTH = pytest.mark.parametrize("encoding", ["json", "cbor"])
WAYS = pytest.mark.parametrize("transport", ["websocket", "sse"])


@BOTH
@WAYS
async def test_no_single_message_ends_a_connection(transport: Any, encoding: str) -> None:
    """C2: nobody knows whose message it was, so another connection begins, with `resync`."""
    async with deceived(transport, encoding) as (client, server):
        told = list[str]()
        connection = client.actor("counter").connect()
        for name in ("disconnected", "reconnected", "resync"):
            connection.on(name, partial(told.append, name))
        server.sent = ((b"[" if encoding == "json" else b"\x81") * 5_000, False)
        with pytest.raises(errors.ConnectionClosed) as lost:
            await connection.actor.call("echo", 1)
        assert lost.value.outcome is errors.Outcome.UNKNOWN
        server.sent = (as_bytes(encoding, TO_NOBODY), False)
        assert await connection.actor.call("echo", 2) == "right"
        assert told == ["disconnected", "reconnected", "resync"]
        await connection.dispose()


def nested(encoding: str, levels: int) -> bytes:
    """A list in a list, and so on: a value that is deeper than anybody reads."""
    if encoding == "json":
        return b"[" * levels + b"]" * levels
    return b"\x81" * (levels - 1) + b"\x80"


def answer_of(encoding: str, number: int, value: bytes) -> bytes:
    if encoding == "json":
        return b'{"b":{"ar":{"i":%d,"o":%b}}}' % (number, value)
    return b"\xa1\x61b\xa1\x62ar\xa2\x61i%b\x61o%b" % (bytes([number]), value)


@BOTH
@WAYS
@pytest.mark.parametrize("levels", [150, 20_000])
async def test_an_answer_that_cannot_be_read_fails_alone(
    transport: Any, encoding: str, levels: int
) -> None:
    """The connection stays, and so do the other calls; each used to end as unknown."""
    async with deceived(transport, encoding) as (client, server):
        told = list[Any]()
        connection = client.actor("counter").connect()
        connection.on("disconnected", partial(told.append, "disconnected"))
        connection.on("error", told.append)
        server.sent = (answer_of(encoding, 0, nested(encoding, levels)), False)
        keyed = connection.actor.with_options(idempotency_key="once")
        bad, good = await asyncio.gather(
            keyed.call("echo", 1), connection.actor.call("echo", 2), return_exceptions=True
        )
        assert good == "right"
        assert isinstance(bad, errors.RequestFailed)
        assert bad.outcome is errors.Outcome.TOOK_EFFECT
        assert "'echo'" in bad.message
        assert told == []
        await connection.dispose()


@BOTH
@WAYS
async def test_an_event_that_cannot_be_read_is_told(transport: Any, encoding: str) -> None:
    async with deceived(transport, encoding) as (client, server):
        told = list[Any]()
        connection = client.actor("counter").connect()
        connection.on("disconnected", partial(told.append, "disconnected"))
        connection.on("error", told.append)
        connection.on("x", told.append)
        stream = connection.events("x")
        value = nested(encoding, 150)
        if encoding == "json":
            event = b'{"b":{"ev":{"n":"x","a":[%b]}}}' % value
        else:
            event = b"\xa1\x61b\xa1\x62ev\xa2\x61n\x61x\x61a\x81" + value
        server.sent = (event, False)
        assert await connection.actor.call("echo", 1) == "right"
        assert [type(error) for error in told] == [UnexpectedValue]
        with pytest.raises(UnexpectedValue, match="cannot be read"):
            await anext(aiter(stream))
        await connection.dispose()


@BOTH
@WAYS
async def test_malformed_messages(
    transport: str, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = await examples(transport, encoding, 30, caplog)
    print(outcomes)
    assert min(outcomes[kind] for kind in ("answered", "ConnectionClosed", "RequestFailed")) > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@BOTH
@WAYS
async def test_many_malformed_messages(
    transport: str, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    print(await examples(transport, encoding, 150, caplog))
