"""A client whose connections are event streams: against a real server, and a lying one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from rivet_ray import Actor, Client, Event, Registry, Unauthorized, UserError, action, use
from rivet_ray.errors import (
    ActorNotFound,
    ConnectionClosed,
    ConnectionNotFound,
    Forbidden,
    MessageTooLong,
    Outcome,
    RequestFailed,
)
from rivet_ray.gateway import create_app
from rivet_ray.gateway.server import Server, bind, uvicorn_config
from rivet_ray.runtime import Standalone

PATIENCE = 5.0


@dataclass
class State:
    count: int = 0
    left: list[str] = field(default_factory=list[str])


class Counter(Actor[State, None, str | None]):
    public = True
    anonymous_keys = True
    counted = Event[int]()

    def on_disconnect(self, conn: Any) -> None:
        self.state.left.append(conn.id)

    @action
    def increment(self, by: int = 1) -> int:
        self.state.count += by
        self.broadcast(Counter.counted, self.state.count)
        return self.state.count

    @action
    def who(self) -> str | None:
        return self.conn.params

    @action
    def left(self) -> list[str]:
        return self.state.left

    @action
    def fail(self) -> None:
        raise UserError("As you wish.", code="wished", metadata=[1])

    @action
    def text(self, text: str) -> int:
        return len(text)

    @action
    async def slow(self) -> str:
        await asyncio.sleep(0.2)
        return "slow"

    @action
    async def bye(self) -> None:
        for conn in self.conns:
            await conn.disconnect("bye")


class Guarded(Actor[State, None, Any]):
    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        if params != "good":
            raise Unauthorized("Who are you?")


class Private(Actor[State]):
    pass


class App(Registry):
    counter = use(Counter)
    guarded = use(Guarded)
    private = use(Private)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    with bind("127.0.0.1", 0) as listener:
        app = create_app(Standalone(App.definitions()))
        server = Server(uvicorn_config(app, "127.0.0.1", listener.getsockname()[1]))
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        await eventually(lambda: server.started)
        yield server
        server.should_exit = True
        await serving


@pytest.fixture(params=["json", "cbor"])
async def app(server: Server, request: pytest.FixtureRequest) -> AsyncIterator[App]:
    url = f"http://127.0.0.1:{server.config.port}"
    async with App.client(url, encoding=request.param, timeout=PATIENCE, transport="sse") as app:
        yield app


async def eventually(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            found = condition()
            if (await found) if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.005)


# --- A real server ----------------------------------------------------------------


async def test_actions_and_events(app: App) -> None:
    seen: list[int] = []
    connection = app.counter.get_or_create("k").connect(params="ann")
    connection.on(Counter.counted, seen.append)
    async with connection as open_:
        assert await open_.actor.who() == "ann"
        assert await asyncio.gather(*(open_.actor.increment() for _ in range(50))) == list(
            range(1, 51)
        )
        await eventually(lambda: len(seen) == 50)
        assert seen == list(range(1, 51))
        connection.off(Counter.counted)
        assert await open_.actor.increment(5) == 55
        assert len(seen) == 50


async def test_answers_come_when_they_are_ready(app: App) -> None:
    async with app.counter.get_or_create("k").connect() as connection:
        slow = asyncio.ensure_future(connection.actor.slow())
        assert await connection.actor.increment() == 1
        assert not slow.done()
        assert await slow == "slow"


async def test_a_stream_of_events(app: App) -> None:
    async with app.counter.get_or_create("k").connect() as connection:
        events = connection.events(Counter.counted)
        await connection.actor.who()
        await app.counter.get("k").increment()
        async for count in events:
            assert count == 1
            break


async def test_errors_of_actions(app: App) -> None:
    async with app.counter.get_or_create("k").connect() as connection:
        with pytest.raises(UserError, match="As you wish") as caught:
            await connection.actor.fail()
        assert (caught.value.code, caught.value.metadata) == ("wished", [1])
        assert caught.value.outcome is Outcome.TOOK_EFFECT
        with pytest.raises(MessageTooLong) as too_long:
            await connection.actor.text("x" * 70_000)
        assert too_long.value.outcome is Outcome.NOT_STARTED
        assert await connection.actor.text("x" * 60_000) == 60_000, "the connection goes on"


async def test_an_idempotency_key(app: App) -> None:
    async with app.counter.get_or_create("k").connect() as connection:
        once = connection.actor.with_options(idempotency_key="once")
        assert [await once.increment() for _ in range(3)] == [1, 1, 1]


async def test_refusals(app: App) -> None:
    with pytest.raises(Unauthorized, match="Who are you"):
        await app.guarded.get_or_create("k").connect(params="bad")
    async with app.guarded.get_or_create("k").connect(params="good"):
        pass
    with pytest.raises(Forbidden):
        await app.private.get_or_create("k").connect()
    with pytest.raises(ActorNotFound):
        await app.counter.get("missing").connect()


async def test_leaving_is_noticed(app: App) -> None:
    async with app.counter.get_or_create("k").connect() as connection:
        identity = connection.connection_id
        assert await app.counter.get("k").left() == []

    async def left() -> bool:
        return identity in await app.counter.get("k").left()

    await eventually(left)


async def test_the_end_says_why(app: App) -> None:
    ended = asyncio.Event()
    connection = app.counter.get_or_create("k").connect()
    connection.on("disconnected", ended.set)
    async with connection as open_:
        await app.counter.get("k").bye()
        await asyncio.wait_for(ended.wait(), PATIENCE)
        with pytest.raises(ConnectionClosed, match="1000 bye") as caught:
            await open_.actor.increment()
        assert caught.value.outcome is Outcome.NOT_STARTED


async def test_a_server_that_stops_says_so(server: Server) -> None:
    """In less than the time that uvicorn gives to connections."""
    url = f"http://127.0.0.1:{server.config.port}"
    async with (
        App.client(url, transport="sse", reconnect=False) as app,
        app.counter.get_or_create("k").connect() as connection,
    ):
        ended = asyncio.Event()
        connection.on("disconnected", ended.set)
        server.should_exit = True
        await asyncio.wait_for(ended.wait(), PATIENCE)
        with pytest.raises(ConnectionClosed, match="1012 server_stopping"):
            await connection.actor.increment()


async def test_no_server() -> None:
    with bind("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with Client(url, transport="sse") as client:
        with pytest.raises(RequestFailed, match="rivet-ray dev") as caught:
            await client.actor("counter").connect()
        assert caught.value.outcome is Outcome.NOT_STARTED


def test_a_transport_that_is_none() -> None:
    with pytest.raises(ValueError, match="auto, websocket, sse"):
        Client(transport="pigeon")  # type: ignore[arg-type]


# --- Where no WebSocket can be opened -----------------------------------------------


@asynccontextmanager
async def proxy(server: Server, upgrade: bytes) -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that answers every upgrade with `upgrade`; and the requests that it saw."""
    seen: list[str] = []
    writers: list[asyncio.StreamWriter] = []
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.decode().partition(" HTTP")[0])
        if b"upgrade: websocket" in head.lower():
            writer.write(upgrade)
            writer.close()
            return
        back, forth = await asyncio.open_connection("127.0.0.1", server.config.port)
        writers.append(forth)
        forth.write(head)
        for pair in ((reader, forth), (back, writer)):
            task = asyncio.ensure_future(pump(*pair))
            tasks.add(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", seen
    finally:
        for writer in writers:
            writer.close()
        await asyncio.gather(*tasks)
        for writer in writers:
            with suppress(ConnectionError):
                await writer.wait_closed()
        listener.close()
        await listener.wait_closed()


@pytest.mark.parametrize("upgrade", [b"", b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"])
async def test_it_falls_back_to_an_event_stream(server: Server, upgrade: bytes) -> None:
    seen: list[int] = []
    async with (
        proxy(server, upgrade) as (url, requests),
        App.client(url, timeout=PATIENCE, transport="auto") as app,
    ):
        connection = app.counter.get_or_create("k").connect()
        connection.on(Counter.counted, seen.append)
        async with connection as open_:
            assert await open_.actor.increment() == 1
            await eventually(lambda: seen == [1])
        assert requests[:2] == [
            "GET /registry/actors/connect/websocket",
            "GET /registry/actors/connect/sse",
        ]


async def test_it_uses_the_websocket_where_it_can(server: Server) -> None:
    url = f"http://127.0.0.1:{server.config.port}"
    async with App.client(url, timeout=PATIENCE, transport="auto") as app:
        connection = app.counter.get_or_create("k").connect()
        async with connection as open_:
            assert await open_.actor.increment() == 1
        with pytest.raises(Forbidden):
            await app.private.get_or_create("k").connect()


async def test_where_neither_opens_the_first_failure_is_told() -> None:
    with bind("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with Client(url, transport="auto") as client:
        with pytest.raises(RequestFailed, match="actors/connect/websocket"):
            await client.actor("counter").connect()


# --- A server that does as the test says --------------------------------------------

INIT = b'data: {"b":{"i":{"ai":"actor","ci":"conn","ct":"token"}}}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Script:
    """What the server says on the stream, and how it answers what is posted."""

    def __init__(self) -> None:
        self.posted: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[bytes], Awaitable[bytes]] = _take
        self.head = HEAD
        self.stream: asyncio.StreamWriter | None = None
        self.opened = asyncio.Event()
        self.url = ""
        self.writers: list[asyncio.StreamWriter] = []

    async def say(self, data: bytes) -> None:
        await asyncio.wait_for(self.opened.wait(), PATIENCE)
        assert self.stream is not None
        self.stream.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        assert self.stream is not None
        self.stream.write(b"0\r\n\r\n")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.split("\r\n")[:-2]
                headers = {
                    name.lower(): value for name, _, value in (i.partition(": ") for i in lines)
                }
                if first.startswith("GET"):
                    self.stream = writer
                    writer.write(self.head)
                    self.opened.set()
                    continue
                body = await reader.readexactly(int(headers["content-length"]))
                self.posted.append((headers, body))
                writer.write(await self.answer(body))
        except (asyncio.IncompleteReadError, ConnectionError):
            return


async def _take(body: bytes) -> bytes:
    return _http(200, b"{}")


def _http(status: int, body: bytes, *more: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d X" % status, b"Content-Type: application/json", *more]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


@asynccontextmanager
async def scripted() -> AsyncIterator[tuple[Script, Client]]:
    script = Script()
    listener = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    options: dict[str, Any] = {"encoding": "json", "timeout": PATIENCE, "transport": "sse"}
    async with Client(script.url, reconnect=False, **options) as client:
        yield script, client
    for writer in script.writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    listener.close()
    await listener.wait_closed()


async def test_the_stream_may_come_in_any_pieces() -> None:
    """Comments, other line ends, several data lines, bytes one by one."""
    async with scripted() as (script, client):
        connection = client.actor("counter").connect()
        seen: list[Any] = []
        connection.on("e", seen.append)
        opening = asyncio.ensure_future(connection._open())
        await script.say(b": hello\n\n" + INIT[:20])
        await script.say(INIT[20:])
        await opening
        event = b"event: later\ndata: ?\n\n: c\r\n"
        event += b'data: {"b":{"ev":\r\ndata: {"n":"e","a":[1]}}}\r\n\r\n'
        for at in range(len(event)):
            await script.say(event[at : at + 1])
        await eventually(lambda: seen == [1])
        await connection.dispose()


async def test_what_is_posted() -> None:
    async with scripted() as (script, client):
        opening = asyncio.ensure_future(client.actor("counter").connect()._open())
        await script.say(INIT)
        connection = await opening
        connection.on("e", print)
        calling = asyncio.ensure_future(connection.actor.call("increment", 5))
        await eventually(lambda: len(script.posted) == 2)
        assert [body for _, body in script.posted] == [
            b'{"b":{"sr":{"e":"e","s":true}}}',
            b'{"b":{"ar":{"i":0,"n":"increment","a":[5]}}}',
        ]
        headers = script.posted[0][0]
        assert headers["x-rivetkit-actor"] == "actor"
        assert headers["x-rivetkit-conn"] == "conn"
        assert headers["x-rivetkit-conn-token"] == "token"
        assert headers["x-rivetkit-encoding"] == "json"
        assert "x-rivetkit-query" not in headers
        await script.say(b'data: {"b":{"ar":{"i":0,"o":7}}}\n\n')
        assert await calling == 7
        await connection.dispose()


async def test_an_action_that_is_not_taken_fails_alone() -> None:
    async with scripted() as (script, client):
        opening = asyncio.ensure_future(client.actor("counter").connect()._open())
        await script.say(INIT)
        connection = await opening

        async def refuse(body: bytes) -> bytes:
            return _http(
                400, b'{"c":"conn_not_found","m":"Gone."}', b"X-RivetKit-Outcome: not_started"
            )

        script.answer = refuse
        with pytest.raises(ConnectionNotFound) as caught:
            await connection.actor.call("increment")
        assert caught.value.outcome is Outcome.NOT_STARTED

        async def lost(body: bytes) -> bytes:
            return _http(
                503, b'{"c":"connection_closed","m":"Lost."}', b"X-RivetKit-Outcome: unknown"
            )

        script.answer = lost
        with pytest.raises(ConnectionClosed) as closed:
            await connection.actor.call("increment")
        assert closed.value.outcome is Outcome.UNKNOWN
        script.answer = _take
        calling = asyncio.ensure_future(connection.actor.call("increment"))
        await script.say(b'data: {"b":{"ar":{"i":2,"o":7}}}\n\n')
        assert await calling == 7
        await connection.dispose()


async def test_a_subscription_that_is_not_taken_ends_the_connection() -> None:
    """Never silence: events would be missing without a word (C5)."""
    async with scripted() as (script, client):
        opening = asyncio.ensure_future(client.actor("counter").connect()._open())
        await script.say(INIT)
        connection = await opening
        ended = asyncio.Event()
        connection.on("disconnected", ended.set)

        async def refuse(body: bytes) -> bytes:
            return _http(503, b'{"c":"overloaded","m":"Later."}')

        script.answer = refuse
        connection.on("e", print)
        await asyncio.wait_for(ended.wait(), PATIENCE)
        with pytest.raises(ConnectionClosed, match="subscription was not taken"):
            await connection.actor.call("increment")
        await connection.dispose()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"data: nonsense\n\n", "1012"),
        (b"event: close\ndata: nonsense\n\n", "1012"),
        (b'event: close\ndata: {"code":1012,"reason":"resync"}\n\n', "1012 resync"),
        (b"", "1006"),
    ],
)
async def test_how_it_ends(said: bytes, why: str) -> None:
    async with scripted() as (script, client):
        opening = asyncio.ensure_future(client.actor("counter").connect()._open())
        await script.say(INIT)
        connection = await opening
        calling = asyncio.ensure_future(connection.actor.call("increment"))
        await eventually(lambda: len(script.posted) == 1)
        if said:
            await script.say(said)
        else:
            script.end()
        with pytest.raises(ConnectionClosed, match=why) as caught:
            await calling
        assert caught.value.outcome is Outcome.UNKNOWN
        await connection.dispose()


@pytest.mark.parametrize(
    ("head", "said", "error"),
    [
        (HEAD, b"event: error\ndata: forbidden\n\n", Forbidden),
        (HEAD, b'data: {"b":{"e":{"c":"forbidden","m":"No."}}}\n\n', Forbidden),
        (HEAD, b'data: {"b":{"ar":{"i":0}}}\n\n', RequestFailed),
        (HEAD, b"data: nonsense\n\n", RequestFailed),
        (HEAD, None, RequestFailed),
        (_http(403, b'{"c":"forbidden","m":"No."}'), None, Forbidden),
        (_http(200, b"{}"), None, RequestFailed),
        (_http(404, b"Not Found"), None, RequestFailed),
    ],
)
async def test_no_init(head: bytes, said: bytes | None, error: type[Exception]) -> None:
    async with scripted() as (script, client):
        script.head = head
        opening = asyncio.ensure_future(client.actor("counter").connect()._open())
        if said is not None:
            await script.say(said)
        elif head is HEAD:
            await script.opened.wait()
            script.end()
        with pytest.raises(error):
            await opening
