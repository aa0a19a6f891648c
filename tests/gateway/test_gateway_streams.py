"""Event streams of the documented dialect: set-up, messages, events, the end."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from gateway_room import LEFT, Private, Room, gate
from gateway_streams import Stream, opening, slow_consumers, streaming
from gateway_wire import (
    HIDDEN,
    Serve,
    Site,
    Wire,
    by_id,
    create,
    eventually,
    get,
    get_or_create,
)

from rivet_ray import UserError
from rivet_ray.gateway import GatewaySettings
from rivet_ray.protocol.port import CALL_OVERHEAD

AT_ONCE = 1.0
"""Seconds, within which a client that closes its socket is known to be gone."""


class Closed(Room):
    def on_before_connect(self, request: Any, params: Any) -> None:
        raise UserError("Not today.", code="closed_today")


ACTORS = {"room": Room, "closed": Closed, "private": Private}
A = get_or_create("room", "a")


async def members(site: Site) -> list[str]:
    """Those of the room, but for the caller's own."""
    async with site.connect(A) as socket:
        mine = await socket.ask(0, "me")
        found: list[str] = await socket.ask(1, "members")
    return [identity for identity in found if identity != mine]


# --- Opening ----------------------------------------------------------------------


@pytest.mark.parametrize("mount", ["", "/registry"])
async def test_the_head(serve: Serve, mount: str) -> None:
    site = await serve(ACTORS)
    async with opening(site, site.headers(A), mount=mount) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].partition(";")[0] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-store"
        assert "content-encoding" not in stream.headers
        await stream.init()
        assert await stream.ask(0, "echo", 1, mount=mount) == 1


async def test_init_comes_first(serve: Serve) -> None:
    """A.2: actor id, UUIDv4, base64 of 32 random bytes."""
    site = await serve(ACTORS)
    seen: set[str] = set()
    for _ in range(2):
        async with streaming(site, get_or_create("room", "é")) as stream:
            init = stream.init_message
            assert set(init) == {"ai", "ci", "ct"}
            assert init["ai"] == (await site.resolve(get("room", "é"))).body["i"]
            assert str(uuid.UUID(init["ci"], version=4)) == init["ci"]
            assert len(base64.b64decode(init["ct"], validate=True)) == 32
            seen |= {init["ci"], init["ct"]}
            assert await stream.ask(0, "me") == init["ci"]
    assert len(seen) == 4


