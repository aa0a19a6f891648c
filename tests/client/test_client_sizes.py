"""A message that is too long fails alone, whatever carries it and whatever the limit is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from client_servers import Peer, socket_server
from client_worlds import PATIENCE, WAYS, eventually, world

from rivet_ray import Actor, Outcome, Registry, action, use
from rivet_ray.client import Client, ClientSettings
from rivet_ray.errors import ConnectionClosed, MessageTooLong, Overloaded, RivetError
from rivet_ray.gateway import GatewaySettings
from rivet_ray.protocol import v0

ENCODINGS = pytest.mark.parametrize("encoding", ["json", "cbor"])


class Store(Actor[list[int]]):
    public = True
    anonymous_keys = True

    def create_state(self, input: Any) -> list[int]:
        return []

    @action
    async def take(self, text: str) -> int:
        await asyncio.sleep(0.1)
        self.state.append(len(text))
        return len(text)

    @action
    def taken(self) -> list[int]:
        return self.state


class App(Registry):
    store = use(Store)


@WAYS
@ENCODINGS
@pytest.mark.parametrize("limit", [65_536, 2_000])
async def test_only_the_call_that_is_too_long_fails(
    transport: Any, encoding: str, limit: int
) -> None:
    settings = GatewaySettings(max_incoming_message_size=limit)
    async with (
        world(App, gateway=settings) as (road, _),
        App.client(road.url, transport=transport, encoding=encoding, timeout=PATIENCE) as client,
        client.store.get_or_create("k").connect() as connection,
    ):
        life: list[Any] = []
        connection.on("disconnected", lambda: life.append("disconnected"))
        connection.on("error", life.append)
        answers = await asyncio.gather(
            connection.actor.take("a" * (limit - 100)),
            connection.actor.take("a" * (limit + 5_000)),
            connection.actor.take("abc"),
            return_exceptions=True,
        )
        assert (answers[0], answers[2]) == (limit - 100, 3)
        assert isinstance(answers[1], MessageTooLong)
        assert answers[1].outcome is Outcome.NOT_STARTED
        assert await connection.actor.taken() == [limit - 100, 3]
        assert not life


async def test_characters_count_where_frames_are_text() -> None:
    async with (
        world(App) as (road, _),
        App.client(road.url, encoding="json", timeout=PATIENCE) as client,
        client.store.get_or_create("k").connect() as connection,
    ):
        assert await connection.actor.take("ü" * 65_000) == 65_000
        # As the server counts them, which would close the connection.
        with pytest.raises(MessageTooLong) as caught:
            await connection.actor.take("\U0001f600" * 40_000)
        assert caught.value.outcome is Outcome.NOT_STARTED
        assert await connection.actor.taken() == [65_000]


@WAYS
async def test_a_subscription_that_is_too_long_is_told(transport: Any) -> None:
    settings = GatewaySettings(max_incoming_message_size=1_000)
    seen: list[RivetError] = []
    async with (
        world(App, gateway=settings) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE) as client,
        client.store.get_or_create("k").connect() as connection,
    ):
        connection.on("error", seen.append)
        connection.on("x" * 2_000, print)
        await eventually(lambda: len(seen) == 1)
        assert isinstance(seen[0], MessageTooLong)
        assert await connection.actor.take("abc") == 3


@WAYS
async def test_calls_that_wait_for_a_reconnect_are_bounded(transport: Any) -> None:
    bounds = ClientSettings(max_waiting_size=60_000)
    async with (
        world(App) as (road, _),
        App.client(road.url, transport=transport, timeout=PATIENCE, settings=bounds) as client,
        client.store.get_or_create("k").connect() as connection,
    ):
        cut: list[str] = []
        connection.on("disconnected", lambda: cut.append("disconnected"))
        road.open = False
        road.cut()
        await eventually(lambda: cut)
        calls = [asyncio.ensure_future(connection.actor.take("a" * 10_000)) for _ in range(10)]
        await eventually(lambda: connection.refused_calls == 5)
        road.open = True
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[:5] == [10_000] * 5
        for refused in answers[5:]:
            assert isinstance(refused, Overloaded)
            assert refused.outcome is Outcome.NOT_STARTED
        assert await connection.actor.take("abc") == 3


@pytest.mark.parametrize("reconnect", [True, False])
async def test_of_a_server_that_does_not_tell_its_limit(reconnect: bool) -> None:
    """It closes: the longest call was it, and those with a key are sent again."""
    requests: list[tuple[int, str]] = []

    async def script(peer: Peer) -> None:
        await peer.init()
        first = not requests
        async for frame in peer.socket:
            message = v0.decode_to_server(peer.encoding, frame)
            assert isinstance(message, v0.ActionRequest)
            requests.append((len(server.peers), message.name))
            if first and message.name == "last":
                await peer.socket.close(1011, "message_too_long")
            elif not first:
                await peer.answer(message, message.name)

    async with (
        socket_server(script) as server,
        Client(server.url, reconnect=reconnect, timeout=PATIENCE) as client,
        client.actor("store").connect() as connection,
    ):
        keyed = connection.actor.with_options(idempotency_key="once")
        small, plain, long, last = await asyncio.gather(
            keyed.call("keyed", "a" * 10),
            connection.actor.call("plain", "a" * 10),
            connection.actor.with_options(idempotency_key="long").call("long", "a" * 80_000),
            connection.actor.call("last"),
            return_exceptions=True,
        )
        assert isinstance(long, MessageTooLong)
        assert long.outcome is Outcome.UNKNOWN, "another may have been it that was given up"
        for lost in (plain, last):
            assert isinstance(lost, ConnectionClosed)
            assert lost.outcome is Outcome.UNKNOWN
        if reconnect:
            assert small == "keyed"
        else:
            assert isinstance(small, ConnectionClosed)
        assert "long" not in [name for peer, name in requests if peer > 1]
