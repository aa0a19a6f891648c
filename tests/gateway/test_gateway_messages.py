"""`POST /actors/message`: what it takes, what it refuses, and who may send it."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from gateway_streams import Stream, opening, streaming
from gateway_wire import Serve, Site, Wire, get, get_or_create

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
    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        if not params or params.get("key") != "good":
            raise Unauthorized("Who are you?")
        return {"intents": sorted(intents), "path": request.url, "once": str(uuid.uuid4())}

    @action
    def whoami(self) -> Any:
        return self.conn.auth


ACTORS = {"counter": Counter, "guarded": Guarded}
A = get_or_create("counter", "a")


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


async def test_an_unknown_connection(serve: Serve, wire: Wire) -> None:
    async with at_home(serve) as (_, stream):
        for identity in (str(uuid.uuid4()), "x", "é", ""):
            headers = stream.headers_of_message()
            sent = {**headers, "X-RivetKit-Conn": identity.encode("latin-1")}
            answer = await stream.post(increment(wire), sent)  # type: ignore[arg-type]
            assert (answer.status, answer.code) == (400, "conn_not_found"), identity
            assert answer.outcome == "not_started"


async def test_the_connection_of_another_actor(serve: Serve, wire: Wire) -> None:
    async with at_home(serve) as (site, stream):
        other = (await site.resolve(get_or_create("counter", "b"))).body["i"]
        answer = await stream.post(increment(wire), stream.headers_of_message(actor=other))
        assert (answer.status, answer.code) == (400, "conn_not_found")
        assert (await site.call(get("counter", "b"), "increment")).output == 1


async def test_an_unknown_actor(serve: Serve, wire: Wire) -> None:
    """None is looked for on a host, nor started."""
    async with at_home(serve) as (_, stream):
        headers = stream.headers_of_message(actor="0123456789abcdef", conn="x")
        answer = await stream.post(increment(wire), headers)
        assert (answer.status, answer.code, answer.outcome) == (
            400,
            "actor_not_found",
            "not_started",
        )


async def test_a_wrong_token(serve: Serve, wire: Wire) -> None:
    async with at_home(serve) as (site, stream):
        right = stream.init_message["ct"]
        async with streaming(site, A) as other:
            for token in (right[:-1], right + "=", "", "é", other.init_message["ct"]):
                headers = stream.headers_of_message()
                sent = {**headers, "X-RivetKit-Conn-Token": token.encode("latin-1")}
                answer = await stream.post(increment(wire), sent)  # type: ignore[arg-type]
                assert (answer.status, answer.code) == (400, "incorrect_conn_token"), token
                assert answer.outcome == "not_started"
                assert right.encode() not in answer.raw


async def test_on_auth_lets_the_connection_in_and_the_token_its_messages(serve: Serve) -> None:
    """A.6: the intents of a connection; for a message the token is all there is."""
    site = await serve(ACTORS)
    guarded = get_or_create("guarded", "a")
    async with opening(site, site.headers(guarded, {"key": "bad"})) as stream:
        assert (await stream.refusal())["c"] == "unauthorized"
    assert (await site.resolve(get("guarded", "a"), params={"key": "good"})).code == (
        "actor_not_found"
    ), "who is refused creates nothing"
    for query, intents in (
        (guarded, ["connect", "create", "get"]),
        (get("guarded", "a"), ["connect", "get"]),
    ):
        async with streaming(site, query, {"key": "good"}) as stream:
            first = await stream.ask(0, "whoami")
            assert first["intents"] == intents
            assert first["path"].endswith("/registry/actors/connect/sse")
            assert await stream.ask(1, "whoami") == first


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
