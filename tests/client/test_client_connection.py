"""Connections: calls, subscriptions, and what is known when they end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from client_servers import Counter, Peer, Point, echo, socket_server

from rivet_ray import errors
from rivet_ray.client import Client
from rivet_ray.errors import Outcome
from rivet_ray.protocol import v0, values
from rivet_ray.protocol.queries import GetOrCreate, decode_query

both_encodings = pytest.mark.parametrize("encoding", ["json", "cbor"])


def counter(client: Client, **options: Any) -> Counter:
    return client.accessor("counter", Counter).get_or_create("k", **options)


# --- Opening -----------------------------------------------------------------------


@both_encodings
async def test_a_connection_carries_actions(encoding: str) -> None:
    async with socket_server(echo) as server, Client(server.url, encoding=encoding) as client:
        async with counter(client).connect() as conn:
            assert await conn.actor.increment(5) == 5
            assert (conn.actor_id, conn.connection_id) == ("actor-1", "conn-1")
            assert await conn.actor.resolve() == "actor-1"
    (peer,) = server.peers
    assert peer.path == "/registry/actors/connect/websocket"
    assert peer.asked.encoding == encoding
    assert peer.asked.params is None
    assert decode_query(peer.asked.query or "") == GetOrCreate("counter", ["k"])
    assert peer.headers["User-Agent"].startswith("rivet_ray/")
    assert "Sec-WebSocket-Extensions" not in peer.headers
    assert peer.socket.close_code == 1000


async def test_keys_and_params_beyond_ascii_survive_subprotocols() -> None:
    async with socket_server(echo) as server, Client(server.url) as client:
        handle = client.actor("counter", "Zähler 😀, 1", params={"name": "ä"})
        await handle.connect()
        await handle.connect(params={"name": 'ü"'})
    assert [json.loads(peer.asked.params or "") for peer in server.peers] == [
        {"name": "ä"},
        {"name": 'ü"'},
    ]
    query = decode_query(server.peers[0].asked.query or "")
    assert query == GetOrCreate("counter", ["Zähler 😀, 1"])


async def test_await_opens_and_dispose_closes() -> None:
    async with socket_server(echo) as server, Client(server.url) as client:
        conn = counter(client).connect()
        with pytest.raises(RuntimeError, match="not open yet"):
            _ = conn.actor_id
        assert repr(conn) == '<connection to counter ["k"]>'
        opened = await conn
        assert opened is conn
        assert await conn is conn
        await asyncio.gather(conn.dispose(), conn.dispose())
        await conn.dispose()
        with pytest.raises(errors.ConnectionClosed):
            await conn
        await server.peers[0].socket.wait_closed()
        assert len(server.peers) == 1


async def test_the_first_action_opens() -> None:
    async with socket_server(echo) as server, Client(server.url) as client:
        conn = counter(client).connect()
        assert await asyncio.gather(*(conn.actor.increment(n) for n in range(9))) == [*range(9)]
        assert len(server.peers) == 1


async def test_a_client_closes_the_connections_it_opened() -> None:
    async with socket_server(echo) as server:
        async with Client(server.url) as client:
            conn = counter(client).connect()
            await conn.actor.increment(1)
        assert server.peers[0].socket.close_code == 1000
        with pytest.raises(errors.ConnectionClosed) as caught:
            await conn.actor.increment(1)
        assert caught.value.outcome is Outcome.NOT_STARTED


async def test_dispose_before_anything_opens_nothing() -> None:
    async with socket_server(echo) as server, Client(server.url) as client:
        conn = counter(client).connect()
        await conn.dispose()
        with pytest.raises(errors.ConnectionClosed):
            await conn.actor.increment(1)
        other = counter(client).connect()
        calling = asyncio.ensure_future(other.actor.increment(1))
        await asyncio.sleep(0)
        await other.dispose()
        with pytest.raises(errors.ConnectionClosed) as caught:
            await calling
        assert caught.value.outcome is Outcome.NOT_STARTED
        assert not server.peers


async def test_dispose_while_opening_leaves_nothing_open() -> None:
    reached = asyncio.Event()

    async def script(peer: Peer) -> None:
        reached.set()
        await peer.socket.wait_closed()

    async with socket_server(script) as server, Client(server.url) as client:
        conn = counter(client).connect()
        calling = asyncio.ensure_future(conn.actor.increment(1))
        await reached.wait()
        await conn.dispose()
        with pytest.raises(errors.ConnectionClosed) as caught:
            await calling
        assert caught.value.outcome is Outcome.NOT_STARTED


async def test_conn_actor_does_not_connect_again() -> None:
    async with socket_server(echo) as server, Client(server.url) as client:
        async with counter(client).connect() as conn:
            with pytest.raises(AttributeError, match="connected already"):
                conn.actor.connect()


# --- Refusals ------------------------------------------------------------------------


@both_encodings
async def test_a_refusal_is_rebuilt_for_all_who_wait(encoding: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(v0.ErrorMessage("too_poor", "Pay first.", values.encode({"due": 3})))
        await peer.socket.close(1011, "too_poor")

    seen: list[Any] = []
    async with socket_server(script) as server, Client(server.url, encoding=encoding) as client:
        conn = counter(client).connect()
        conn.on("error", seen.append)
        conn.on("disconnected", lambda: seen.append("disconnected"))
        calling = asyncio.ensure_future(conn.actor.increment(1))
        for _ in range(2):
            with pytest.raises(errors.UserError, match=r"Pay first\.") as caught:
                await conn
            assert (caught.value.code, caught.value.metadata) == ("too_poor", {"due": 3})
        with pytest.raises(errors.UserError) as failed:
            await calling
        assert failed.value.outcome is Outcome.NOT_STARTED
        with pytest.raises(errors.UserError):
            await conn.actor.increment(1)
    assert [getattr(error, "code", error) for error in seen] == ["too_poor"]


async def test_a_close_before_init_carries_its_code() -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.close(1011, "forbidden")

    async with socket_server(script) as server, Client(server.url) as client:
        with pytest.raises(errors.Forbidden):
            await counter(client).connect()


async def test_a_close_without_a_code_is_no_server_of_ours() -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.close(1000)

    async with socket_server(script) as server, Client(server.url) as client:
        with pytest.raises(errors.RequestFailed, match="1000"):
            await counter(client).connect()


async def test_nobody_listening_never_started() -> None:
    async with socket_server(echo) as server:
        url = server.url
    async with Client(url) as client:
        conn = counter(client).connect()
        with pytest.raises(errors.RequestFailed, match="rivet-ray dev") as caught:
            await conn.actor.increment(1)
        assert caught.value.outcome is Outcome.NOT_STARTED
        with pytest.raises(errors.RequestFailed):
            async with counter(client).connect():
                pass


async def test_no_init_in_time_never_started() -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.wait_closed()

    async with socket_server(script) as server, Client(server.url, timeout=0.1) as client:
        with pytest.raises(errors.RequestFailed, match=r"0\.1 s") as caught:
            await counter(client).connect()
        assert caught.value.outcome is Outcome.NOT_STARTED


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

    async with socket_server(script) as server, Client(server.url, encoding=encoding) as client:
        async with counter(client).connect() as conn:
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
    async with socket_server(script) as server, Client(server.url, encoding=encoding) as client:
        async with counter(client).connect() as conn:
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
    async with socket_server(script) as server, Client(server.url) as client:
        async with counter(client).connect() as conn:
            conn.on("error", seen.append)
            assert await conn.actor.increment(1) == 1
    assert [type(error) for error in seen] == [errors.SlowConsumer]


async def test_a_call_that_nobody_answers_times_out_as_unknown() -> None:
    async def script(peer: Peer) -> None:
        await peer.init()
        await peer.socket.wait_closed()

    async with socket_server(script) as server, Client(server.url, timeout=0.2) as client:
        async with counter(client).connect() as conn:
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

    async with socket_server(script) as server, Client(server.url) as client:
        async with counter(client).connect() as conn:
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
    async with socket_server(echo) as server, Client(server.url) as client:
        async with client.actor("counter").connect() as conn:
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
    async with socket_server(script) as server, Client(server.url) as client:
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

    async with socket_server(script) as server, Client(server.url) as client:
        async with counter(client).connect() as conn:
            with pytest.raises(errors.ConnectionClosed, match="1006") as caught:
                await conn.actor.increment(1)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_message_that_cannot_be_read_is_an_end_too() -> None:
    async def script(peer: Peer) -> None:
        await peer.init()
        await peer.action()
        await peer.socket.send(b"\xff" if peer.encoding.binary else "?")
        await peer.socket.wait_closed()

    async with socket_server(script) as server, Client(server.url) as client:
        async with counter(client).connect() as conn:
            with pytest.raises(errors.ConnectionClosed, match="1002"):
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