async def test_every_form_of_query(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with streaming(site, create("room", "a", input=None)) as stream:
        actor = stream.init_message["ai"]
    for query in (get("room", "a"), A, by_id(actor)):
        async with streaming(site, query) as stream:
            assert stream.init_message["ai"] == actor


# --- The bytes --------------------------------------------------------------------


async def test_golden_bytes(serve: Serve, wire: Wire) -> None:
    """A.4: `data: <payload>` and an empty line; the JSON text, or base64 of the CBOR."""
    site = await serve(ACTORS)
    async with opening(site, site.headers(A)) as stream:
        init = await stream.init()
        await stream.subscribe("said")
        await stream.call(7, "echo", [1, "é", None])
        assert set(await stream.next()) == {"ar"}
        await stream.call(0, "fail")
        assert set(await stream.next()) == {"e"}
        await stream.call(8, "nothing")
        assert set(await stream.next()) == {"ar"}
        assert (await site.call(A, "say", "two\nlines")).output == 1
        assert set(await stream.next()) == {"ev"}
        raw = stream.raw
    error = {"c": "wished", "m": "As you wish.", "md": [1], "ai": 0, "oc": "took_effect"}
    messages = [
        {"b": {"i": {"ai": init["ai"], "ci": init["ci"], "ct": init["ct"]}}},
        {"b": {"ar": {"i": 7, "o": [1, "é", None]}}},
        {"b": {"e": error}},
        {"b": {"ar": {"i": 8}}},
        {"b": {"ev": {"n": "said", "a": ["two\nlines"]}}},
    ]
    if wire.name == "json":
        lines = [
            json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
            for message in messages
        ]
        assert raw == b"".join(b"data: " + line + b"\n\n" for line in lines)
        return
    *blocks, rest = raw.split(b"\n\n")
    assert rest == b""
    decoded = [
        wire.loads(base64.b64decode(block.removeprefix(b"data: "), validate=True))
        for block in blocks
    ]
    assert decoded == messages
    assert blocks[3] == b"data: " + base64.b64encode(b"\xa1\x61b\xa1\x62ar\xa1\x61i\x08")


async def test_keep_alive(serve: Serve) -> None:
    site = await serve(ACTORS, settings=GatewaySettings(keep_alive=0.05))
    async with opening(site, site.headers(A)) as stream:
        await stream.init()
        assert stream.headers["x-rivetkit-keep-alive"] == "0.05"
        assert [await stream.block() for _ in range(2)] == [": keep-alive"] * 2
        assert b"\n\n: keep-alive\n\n: keep-alive\n\n" in stream.raw
        await stream.call(0, "echo", 1)
        assert await stream.answer(0) == 1


# --- Actions ----------------------------------------------------------------------


async def test_answers_come_when_they_are_ready(serve: Serve) -> None:
    """The POST is answered when the action has been taken, not when it has run."""
    site = await serve(ACTORS)
    async with streaming(site, A) as stream:
        await stream.call(0, "wait_for", "slow")
        assert await stream.ask(1, "echo", "fast") == "fast"
        gate("slow may go on").set()
        assert await stream.answer(0) == "slow"


async def test_errors_go_to_the_stream(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with streaming(site, A) as stream:
        for number, (name, args, code, outcome) in enumerate(
            [
                ("unknown", [], "action_not_found", "not_started"),
                ("say", [1], "user_error", "not_started"),
                ("boom", [], "internal_error", "took_effect"),
            ]
        ):
            await stream.call(number, name, *args)
            error = (await stream.next())["e"]
            assert (error["ai"], error["c"], error["oc"]) == (number, code, outcome)
            if code == "internal_error":
                assert (error["m"], error["md"]) == (HIDDEN, {})


async def test_an_idempotency_key_has_one_effect(serve: Serve) -> None:
    """C4, as on a WebSocket."""
    site = await serve(ACTORS)
    async with streaming(site, A) as stream:
        for number in range(3):
            await stream.send({"ar": {"i": number, "n": "say", "a": ["once"], "k": "key"}})
            assert await stream.answer(number) == 1
        assert await stream.ask(3, "say", "twice") == 2


async def test_too_many_actions_wait(serve: Serve) -> None:
    """As on a WebSocket: what waits behind the limit is bounded, the rest is told."""
    settings = GatewaySettings(max_in_flight=1, max_waiting_size=3 * CALL_OVERHEAD)
    site = await serve(ACTORS, settings=settings)
    async with streaming(site, A) as stream:
        await stream.call(0, "wait_for", "first")
        await gate("first").wait()
        for number in range(1, 6):
            await stream.call(number, "echo", 1)
        refused = [await stream.next() for _ in range(4)]
        gate("first may go on").set()
        assert {item["e"]["c"] for item in refused} == {"overloaded"}
        assert {item["e"]["oc"] for item in refused} == {"not_started"}
        assert {(await stream.next())["ar"]["i"] for _ in range(2)} == {0, 1}


# --- Events -----------------------------------------------------------------------


async def test_subscribe_event_unsubscribe(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with streaming(site, A) as stream, site.connect(A) as socket:
        await stream.subscribe("said")
        await stream.subscribe("said")
        await socket.subscribe("said")
        await stream.ask(0, "echo", 0)
        await socket.ask(0, "echo", 0)
        assert (await site.call(A, "say", "hello")).output == 1
        expected = {"ev": {"n": "said", "a": ["hello"]}}
        assert await stream.next() == expected
        assert await socket.next() == expected
        await stream.subscribe("said", False)
        await stream.ask(1, "echo", 0)
        assert (await site.call(A, "say", "again")).output == 2
        assert await stream.ask(2, "echo", 2) == 2
        await stream.call(3, "whisper", "psst")
        received = [await stream.next(), await stream.next()]
        assert {"ev": {"n": "whispered", "a": ["psst", 1, None]}} in received
        assert {"ar": {"i": 3}} in received


async def test_many_events_in_order(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with streaming(site, A) as stream, site.connect(A) as socket:
        await stream.subscribe("said")
        await stream.ask(0, "echo", 0)
        for number in range(500):
            await socket.call(number, "say", str(number))
        heard = [(await stream.next())["ev"]["a"][0] for _ in range(500)]
    assert heard == [str(number) for number in range(500)]


# --- The end ----------------------------------------------------------------------


async def gone(site: Site, identity: str) -> None:
    """`on_disconnect` ran, and the connection is not in `conns` any more."""

    async def left() -> bool:
        return identity not in await members(site)

    await eventually(left)
    assert LEFT.count(identity) == 1


@pytest.mark.parametrize("politely", [True, False])
async def test_a_client_that_left_is_no_connection(serve: Serve, politely: bool) -> None:
    """A.8: not so in the original. Nothing is sent meanwhile that could tell the server."""
    site = await serve(ACTORS, settings=GatewaySettings(keep_alive=0))
    async with streaming(site, A) as leaver:
        identity = leaver.init_message["ci"]
        assert "x-rivetkit-keep-alive" not in leaver.headers
        assert identity in await members(site)
        if politely:
            leaver.writer.close()
        else:
            leaver.abort()
        async with asyncio.timeout(AT_ONCE):
            await gone(site, identity)


async def test_a_client_that_left_while_its_action_runs(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with streaming(site, A) as leaver:
        await leaver.call(0, "wait_for", "never")
        await gate("never").wait()
        leaver.abort()
        await gone(site, leaver.init_message["ci"])
        gate("never may go on").set()


@pytest.mark.parametrize("reason", ["", "You are too loud. é"])
async def test_disconnect_says_its_reason_and_waits(serve: Serve, reason: str) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket, streaming(site, A) as victim:
        identity = victim.init_message["ci"]
        assert await socket.ask(0, "kick", identity, reason) is False, "it waited for the close"
        last, before = await victim.closed()
        assert before == []
        assert last is not None
        assert json.loads(last[1]) == {"code": 1000, "reason": reason}
        assert victim.raw.endswith(
            f'event: close\ndata: {{"code":1000,"reason":"{reason}"}}\n\n'.encode()
        )
        answer = await victim.post(victim.wire.dumps({"b": {"sr": {"e": "said", "s": True}}}))
        assert (answer.status, answer.code, answer.outcome) == (
            400,
            "conn_not_found",
            "not_started",
        )


@asynccontextmanager
async def sleeping(site: Site) -> AsyncIterator[Stream]:
    """A client that subscribed and reads no more, with 40 MB on the way to it."""
    async with site.connect(A) as socket, streaming(site, A, limit=2**10) as sleeper:
        for each in (socket, sleeper):
            await each.subscribe("said")
            await each.ask(0, "echo", 0)
        for _ in range(100):
            assert (await site.call(A, "shout", 400_000)).output == 400_000
            assert (await socket.next())["ev"]["n"] == "said"
        try:
            yield sleeper
        finally:
            sleeper.abort()


async def test_a_client_that_does_not_read_and_leaves(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with sleeping(site) as sleeper:
        identity = sleeper.init_message["ci"]
        assert identity in await members(site)
        sleeper.abort()
        await gone(site, identity)


async def test_a_client_that_does_not_read_is_closed(serve: Serve) -> None:
    """Its queue is bounded; when it reads again it is told why it was closed."""
    settings = GatewaySettings(max_queued_size=8_000_000, close_timeout=30.0)
    site = await serve(ACTORS, settings=settings)
    async with sleeping(site) as sleeper:
        last, before = await sleeper.closed()
        assert last is not None
        assert json.loads(last[1]) == {"code": 1011, "reason": "slow_consumer"}
        assert len(before) < 100, "what waited was dropped"
        assert await slow_consumers(site) == 1
        await gone(site, sleeper.init_message["ci"])


async def test_a_client_that_never_reads_is_cut_off(serve: Serve) -> None:
    """Without a line in the log for each: anybody could fill it."""
    settings = GatewaySettings(max_queued_size=8_000_000, close_timeout=0.1)
    site = await serve(ACTORS, settings=settings)
    async with sleeping(site) as sleeper:
        await gone(site, sleeper.init_message["ci"])


# --- Set-up that fails ------------------------------------------------------------


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
        (get_or_create("closed"), "closed_today"),
    ],
)
async def test_set_up_that_fails(serve: Serve, query: Any, code: str) -> None:
    """A.4: status 200, one event with the error, the end of the stream."""
    site = await serve(ACTORS)
    async with opening(site, site.headers(query)) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].partition(";")[0] == "text/event-stream"
        error = await stream.refusal()
        assert error["c"] == code
        assert stream.raw.startswith(b"data: ")
        assert stream.raw.count(b"\n\n") == 1
    async with streaming(site, A) as stream:
        assert await stream.ask(0, "echo", 1) == 1


async def test_parameters_that_are_not_json(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with opening(site, site.headers(A, conn_params="{'a'")) as stream:
        assert (await stream.refusal())["c"] == "invalid_params"


@pytest.mark.parametrize("encoding", ["bare", "JSON", "%00"])
async def test_an_unknown_encoding(serve: Serve, encoding: str) -> None:
    """A.4: then it is the event `error` with the bare code."""
    site = await serve(ACTORS)
    async with opening(site, site.headers(A, encoding=encoding)) as stream:
        assert stream.status == 200
        assert await stream.block() == "event: error\ndata: invalid_request"
        assert await stream.block() is None


@pytest.mark.parametrize("missing", [["query"], ["encoding"], ["query", "encoding"]])
async def test_a_missing_header(serve: Serve, missing: list[str]) -> None:
    """A.1.3: header validation comes first, with the validator's report."""
    site = await serve(ACTORS)
    without: dict[str, str | None] = dict.fromkeys(missing)
    async with opening(site, site.headers(A, **without)) as stream:
        assert stream.status == 400
        assert stream.headers["content-type"] == "application/json"
        while await stream._chunk() and len(stream.raw) < int(stream.headers["content-length"]):
            pass
        report = json.loads(stream.raw)
    assert report["success"] is False
    assert report["error"]["name"] == "ZodError"
    assert [issue["path"] for issue in report["error"]["issues"]] == [
        [f"x-rivetkit-{name}"] for name in missing
    ]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
async def test_other_methods(serve: Serve, method: str) -> None:
    site = await serve(ACTORS)
    answer = await site.post("/registry/actors/connect/sse", site.headers(A), b"", method)
    assert answer.status == 404
