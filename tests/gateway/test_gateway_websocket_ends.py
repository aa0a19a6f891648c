"""How WebSockets of the documented dialect end: closes, refusals, and what cannot be read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from gateway_room import Private, Room, gate
from gateway_streams import slow_consumers
from gateway_wire import (
    RawText,
    Serve,
    Site,
    Socket,
    Wire,
    by_id,
    eventually,
    get,
    get_or_create,
)
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from rivet_ray.gateway import GatewaySettings
from rivet_ray.protocol.port import CALL_OVERHEAD

ACTORS = {"room": Room, "private": Private}
A = get_or_create("room", "a")


async def still_serves(site: Site) -> None:
    async with site.connect(A) as socket:
        assert await socket.ask(0, "echo", "fine") == "fine"


# --- The end of a connection ---------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "You are too loud. é"])
async def test_disconnect_closes_with_its_reason_and_waits(serve: Serve, reason: str) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket, site.connecting(A) as victim:
        identity = (await victim.init())["ci"]
        assert await socket.ask(0, "kick", identity, reason) is False, "it waited for the close"
        assert await victim.closed() == (1000, reason, [])
        assert identity not in await socket.ask(1, "members")


async def test_disconnect_of_oneself(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connecting(A) as socket:
        identity = (await socket.init())["ci"]
        await socket.call(0, "kick", identity, "bye")
        code, reason, _ = await socket.closed()
        assert (code, reason) == (1000, "bye")
    await still_serves(site)


async def test_a_reason_that_does_not_fit(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connecting(A) as socket:
        identity = (await socket.init())["ci"]
        await socket.call(0, "kick", identity, "é" * 62)
        error = (await socket.next())["e"]
        assert (error["ai"], error["c"]) == (0, "user_error")
        await socket.call(1, "kick", identity, "é" * 61 + "x")
        assert (await socket.closed())[:2] == (1000, "é" * 61 + "x")


@pytest.mark.parametrize("politely", [True, False])
async def test_a_client_that_left_is_no_connection(serve: Serve, politely: bool) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket, site.connecting(A) as leaver:
        identity = (await leaver.init())["ci"]
        assert identity in await socket.ask(0, "members")
        if politely:
            await leaver.connection.close()
        else:
            leaver.abort()

        async def gone() -> bool:
            return identity not in await socket.ask(1, "members")

        await eventually(gone)


async def test_events_to_a_client_that_vanished_do_no_harm(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket, site.connect(A) as first, site.connect(A) as second:
        for each in (socket, first, second):
            await each.subscribe("said")
            await each.ask(0, "echo", 0)
        await second.call(1, "wait_for", "never")
        first.abort()
        for number in range(200):
            await socket.call(number, "say", "x" * 1000)
            if number == 100:
                second.abort()
        received = [await socket.next() for _ in range(400)]
        assert sum("ev" in body for body in received) == 200
        gate("never may go on").set()

        async def alone() -> bool:
            return len(await socket.ask(0, "members")) == 1

        await eventually(alone)
    await still_serves(site)


async def test_a_client_that_left_with_all_its_actions_in_flight(serve: Serve) -> None:
    """The limit of what may be in flight must not hide that the client is gone."""
    site = await serve(ACTORS, settings=GatewaySettings(max_in_flight=2))
    async with site.connect(A) as socket, site.connect(A) as leaver:
        await leaver.call(0, "wait_for", "first")
        await leaver.call(1, "wait_for", "second")
        await gate("second").wait()
        leaver.abort()

        async def alone() -> bool:
            return len(await socket.ask(1, "members")) == 1

        try:
            await eventually(alone)
        finally:
            for name in ("first", "second"):
                gate(f"{name} may go on").set()


@asynccontextmanager
async def sleeping(site: Site) -> AsyncIterator[tuple[Socket, str]]:
    """A client that subscribed and reads no more, with 40 MB on the way to it.

    The buffers of HAProxy and of the kernel on either side of it take half of that.
    """
    async with site.connect(A) as socket, site.connecting(A, max_queue=1) as sleeper:
        identity = (await sleeper.init())["ci"]
        for each in (socket, sleeper):
            await each.subscribe("said")
            await each.ask(0, "echo", 0)
        for _ in range(100):
            assert (await site.call(A, "shout", 400_000)).output == 400_000
            assert (await socket.next())["ev"]["n"] == "said"
        try:
            yield socket, identity
        finally:
            sleeper.abort()


async def test_a_client_that_does_not_read(serve: Serve) -> None:
    """Its queue is bounded and then it is closed and counted, though it cannot be told."""
    settings = GatewaySettings(max_queued_size=8_000_000, close_timeout=0.1)
    site = await serve(ACTORS, settings=settings)
    assert await slow_consumers(site) == 0
    async with sleeping(site) as (socket, identity):

        async def gone() -> bool:
            return identity not in await socket.ask(1, "members")

        await eventually(gone)
        assert await slow_consumers(site) == 1


async def test_disconnect_of_a_client_that_does_not_read(serve: Serve) -> None:
    """C9: the actor's code waits for the close, and not for ever."""
    settings = GatewaySettings(max_queued_size=64_000_000, close_timeout=0.1)
    site = await serve(ACTORS, settings=settings)
    async with sleeping(site) as (socket, identity):
        assert await socket.ask(1, "kick", identity, "wake up") is False
    assert await slow_consumers(site) == 0


