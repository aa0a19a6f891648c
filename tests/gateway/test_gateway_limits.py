"""The documented limits, each to the byte and with its error.

Those of messages on connections are in test_gateway_websocket_ends and test_gateway_messages.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from gateway_streams import opening
from gateway_wire import PATIENCE, RawText, Serve, Site, get, get_or_create

from rivet_ray import Actor, action
from rivet_ray.client.client import Client
from rivet_ray.errors import InvalidRequest
from rivet_ray.gateway import GatewaySettings
from rivet_ray.ids import MAX_KEY_PART

MEBIBYTE = 1024 * 1024


class Sizes(Actor[None]):
    public = True

    @action
    def params(self) -> int:
        return len(self.conn.params)

    @action
    def length(self, text: str) -> int:
        return len(text)


class Closed(Actor[None]):
    """Neither `public` nor with `on_auth`."""


TIMED_OUT = b"action_timed_out"
ACTORS = {"sizes": Sizes}
A = get_or_create("sizes", "a")


def test_the_defaults() -> None:
    settings = GatewaySettings()
    assert settings.max_incoming_message_size == 64 * 1024
    assert settings.max_body_size == 20 * MEBIBYTE
    assert settings.max_params_size == 4 * 1024
    assert MAX_KEY_PART == 128


# --- Connection parameters ------------------------------------------------------------


async def errors(site: Site, query: Any, text: str) -> dict[str, tuple[Any, ...]]:
    """What each route says to parameters, or a key, that it refuses: code and outcome."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, answer in (
        ("action", await site.call(query, "params", conn_params=text)),
        ("resolve", await site.resolve(query, conn_params=text)),
    ):
        found[name] = answer.status, answer.code, answer.outcome
    async with opening(site, site.headers(query, conn_params=text)) as stream:
        found["sse"] = ((await stream.refusal())["c"],)
    async with site.connecting(query, RawText(text)) as socket:
        code, reason, before = await socket.closed()
        found["websocket"] = code, reason, [message["e"]["c"] for message in before]
    return found


def refused(code: str) -> dict[str, tuple[Any, ...]]:
    return {
        "action": (400, code, "not_started"),
        "resolve": (400, code, "not_started"),
        "sse": (code,),
        "websocket": (1011, code, [code]),
    }


@pytest.mark.parametrize("limit", [4_096, 100])
async def test_the_longest_parameters(serve: Serve, limit: int) -> None:
    site = await serve(ACTORS, settings=GatewaySettings(max_params_size=limit))
    longest = json.dumps("x" * (limit - 2))
    assert len(longest) == limit
    assert (await site.call(A, "params", conn_params=longest)).output == limit - 2
    assert (await site.resolve(A, conn_params=longest)).status == 200
    async with opening(site, site.headers(A, conn_params=longest)) as stream:
        await stream.init()
        assert await stream.ask(0, "params") == limit - 2
    async with site.connect(A, RawText(longest)) as socket:
        assert await socket.ask(0, "params") == limit - 2
    assert await errors(site, A, json.dumps("x" * (limit - 1))) == refused("invalid_params")


async def test_parameters_are_measured_as_the_shortest_json(serve: Serve) -> None:
    """However they are written: in a header what is not ASCII is escaped."""
    limit = 100
    site = await serve(ACTORS, settings=GatewaySettings(max_params_size=limit))
    for text, length in (
        (json.dumps("é" * 49), 49),
        (json.dumps("😀" * 24), 24),
        ('"' + "\\u0041" * 98 + '"', 98),
        (json.dumps([0] * 49, separators=(",    ", "")), 49),
        ("[" + " " * (6 * limit - 3) + "1]", 1),
    ):
        assert (await site.call(A, "params", conn_params=text)).output == length
        assert (await site.resolve(A, conn_params=text)).status == 200
        async with opening(site, site.headers(A, conn_params=text)) as stream:
            await stream.init()
            assert await stream.ask(0, "params") == length
        async with site.connect(A, RawText(text)) as socket:
            assert await socket.ask(0, "params") == length
    async with site.connect(A, RawText('"' + "é" * 49 + '"')) as socket:
        assert await socket.ask(0, "params") == 49
    for text in (
        json.dumps("é" * 50),
        json.dumps("😀" * 25),
        "[" + ",".join(["1e5"] * 20) + "]",  # 100000.0 each
        "[" + " " * (6 * limit - 2) + "1]",
    ):
        assert await errors(site, A, text) == refused("invalid_params")


# --- Bodies -----------------------------------------------------------------------------


async def test_the_longest_body(serve: Serve) -> None:
    site = await serve(ACTORS)
    limit = 20 * MEBIBYTE
    room = limit - len(site.wire.dumps({"a": ["x" * 70_000]})) + 70_000
    body = site.wire.dumps({"a": ["x" * room]})
    assert len(body) == limit
    answer = await site.post("/actors/actions/length", site.headers(A), body)
    assert answer.output == room
    body = site.wire.dumps({"a": ["x" * (room + 1)]})
    answer = await site.post("/actors/actions/length", site.headers(A), body)
    assert (answer.status, answer.code, answer.outcome) == (
        413,
        "message_too_long",
        "not_started",
    )
    assert (await site.call(A, "length", "abc")).output == 3


# --- Keys -------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["x" * 129, "\U0001f600" * 65])
async def test_key_parts_that_are_too_long(serve: Serve, part: str) -> None:
    site = await serve(ACTORS)
    for query in (get_or_create("sizes", part), get("sizes", "fine", part)):
        assert await errors(site, query, '"x"') == refused("invalid_request")


async def test_the_longest_key_part_on_connections(serve: Serve) -> None:
    site = await serve(ACTORS)
    query = get_or_create("sizes", "\U0001f600" * 64, "x" * 128)
    async with site.connect(query) as socket:
        assert await socket.ask(0, "length", "abc") == 3
    async with opening(site, site.headers(query)) as stream:
        await stream.init()


async def test_the_client_says_it_before_it_asks() -> None:
    async with Client("http://127.0.0.1:9") as client:
        with pytest.raises(InvalidRequest, match="128"):
            client.actor("sizes", "x" * 129)


# --- A body that does not come --------------------------------------------------------


@pytest.mark.parametrize("port", ["direct"])
async def test_a_body_that_does_not_come(serve: Serve) -> None:
    """Who may call is told after a while; nobody waits for the body of who may not."""
    site = await serve({**ACTORS, "closed": Closed}, settings=GatewaySettings(body_timeout=0.3))
    for query, code, least in ((get_or_create("closed"), b"forbidden", 0.0), (A, TIMED_OUT, 0.3)):
        host, _, port = site.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        headers = {**site.headers(query), "Host": host, "Content-Length": "100"}
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = ["POST /registry/actors/actions/params HTTP/1.1", *lines, "", ""]
        started = asyncio.get_running_loop().time()
        writer.write("\r\n".join(head).encode() + b"\x00")
        async with asyncio.timeout(PATIENCE):
            answer = await reader.readuntil(code)
        took = asyncio.get_running_loop().time() - started
        assert b"x-rivetkit-outcome: not_started" in answer
        assert least <= took < least + PATIENCE / 2
        writer.close()
