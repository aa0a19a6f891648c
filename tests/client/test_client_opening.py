"""Connections: how they open, are refused and are disposed of."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from client_servers import Counter, Peer, echo, socket_server

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
    async with (
        socket_server(echo) as server,
        Client(server.url, encoding=encoding) as client,
        counter(client).connect() as conn,
    ):
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
        handle = client.actor("counter", "Zähler (😀), 1", params={"name": "ä"})
        await handle.connect()
        await handle.connect(params={"name": 'ü"'})
    assert [json.loads(peer.asked.params or "") for peer in server.peers] == [
        {"name": "ä"},
        {"name": 'ü"'},
    ]
    query = decode_query(server.peers[0].asked.query or "")
    assert query == GetOrCreate("counter", ["Zähler (😀), 1"])


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
    async with (
        socket_server(echo) as server,
        Client(server.url) as client,
        counter(client).connect() as conn,
    ):
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