# --- Set-up that fails ----------------------------------------------------------------


async def refused(socket: Any, code: str, *, error: bool) -> Any:
    """The message and the close that a failed set-up ends with."""
    number, reason, before = await socket.closed()
    assert (number, reason) == (1011, code)
    assert len(before) == (1 if error else 0), before
    if not error:
        return None
    assert set(before[0]) == {"e"}
    found = before[0]["e"]
    assert found["c"] == code
    assert "ai" not in found
    return found


async def test_no_subprotocols(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.offering(None) as socket:
        await refused(socket, "invalid_query_json", error=False)
    async with site.offering([Subprotocol("rivetkit")]) as socket:
        await refused(socket, "invalid_query_json", error=False)


async def test_a_query_is_missing_though_the_encoding_is_known(serve: Serve) -> None:
    """A.3: where the encoding is known, the error comes as a message first."""
    site = await serve(ACTORS)
    async with site.offering(site.protocols(A)[1:]) as socket:
        await refused(socket, "invalid_query_json", error=True)


@pytest.mark.parametrize("encoding", ["bare", "JSON", "%00"])
async def test_an_unknown_encoding(serve: Serve, encoding: str) -> None:
    site = await serve(ACTORS)
    async with site.offering(site.protocols(A, encoding=encoding)) as socket:
        await refused(socket, "invalid_request", error=False)


async def test_no_encoding(serve: Serve) -> None:
    site = await serve(ACTORS)
    query, _, last = site.protocols(A)
    async with site.offering([query, last]) as socket:
        await refused(socket, "invalid_request", error=False)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{", "invalid_query_json"),
        ("", "invalid_query_json"),
        ({}, "invalid_request"),
        (get_or_create("room", "x" * 129), "invalid_request"),
        (get("room", "missing"), "actor_not_found"),
        (by_id("0123456789abcdef"), "actor_not_found"),
        (get_or_create("stranger"), "actor_not_found"),
        (get_or_create("private"), "forbidden"),
    ],
)
async def test_set_up_that_fails(serve: Serve, query: Any, code: str) -> None:
    site = await serve(ACTORS)
    async with site.connecting(query) as socket:
        error = await refused(socket, code, error=True)
        assert error["oc"] == "not_started"
    await still_serves(site)


