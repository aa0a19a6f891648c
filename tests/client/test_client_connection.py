"""Calls on connections, and what is known of them when the connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from client_servers import Counter, Peer, Point, echo, socket_server

from rivet_ray import errors
from rivet_ray.client import ActorConnection, Client, ClientSettings
from rivet_ray.client.transport import Closing
from rivet_ray.errors import Outcome
from rivet_ray.protocol import v0, values
from rivet_ray.protocol.subprotocols import Resume

both_encodings = pytest.mark.parametrize("encoding", ["json", "cbor"])


def counter(client: Client, **options: Any) -> Counter:
    return client.accessor("counter", Counter).get_or_create("k", **options)


# --- Calls ------------------------------------------------------------------------------


@both_encodings
async def test_answers_may_come_in_any_order(encoding: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.init()
        requests = [await peer.action() for _ in range(3)]
        assert [request.id for request in requests] == [0, 1, 2]
        for request in reversed(requests):
            await peer.answer(request, values.decode(request.arguments)[0] * 10)
        await peer.socket.wait_closed()

    async with (
        socket_server(script) as server,
        Client(server.url, encoding=encoding) as client,
        counter(client).connect() as conn,
    ):
        answers = await asyncio.gather(*(conn.actor.increment(n) for n in (1, 2, 3)))
    assert answers == [10, 20, 30]


@both_encodings
async def test_an_error_on_action_0_rejects_that_action_only(encoding: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.init()
        first, second = await peer.action(), await peer.action()
        assert first.id == 0
        await peer.send(
            v0.ErrorMessage(
                "action_not_found", "No.", action_id=0, outcome=Outcome.NOT_STARTED.value
            )
        )
        await peer.answer(second, 2)
        third = await peer.action()
        await peer.send(v0.ErrorMessage("internal_error", "Hidden.", action_id=third.id))
        await peer.socket.wait_closed()

    errors_seen: list[errors.RivetError] = []
    async with (
        socket_server(script) as server,
        Client(server.url, encoding=encoding) as client,
        counter(client).connect() as conn,
    ):
        conn.on("error", errors_seen.append)
        first, second = await asyncio.gather(
            conn.actor.increment(1), conn.actor.increment(2), return_exceptions=True
        )
        assert isinstance(first, errors.ActionNotFound)
        assert first.outcome is Outcome.NOT_STARTED
        assert second == 2
        with pytest.raises(errors.InternalError) as caught:
            await conn.actor.increment(3)
        assert caught.value.outcome is Outcome.UNKNOWN
    assert not errors_seen


async def test_an_error_without_action_is_the_connections() -> None:
    async def script(peer: Peer) -> None:
        await peer.init()
        request = await peer.action()
        await peer.send(v0.ErrorMessage("slow_consumer", "Too slow."))
        await peer.answer(request, 1)
        await peer.socket.wait_closed()

    seen: list[errors.RivetError] = []
    async with (
        socket_server(script) as server,
        Client(server.url) as client,
        counter(client).connect() as conn,
    ):
        conn.on("error", seen.append)
        assert await conn.actor.increment(1) == 1
    assert [type(error) for error in seen] == [errors.SlowConsumer]


async def test_a_call_that_nobody_answers_times_out_as_unknown() -> None:
    async def script(peer: Peer) -> None:
        await peer.init()
        await peer.socket.wait_closed()

    async with (
        socket_server(script) as server,
        Client(server.url, timeout=0.2) as client,
        counter(client).connect() as conn,
    ):
        with pytest.raises(errors.ActionTimedOut) as caught:
            await conn.actor.increment(1)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_cancelled_call_is_forgotten() -> None:
    requests: list[v0.ActionRequest] = []

    async def script(peer: Peer) -> None:
        await peer.init()
        requests.append(await peer.action())
        requests.append(await peer.action())
        for request in requests:
            await peer.answer(request, request.id)
        await peer.socket.wait_closed()

    async with (
        socket_server(script) as server,
        Client(server.url) as client,
        counter(client).connect() as conn,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await conn.actor.increment(1)
        assert await conn.actor.increment(2) == 1


async def test_a_call_cancelled_while_opening_is_never_sent() -> None:
    opened = asyncio.Event()

    async def script(peer: Peer) -> None:
        await opened.wait()
        await echo(peer)

    async with socket_server(script) as server, Client(server.url) as client:
        conn = counter(client).connect()
        calls = [asyncio.ensure_future(conn.actor.increment(n)) for n in (1, 2)]
        await asyncio.sleep(0)
        calls[0].cancel()
        opened.set()
        assert await calls[1] == 2


async def test_a_value_without_a_wire_form_fails_its_call_only() -> None:
    async with (
        socket_server(echo) as server,
        Client(server.url) as client,
        client.actor("counter").connect() as conn,
    ):
        with pytest.raises(ValueError, match="NaN"):
            await conn.actor.call("increment", float("nan"))
        assert await conn.actor.call("increment", 1.5) == 1.5


# --- The end ---------------------------------------------------------------------------


async def test_calls_in_flight_are_unknown_when_the_socket_closes() -> None:
    async def script(peer: Peer) -> None:
        await peer.init()
        await peer.action()
        await peer.action()
        await peer.socket.close(1011, "internal_error")

    seen: list[str] = []
    async with socket_server(script) as server, Client(server.url, reconnect=False) as client:
        conn = counter(client).connect()
        conn.on("connected", lambda: seen.append("connected"))
        conn.on("disconnected", lambda: seen.append("disconnected"))
        failures = await asyncio.gather(
            conn.actor.increment(1), conn.actor.increment(2), return_exceptions=True
        )
        for failure in failures:
            assert isinstance(failure, errors.ConnectionClosed)
            assert failure.outcome is Outcome.UNKNOWN
            assert "1011 internal_error" in failure.message
        with pytest.raises(errors.ConnectionClosed) as caught:
            await conn.actor.increment(3)
        assert caught.value.outcome is Outcome.NOT_STARTED
        assert seen == ["connected", "disconnected"]
        await conn.dispose()
    assert seen == ["connected", "disconnected"]


async def test_a_socket_that_breaks_is_an_end_too() -> None:
    async def script(peer: Peer) -> None:
        await peer.init()
        await peer.action()
        peer.socket.transport.abort()

    async with (
        socket_server(script) as server,
        Client(server.url) as client,
        counter(client).connect() as conn,
    ):
        with pytest.raises(errors.ConnectionClosed, match="1006") as caught:
            await conn.actor.increment(1)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_message_that_cannot_be_read_is_an_end_too() -> None:
    async def script(peer: Peer) -> None:
        await peer.init()
        await peer.action()
        await peer.socket.send(b"\xff" if peer.encoding.binary else "?")
        await peer.socket.wait_closed()

    async with (
        socket_server(script) as server,
        Client(server.url) as client,
        counter(client).connect() as conn,
    ):
        with pytest.raises(errors.ConnectionClosed, match="1012"):
            await conn.actor.increment(1)
    assert server.peers[0].socket.close_code == 1002


async def test_dispose_fails_what_is_under_way() -> None:
    reached = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.init()
        await peer.action()
        reached.set()
        await peer.socket.wait_closed()

    async with socket_server(script) as server, Client(server.url) as client:
        async with counter(client).connect() as conn:
            calling = asyncio.ensure_future(conn.actor.increment(1))
            await reached.wait()
        with pytest.raises(errors.ConnectionClosed) as caught:
            await calling
        assert caught.value.outcome is Outcome.UNKNOWN


async def test_results_are_typed() -> None:
    async def script(peer: Peer) -> None:
        await peer.init()
        for _ in range(2):
            await peer.answer(await peer.action(), {"x": 1, "y": 2})
        await peer.send(v0.ActionResponse((await peer.action()).id, None))
        await peer.socket.wait_closed()

    async with socket_server(script) as server, Client(server.url) as client:
        async with counter(client).connect() as conn:
            assert await conn.actor.where("me") == Point(1, 2)
        async with client.actor("counter").connect() as untyped:
            assert await untyped.actor.call(Counter.where, "me") == Point(1, 2)
            assert await untyped.actor.call("whereIs", "me") == {"x": 1, "y": 2}
            assert await untyped.actor.call("reset") is None


# --- On a transport of another kind --------------------------------------------------------


class Sink:
    """A connection that opens when it may, and on which nothing can be sent any more."""

    closing = Closing(1001, "going away")

    def __init__(self) -> None:
        self.may_open = asyncio.Event()
        self.refused: list[v0.ToServer] = []
        self.ended = asyncio.Event()

    async def open(self) -> v0.Init:
        await self.may_open.wait()
        return v0.Init("actor-1", "conn-1", "token-1")

    async def send(self, message: v0.ToServer) -> None:
        self.refused.append(message)
        self.ended.set()
        raise errors.ConnectionClosed("Gone.", outcome=Outcome.NOT_STARTED)

    def __aiter__(self) -> AsyncIterator[v0.ToClient]:
        return self

    async def __anext__(self) -> v0.ToClient:
        await self.ended.wait()
        raise StopAsyncIteration

    async def leave(self) -> None:
        """Nobody is told."""

    async def close(self) -> None:
        self.ended.set()


def connection(sink: Sink) -> ActorConnection[Any]:
    async def dial(resume: Resume) -> Sink:
        return sink

    return ActorConnection[Any](
        dial,
        None,
        "counter",
        timeout=3,
        reconnect=False,
        settings=ClientSettings(max_waiting_size=3_500),
        started=lambda _: None,
        ended=lambda _: None,
    )


async def test_what_could_not_be_handed_over_never_started() -> None:
    sink = Sink()
    sink.may_open.set()
    conn = connection(sink)
    failures = await asyncio.gather(
        conn.actor.call("increment"), conn.actor.call("increment"), return_exceptions=True
    )
    for failure in failures:
        assert isinstance(failure, errors.ConnectionClosed)
        assert failure.outcome is Outcome.NOT_STARTED
        assert "1001 going away" in failure.message
    assert len(sink.refused) == 1


async def test_calls_that_wait_are_bounded_in_bytes() -> None:
    """Item 5 of the bounds: they were counted, 16,384 of any size."""
    conn = connection(Sink())
    waiting = [asyncio.ensure_future(conn.actor.call("x", "a" * 500)) for _ in range(3)]
    waiting[0].cancel()
    await asyncio.sleep(0)
    with pytest.raises(errors.Overloaded, match="max_waiting_size") as caught:
        await conn.actor.call("x", "a" * 500)
    assert caught.value.outcome is Outcome.NOT_STARTED
    assert conn.refused_calls == 1
    await conn.dispose()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_one_call_alone_may_be_longer_than_the_bound() -> None:
    sink = Sink()
    sink.may_open.set()
    conn = connection(sink)
    with pytest.raises(errors.ConnectionClosed):
        await conn.actor.call("x", "a" * 50_000)
    assert conn.refused_calls == 0
