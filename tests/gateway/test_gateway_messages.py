"""`POST /actors/message`: what it takes, what it refuses, and who may send it."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from gateway_streams import Stream, opening, streaming
from gateway_wire import Serve, Site, Wire, eventually, get, get_or_create

from rivet_ray import Actor, Unauthorized, action
from rivet_ray.gateway import GatewaySettings


@dataclass
class State:
    count: int = 0


class Counter(Actor[State]):
    public = True

    @action
    def increment(self, by: int = 1) -> int:
        self.state.count += by
        self.broadcast("counted", self.state.count)
        return self.state.count

    @action
    def size(self, text: str) -> int:
        return len(text)


class Guarded(Actor[State, None, Any, None, Any]):
    """Its tickets expire with their first use."""

    SPENT: ClassVar[set[str]] = set()

    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        shown = (params or {}).get("ticket")
        if shown is None or shown in cls.SPENT:
            raise Unauthorized("Who are you?")
        cls.SPENT.add(shown)
        return {"intents": sorted(intents), "path": request.url}

    @action
    def whoami(self) -> Any:
        return self.conn.auth

    @action
    def increment(self) -> int:
        self.state.count += 1
        return self.state.count


ACTORS = {"counter": Counter, "guarded": Guarded}
A = get_or_create("counter", "a")
GUARDED = get_or_create("guarded", "a")


def ticket() -> dict[str, str]:
    return {"ticket": str(uuid.uuid4())}


@asynccontextmanager
async def at_home(serve: Serve, **options: Any) -> AsyncIterator[tuple[Site, Stream]]:
    site = await serve(ACTORS, **options)
    async with streaming(site, A) as stream:
        yield site, stream
        # Whatever was refused did nothing.
        assert await stream.ask(99, "increment") == 1


def increment(wire: Wire, number: int = 0) -> bytes:
    return wire.dumps({"b": {"ar": {"i": number, "n": "increment", "a": []}}})


# --- Who may send -----------------------------------------------------------------


MISSING = "a header is missing"
WRONG = "incorrect_conn_token"
SHOWN: dict[str, tuple[dict[str, str | None], str]] = {
    "no token": ({"conn_token": None}, MISSING),
    "an empty token": ({"conn_token": ""}, WRONG),
    "part of the token": ({"conn_token": "{own[ct]:.20}"}, WRONG),
    "the token and more": ({"conn_token": "{own[ct]}="}, WRONG),
    "a token that is not ASCII": ({"conn_token": "é"}, WRONG),
    "the token of another connection": ({"conn_token": "{other[ct]}"}, WRONG),
    "what on_auth lets in": ({"conn_token": "fresh"}, WRONG),
    "no connection": ({"conn": None}, MISSING),
    "an empty id": ({"conn": ""}, WRONG),
    "an id that is not ASCII": ({"conn": "é"}, WRONG),
    "the id of no connection": ({"conn": str(uuid.uuid4())}, WRONG),
    "the id of another connection": ({"conn": "{other[ci]}"}, WRONG),
    "another actor": ({"actor": "{elsewhere[ai]}"}, WRONG),
    "a connection of another actor": ({"conn": "{elsewhere[ci]}"}, WRONG),
    "another actor's connection": (
        {"actor": "{elsewhere[ai]}", "conn": "{elsewhere[ci]}"},
        WRONG,
    ),
}
"""What is shown instead of what is right, and the answer."""


@pytest.mark.parametrize("shown", SHOWN)
async def test_who_may_send(serve: Serve, wire: Wire, shown: str) -> None:
    """A.6: the token of the connection is all there is, and nothing stands in for it."""
    site = await serve(ACTORS)
    instead, expected = SHOWN[shown]
    async with (
        streaming(site, GUARDED, ticket()) as stream,
        streaming(site, GUARDED, ticket()) as other,
        streaming(site, get_or_create("guarded", "b"), ticket()) as elsewhere,
    ):
        tokens = {
            "own": stream.init_message,
            "other": other.init_message,
            "elsewhere": elsewhere.init_message,
        }
        changed = {
            name: None if text is None else text.format(**tokens) for name, text in instead.items()
        }
        headers = {
            name: value.encode("latin-1")
            for name, value in stream.headers_of_message(**changed).items()
        }
        answer = await stream.post(increment(wire), headers)  # type: ignore[arg-type]
        assert answer.status == 400
        if expected == MISSING:
            assert json.loads(answer.raw)["error"]["name"] == "ZodError"
        else:
            assert (answer.code, answer.outcome) == (expected, "not_started")
        for secret in (stream.init_message["ct"], other.init_message["ct"]):
            assert secret.encode() not in answer.raw
        assert await elsewhere.ask(0, "increment") == 1, "what was refused did nothing"
        assert await other.ask(0, "increment") == 1
        assert await stream.ask(1, "increment") == 2, "the right one is taken"


async def test_an_unknown_actor(serve: Serve, wire: Wire) -> None:
    """None is looked for on a host, nor started."""
    async with at_home(serve) as (_, stream):
        headers = stream.headers_of_message(actor="0123456789abcdef", conn="x")
        answer = await stream.post(increment(wire), headers)
        assert (answer.status, answer.code, answer.outcome) == (
            400,
            "incorrect_conn_token",
            "not_started",
        )


async def test_a_connection_outlives_what_on_auth_was_shown(serve: Serve, wire: Wire) -> None:
    """Messages go on after it has expired, until the connection ends; a new one needs more."""
    site = await serve(ACTORS)
    spent = ticket()
    async with streaming(site, GUARDED, spent) as stream:
        assert (await site.resolve(GUARDED, params=spent)).code == "unauthorized", "it has expired"
        for number in range(3):
            assert await stream.ask(number, "increment") == number + 1
        async with opening(site, site.headers(GUARDED, spent)) as again:
            assert (await again.refusal())["c"] == "unauthorized"
    headers = stream.headers_of_message()

    async def ended() -> bool:
        answer = await stream.post(increment(wire), headers)
        return answer.status == 400 and answer.code == "conn_not_found"

    await eventually(ended)


async def test_who_comes_back_is_asked_again(serve: Serve) -> None:
    """The token of the connection does not stand in for what `on_auth` wants."""
    site = await serve(ACTORS)
    spent = ticket()
    async with opening(site, site.headers(GUARDED, spent, conn_seen="0")) as stream:
        first = await stream.init()
        stream.abort()
    back = {"conn_seen": str(first["s"]), "conn": first["ci"], "conn_token": first["ct"]}
    async with opening(site, site.headers(GUARDED, spent, **back)) as refused:
        assert (await refused.refusal())["c"] == "unauthorized"
    async with opening(site, site.headers(GUARDED, ticket(), **back)) as stream:
        assert (await stream.init())["ci"] == first["ci"]


async def test_on_auth_lets_the_connection_in(serve: Serve) -> None:
    """A.6: it is asked once, with the intents of a connection, and never for a message."""
    site = await serve(ACTORS)
    async with opening(site, site.headers(GUARDED)) as stream:
        assert (await stream.refusal())["c"] == "unauthorized"
    assert (await site.resolve(get("guarded", "a"), params=ticket())).code == ("actor_not_found"), (
        "who is refused creates nothing"
    )
    for query, intents in (
        (GUARDED, ["connect", "create", "get"]),
        (get("guarded", "a"), ["connect", "get"]),
    ):
        async with streaming(site, query, ticket()) as stream:
            for number in range(3):
                seen = await stream.ask(number, "whoami")
                assert seen["intents"] == intents
                assert seen["path"].endswith("/registry/actors/connect/sse")


async def test_a_message_for_a_websocket(serve: Serve, wire: Wire) -> None:
    """As in the original: a connection is one whatever carries it."""
    site = await serve(ACTORS)
    async with site.connecting(A) as socket, streaming(site, A) as stream:
        init = await socket.init()
        headers = stream.headers_of_message(
            actor=init["ai"], conn=init["ci"], conn_token=init["ct"]
        )
        answer = await stream.post(increment(wire, 5), headers)
        assert answer.raw == b"{}"
        assert await socket.answer(5) == 1


# --- What cannot be read ----------------------------------------------------------


@pytest.mark.parametrize(
    "missing",
    [
        ["actor"],
        ["conn"],
        ["encoding"],
        ["conn_token"],
        ["actor", "conn", "encoding", "conn_token"],
    ],
)
async def test_a_missing_header(serve: Serve, wire: Wire, missing: list[str]) -> None:
    async with at_home(serve) as (_, stream):
        without: dict[str, str | None] = dict.fromkeys(missing)
        answer = await stream.post(increment(wire), stream.headers_of_message(**without))
        assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
        report = json.loads(answer.raw)
        assert report["success"] is False
        assert report["error"]["name"] == "ZodError"
        assert [issue["path"] for issue in report["error"]["issues"]] == [
            [f"x-rivetkit-{name.replace('_', '-')}"] for name in missing
        ]


async def test_an_unknown_encoding(serve: Serve, wire: Wire) -> None:
    async with at_home(serve) as (_, stream):
        answer = await stream.post(increment(wire), stream.headers_of_message(encoding="bare"))
        assert answer.status == 400
        assert json.loads(answer.raw)["c"] == "invalid_request"


JSON_BODIES: dict[str, bytes] = {
    "not JSON": b"{nope",
    "empty": b"",
    "not UTF-8": b'{"b":{"ar":{"i":1,"n":"\xff","a":[]}}}',
    "no body": b"{}",
    "unknown message": b'{"b":{"zz":{}}}',
    "nothing in it": b'{"b":{}}',
    "both": b'{"b":{"ar":{"i":1,"n":"increment","a":[]},"sr":{"e":"x","s":true}}}',
    "a text id": b'{"b":{"ar":{"i":"1","n":"increment","a":[]}}}',
    "no arguments": b'{"b":{"ar":{"i":1,"n":"increment"}}}',
    "half a subscription": b'{"b":{"sr":{"e":"x"}}}',
    "deep": b'{"b":{"ar":{"i":1,"n":"increment","a":' + b"[" * 2_000 + b"]" * 2_000 + b"}}}",
    "CBOR": b"\xa1\x61b\xa1\x62sr\xa2\x61e\x61x\x61s\xf5",
}
CBOR_BODIES: dict[str, bytes] = {
    "JSON": b'{"b":{"ar":{"i":1,"n":"increment","a":[]}}}',
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
    """A.8: in the original JSON was not checked at all. The stream goes on."""
    bodies = JSON_BODIES if wire.name == "json" else CBOR_BODIES
    async with at_home(serve) as (_, stream):
        for what, body in bodies.items():
            answer = await stream.post(body)
            assert (answer.status, answer.code) == (400, "malformed_message"), what
            assert answer.outcome == "not_started"


@pytest.mark.parametrize("limit", [65_536, 3_000])
async def test_the_longest_message(serve: Serve, wire: Wire, limit: int) -> None:
    """A.8: in the original JSON had no limit. Measured in bytes, as every body."""
    settings = GatewaySettings(max_incoming_message_size=limit)
    async with at_home(serve, settings=settings) as (_, stream):

        def message(text: str) -> bytes:
            return wire.dumps({"b": {"ar": {"i": 0, "n": "size", "a": [text]}}})

        room = limit - len(message("x" * 1_000)) + 1_000
        assert len(message("x" * room)) == limit
        assert (await stream.post(message("x" * room))).raw == b"{}"
        assert await stream.answer(0) == room
        answer = await stream.post(message("x" * (room + 1)))
        assert (answer.status, answer.code, answer.outcome) == (
            400,
            "message_too_long",
            "not_started",
        )


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_other_methods(serve: Serve, wire: Wire, method: str) -> None:
    async with at_home(serve) as (_, stream):
        assert (await stream.post(increment(wire), method=method)).status == 404
