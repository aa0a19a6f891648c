"""Events on connections that are read with `async for`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, cast

import pytest
from client_servers import Counter, Peer, Played, Point, socket_server, three
from client_servers import connection_to_counter as connection

from rivet_ray import errors
from rivet_ray.client import Client, ClientSettings
from rivet_ray.client.backlog import MAX_UNREAD
from rivet_ray.protocol import v0

both_encodings = pytest.mark.parametrize("encoding", ["json", "cbor"])


async def move(peer: Peer, request: v0.ActionRequest) -> None:
    await peer.event("moved", "me", {"x": 1, "y": 2})


@both_encodings
async def test_a_stream_gives_values_and_tuples(encoding: str) -> None:
    async def step(peer: Peer, request: v0.ActionRequest) -> None:
        await three(peer, request)
        await move(peer, request)
        await peer.event("empty")

    played = Played(step)
    async with (
        socket_server(played) as server,
        Client(server.url, encoding=encoding) as client,
        connection(client) as conn,
    ):
        counts, moves = conn.events(Counter.new_count), conn.events(Counter.moved)
        empty = conn.events("empty")
        await conn.actor.increment(1)
        seen: list[int] = []
        async for number in counts:
            seen.append(number)
            if number == 2:
                break
        assert seen == [0, 1, 2]
        async for name, point in moves:
            assert (name, point) == ("me", Point(1, 2))
            break
        async for nothing in empty:
            assert nothing == ()
            break
        await asyncio.sleep(0)
        await conn.actor.increment(1)
    assert sorted(item for item in played.seen if item != "increment") == [
        ("empty", False),
        ("empty", True),
        ("moved", False),
        ("moved", True),
        ("new_count", False),
        ("new_count", True),
    ]


async def test_a_stream_opens_its_connection_and_ends_with_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.init()
        assert await peer.subscription() == ("new_count", True)
        await peer.event("new_count", 1)
        await peer.event("new_count", 2)

    async with socket_server(script) as server, Client(server.url) as client:
        conn = connection(client)
        assert [number async for number in conn.events(Counter.new_count)] == [1, 2]
        assert [number async for number in conn.events(Counter.new_count)] == []


async def test_a_stream_of_a_refused_connection_says_why() -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.close(1011, "forbidden")

    async with socket_server(script) as server, Client(server.url) as client:
        with pytest.raises(errors.Forbidden):
            async for _ in connection(client).events("x"):
                pass


async def test_a_stream_is_bounded() -> None:
    async def step(peer: Peer, request: v0.ActionRequest) -> None:
        for number in range(MAX_UNREAD + 5):
            await peer.event("new_count", number)

    played = Played(step)
    async with (
        socket_server(played) as server,
        Client(server.url) as client,
        connection(client) as conn,
    ):
        stream = conn.events(Counter.new_count)
        await conn.actor.increment(1)
        reader = aiter(stream)
        assert [await anext(reader) for _ in range(MAX_UNREAD)] == [*range(MAX_UNREAD)]
        with pytest.raises(errors.SlowConsumer, match=str(MAX_UNREAD)):
            await anext(reader)
        played.step = None
        await conn.actor.increment(1)
    assert played.seen == [("new_count", True), "increment", ("new_count", False), "increment"]


async def test_a_stream_is_bounded_in_bytes() -> None:
    async def step(peer: Peer, request: v0.ActionRequest) -> None:
        for number in range(20):
            await peer.event("told", number, "x" * 10_000)

    bounds = ClientSettings(max_unread_size=50_000)
    async with (
        socket_server(Played(step)) as server,
        Client(server.url, settings=bounds) as client,
        connection(client) as conn,
    ):
        stream = conn.events("told")
        await conn.actor.increment(1)
        reader = aiter(stream)
        assert [(await anext(reader))[0] for _ in range(4)] == [0, 1, 2, 3]
        with pytest.raises(errors.SlowConsumer, match="50000 bytes"):
            await anext(reader)
        assert conn.dropped_events == 1


async def test_a_stream_can_be_closed() -> None:
    played = Played(three)
    async with (
        socket_server(played) as server,
        Client(server.url) as client,
        connection(client) as conn,
    ):
        async with aclosing(cast("Any", conn.events(Counter.new_count))) as stream:
            await conn.actor.increment(1)
        assert [number async for number in stream] == []
        await conn.actor.increment(1)
    assert played.seen == [("new_count", True), "increment", ("new_count", False), "increment"]


async def test_a_stream_survives_off_but_not_dispose() -> None:
    played = Played(three)
    async with socket_server(played) as server, Client(server.url) as client:
        async with connection(client) as conn:
            stream = conn.events(Counter.new_count)
            conn.off()
            await conn.actor.increment(1)
        assert [number async for number in stream] == [0, 1, 2]