async def test_parameters_that_are_not_json(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connecting(A, RawText("{'a'")) as socket:
        await refused(socket, "invalid_params", error=True)


async def test_private_actors_open_in_development(serve: Serve) -> None:
    site = await serve(ACTORS, settings=GatewaySettings(open=True))
    async with site.connect(get_or_create("private")) as socket:
        assert await socket.ask(0, "echo", 1) == 1


# --- Messages that cannot be read -------------------------------------------------------

JSON_FRAMES: dict[str, str | bytes] = {
    "not JSON": "{nope",
    "empty": "",
    "binary": b'{"b":{"ar":{"i":1,"n":"echo","a":[1]}}}',
    "no body": "{}",
    "unknown message": '{"b":{"zz":{}}}',
    "nothing in it": '{"b":{}}',
    "both": '{"b":{"ar":{"i":1,"n":"echo","a":[]},"sr":{"e":"x","s":true}}}',
    "no id": '{"b":{"ar":{"n":"echo","a":[1]}}}',
    "a text id": '{"b":{"ar":{"i":"1","n":"echo","a":[1]}}}',
    "no arguments": '{"b":{"ar":{"i":1,"n":"echo"}}}',
    "half a subscription": '{"b":{"sr":{"e":"x"}}}',
    "deep": '{"b":{"ar":{"i":1,"n":"echo","a":' + "[" * 2_000 + "]" * 2_000 + "}}}",
}
CBOR_FRAMES: dict[str, str | bytes] = {
    "text": '{"b":{"ar":{"i":1,"n":"echo","a":[1]}}}',
    "text, empty": "",
    "not CBOR": b"\xff\xff",
    "empty": b"",
    "no body": b"\xa0",
    "unknown message": b"\xa1\x61b\xa1\x62zz\xa0",
    "trailing": b"\xa1\x61b\xa1\x62sr\xa2\x61e\x61x\x61s\xf5\x00",
    "a text id": b"\xa1\x61b\xa1\x62ar\xa3\x61i\x611\x61n\x64echo\x61a\x80",
    "deep": b"\xa1\x61b" + b"\x81" * 2_000 + b"\x80",
    "a loop": b"\xd8\x1c\x81\xd8\x1d\x00",
}


async def test_malformed_messages(serve: Serve, wire: Wire) -> None:
    site = await serve(ACTORS)
    frames = JSON_FRAMES if wire.name == "json" else CBOR_FRAMES
    async with site.connect(A) as bystander:
        for what, frame in frames.items():
            async with site.connect(A) as socket:
                await socket.connection.send(frame)
                assert await socket.closed() == (1011, "malformed_message", []), what
        assert await bystander.ask(0, "echo", 1) == 1


def message_of(site: Site, length: int, filling: str = "x") -> str | bytes:
    """A message of exactly this many characters or bytes."""
    wire = site.wire
    if wire.name == "cbor":
        filling = "x"
    frame = wire.frame({"b": {"ar": {"i": 1, "n": "echo", "a": [filling * 1_000]}}})
    count = 1_000 + length - len(frame)
    for exact in (count, count - 2, count - 4):
        text = filling * exact
        frame = (
            '{"b": {"ar": {"i": 1, "n": "echo", "a": ["' + text + '"]}}}'
            if wire.name == "json"
            else wire.frame({"b": {"ar": {"i": 1, "n": "echo", "a": [text]}}})
        )
        if len(frame) == length:
            return frame
    raise AssertionError(length)


@pytest.mark.parametrize("limit", [65_536, 3_000])
async def test_the_longest_message(serve: Serve, limit: int) -> None:
    settings = GatewaySettings(max_incoming_message_size=limit)
    site = await serve(ACTORS, settings=None if limit == 65_536 else settings)
    async with site.connect(A) as socket:
        await socket.connection.send(message_of(site, limit))
        assert set(await socket.next()) == {"ar"}
        await socket.connection.send(message_of(site, limit + 1))
        assert await socket.closed() == (1011, "message_too_long", [])
    await still_serves(site)


async def test_text_is_measured_in_characters(serve: Serve, wire: Wire) -> None:
    site = await serve(ACTORS)
    if wire.name == "cbor":
        return
    async with site.connect(A) as socket:
        text = "é" * 60_000
        frame = '{"b": {"ar": {"i": 1, "n": "echo", "a": ["' + text + '"]}}}'
        await socket.connection.send(frame)
        assert await socket.answer(1) == text
        # As JavaScript counts them: two for what is beyond the basic plane.
        await socket.connection.send(frame.replace("é", "\U0001f600"))
        assert await socket.closed() == (1011, "message_too_long", [])


async def test_a_message_of_many_megabytes(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        huge = b"x" * (17 * 2**20)
        with suppress(ConnectionClosed):
            await socket.connection.send(huge if site.wire.name == "cbor" else huge.decode())
        code, reason, _ = await socket.closed()
        # What a proxy still sends may be answered by a reset, which may overtake the close.
        refused = (code, reason) == (1011, "message_too_long")
        assert refused or (code is None and site.proxied), (code, reason)
    await still_serves(site)


async def test_a_message_of_some_megabytes(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        large = b"x" * (3 * 2**20)
        with suppress(ConnectionClosed):
            await socket.connection.send(large if site.wire.name == "cbor" else large.decode())
        code, reason, _ = await socket.closed()
        assert (code, reason) == (1011, "message_too_long")
    await still_serves(site)


async def test_too_many_actions_wait(serve: Serve) -> None:
    """What waits behind the limit is bounded; the rest is told that it was not started."""
    settings = GatewaySettings(max_in_flight=1, max_waiting_size=3 * CALL_OVERHEAD)
    site = await serve(ACTORS, settings=settings)
    async with site.connect(A) as socket:
        await socket.call(0, "wait_for", "first")
        await gate("first").wait()
        for number in range(1, 6):
            await socket.call(number, "echo", 1)
        refused = [await socket.next() for _ in range(4)]
        gate("first may go on").set()
        assert {item["e"]["c"] for item in refused} == {"overloaded"}
        assert {item["e"]["oc"] for item in refused} == {"not_started"}
        assert {(await socket.next())["ar"]["i"] for _ in range(2)} == {0, 1}


async def test_answers_have_no_limit(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        for number in range(80):
            await socket.call(number, "say", "x" * 60_000)
        for number in range(80):
            assert await socket.answer(number) == number + 1
    # 4.8 MB of state; one answer larger than any limit on what comes in.
    answer = await site.call(A, "echo", "y" * 3_000_000)
    assert answer.output == "y" * 3_000_000
