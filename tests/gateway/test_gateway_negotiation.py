"""Routes and headers: what a request must say, and what it is told otherwise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from gateway_wire import NOT_FOUND, Answer, Serve, Site, Wire, by_id, get_or_create

from examples.counter import App
from rivet_ray import Actor, action


@dataclass
class State:
    count: int = 0


class Counter(Actor[State]):
    public = True

    @action
    def add(self, amount: int = 1) -> int:
        self.state.count += amount
        return self.state.count

    @action
    def params(self) -> Any:
        return self.conn.params


class Private(Actor[State]):
    @action
    def add(self) -> int:
        return 1


ACTORS = {"counter": Counter, "private": Private}
A = get_or_create("counter", "a")

# --- Routes -----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/registry", "/registry/"])
async def test_banner(serve: Serve, path: str) -> None:
    site = await serve(ACTORS)
    answer = await site.post(path, {}, method="GET")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert len(answer.raw.decode().strip().splitlines()) == 2
    assert "RivetKit registry" in answer.raw.decode()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nope"),
        ("POST", "/registry/nope"),
        ("POST", "/registry/health"),
        ("GET", "/actors/resolve"),
        ("PUT", "/registry/actors/resolve"),
        ("GET", "/registry/actors/actions/add"),
        ("DELETE", "/actors/actions/add"),
        ("POST", "/actors/actions"),
        ("POST", "/actors/actions/"),
        ("POST", "/actors/actions/add/more"),
        ("POST", "/actors"),
        ("GET", "/actors"),
        ("DELETE", "/actors/704e99e868244ebb"),
        ("POST", "/registry/registry/actors/resolve"),
        ("GET", "/actors/connect/websocket"),
        ("POST", "/registry/actors/connect/websocket"),
        ("GET", "/registry/../etc/passwd"),
        ("POST", "/"),
        ("PUT", "/registry"),
        ("DELETE", "/registry/"),
    ],
)
async def test_everything_else_is_not_found(serve: Serve, method: str, path: str) -> None:
    site = await serve(ACTORS)
    answer = await site.post(path, site.headers(A), b"", method=method)
    assert (answer.status, answer.raw.decode()) == (404, NOT_FOUND)
    assert answer.headers["content-type"].startswith("text/plain")


# --- Encoding ---------------------------------------------------------------------


def assert_missing(answer: Answer, *headers: str) -> None:
    """A.1.3: the report of the original's header validation, always JSON."""
    assert answer.status == 400
    assert answer.headers["content-type"].partition(";")[0] == "application/json"
    report = json.loads(answer.raw)
    assert report["success"] is False
    assert report["error"]["name"] == "ZodError"
    missing = {str(issue["path"][0]).lower() for issue in report["error"]["issues"]}
    assert missing == {header.lower() for header in headers}


async def test_a_missing_encoding(serve: Serve) -> None:
    site = await serve(ACTORS)
    assert_missing(await site.call(A, "add", encoding=None), "X-RivetKit-Encoding")
    assert_missing(await site.resolve(A, encoding=None), "X-RivetKit-Encoding")
    assert_missing(
        await site.post("/actors/resolve", {}, b"{}"), "X-RivetKit-Encoding", "X-RivetKit-Query"
    )
    assert_missing(await site.resolve(A, query=None), "X-RivetKit-Query")


@pytest.mark.parametrize("encoding", ["bare", "", "Json", "json,cbor", "xml"])
async def test_an_unknown_encoding(serve: Serve, encoding: str) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, "add", encoding=encoding)
    assert answer.status == 400
    assert json.loads(answer.raw)["c"] == "invalid_request"
    assert answer.outcome == "not_started"
    answer = await site.resolve(A, encoding=encoding)
    assert answer.status == 400
    assert json.loads(answer.raw)["c"] == "invalid_encoding"


async def test_errors_come_in_the_encoding_of_the_request(serve: Serve, wire: Wire) -> None:
    site = await serve(ACTORS)
    answer = await site.call(get_or_create("nobody"), "add")
    assert wire.loads(answer.raw)["c"] == "actor_not_found"
    if wire.name == "cbor":
        assert not answer.headers["content-type"].startswith("application/json")


# --- Query ------------------------------------------------------------------------


async def test_a_missing_query(serve: Serve) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, "add", query=None)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert answer.outcome == "not_started"


@pytest.mark.parametrize("query", ["", "{", "nope", "{'a':1}", '{"getForId":{"actorId":"a"}'])
async def test_a_query_that_is_not_json(serve: Serve, query: str) -> None:
    site = await serve(ACTORS)
    for answer in (await site.call(query, "add"), await site.resolve(query)):
        assert (answer.status, answer.code) == (400, "invalid_query_json")


@pytest.mark.parametrize(
    "query",
    [
        {},
        [],
        None,
        7,
        {"other": {}},
        {"getForKey": None},
        {"getForKey": {"name": "counter"}},
        {"getForKey": {"name": "counter", "key": "a"}},
        {"getForKey": {"name": "counter", "key": [1]}},
        {"getForKey": {"name": "counter", "key": [None]}},
        {"getForKey": {"name": 1, "key": []}},
        {"getForId": {}},
        {"getForId": {"actorId": 5}},
        {**get_or_create("counter", "a"), **by_id("704e99e868244ebb")},
        get_or_create("counter", "x" * 129),
        get_or_create("counter", "fine", "x" * 129),
        get_or_create("counter", "\U0001f600" * 65),
        {"create": {"name": "counter", "key": ["x" * 129]}},
        {"getForKey": {"name": "counter", "key": ["x" * 129]}},
    ],
    ids=lambda query: json.dumps(query)[:40],
)
async def test_json_that_is_no_query(serve: Serve, query: Any) -> None:
    site = await serve(ACTORS)
    for answer in (await site.call(query, "add"), await site.resolve(query)):
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert answer.outcome == "not_started"


async def test_the_longest_key_parts(serve: Serve) -> None:
    """A.5: 128 UTF-16 units."""
    site = await serve(ACTORS)
    for part in ("x" * 128, "\U0001f600" * 64, "é" * 128):
        assert (await site.call(get_or_create("counter", part), "add")).output == 1


# --- Parameters -------------------------------------------------------------------


async def test_parameters_reach_the_actor_parsed(serve: Serve) -> None:
    site = await serve(ACTORS)
    for params in ({"token": ["é", 1, None]}, 0, "", False, "text", None):
        assert (await site.call(A, "params", params=params)).output == params
    assert (await site.call(A, "params")).output is None


@pytest.mark.parametrize("charset", ["latin-1", "utf-8"])
async def test_headers_that_are_not_ascii(serve: Serve, wire: Wire, charset: str) -> None:
    """`fetch` writes headers as Latin-1, other clients write UTF-8: the actor is the same."""
    site = await serve(ACTORS)
    query, params = get_or_create("counter", "café"), {"name": "José"}
    assert (await site.call(query, "add", 3)).output == 3
    for name, expected in (("add", 3), ("params", params)):
        headers = {
            **site.headers(query),
            "X-RivetKit-Query": json.dumps(query, ensure_ascii=False),
            "X-RivetKit-Conn-Params": json.dumps(params, ensure_ascii=False),
        }
        answer = await site.http.post(
            f"http://{site.address}/registry/actors/actions/{name}",
            headers=[(key.encode(), value.encode(charset)) for key, value in headers.items()],
            content=wire.dumps({"a": [0] if name == "add" else []}),
        )
        assert wire.loads(answer.content) == {"o": expected}


@pytest.mark.parametrize("text", ["", "{", "undefined", "{'a': 1}", "1e999", "9" * 400, "[" * 4000])
async def test_parameters_that_are_not_json(serve: Serve, text: str) -> None:
    site = await serve(ACTORS)
    answers = (
        await site.call(A, "add", conn_params=text),
        await site.resolve(A, conn_params=text),
    )
    for answer in answers:
        assert (answer.status, answer.code) == (400, "invalid_params")
        assert answer.outcome == "not_started"


async def test_an_actor_type_that_is_not_open(serve: Serve) -> None:
    site = await serve(ACTORS)
    query = get_or_create("private", "a")
    for answer in (await site.call(query, "add"), await site.resolve(query)):
        assert (answer.status, answer.code, answer.outcome) == (403, "forbidden", "not_started")


# --- As an application mounts it ----------------------------------------------------


async def test_mounted_into_another_application(wire: Wire, port: str) -> None:
    """`create_server().handler` under a path of somebody else's FastAPI app."""
    server = App.create_server(store="memory://")
    outer = FastAPI()
    outer.mount("/t/x", server.handler)
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport) as client:
        site = Site("host/t/x", wire, client)
        assert (await site.call(A, "increment", 4)).output == 4
        assert (await site.resolve(A, mount="")).body == {"i": "704e99e868244ebb"}
        assert (await site.call(get_or_create("nobody"), "x")).code == "actor_not_found"
        assert await server.client.counter.get("a").get_count() == 4
    await server.client.aclose()
