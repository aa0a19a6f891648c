"""Calls over HTTP: what is sent, and what comes back as which error."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import msgspec
import pytest
from client_servers import Answer, Counter, Point, Request, failure, http_server, output

from rivet_ray import errors
from rivet_ray.client import Client
from rivet_ray.client.addresses import registry_url
from rivet_ray.client.http import plain_json
from rivet_ray.client.interface import UnexpectedValue
from rivet_ray.errors import Outcome
from rivet_ray.protocol import v0, values
from rivet_ray.protocol.queries import Create, GetById, GetByKey, GetOrCreate, decode_query

both_encodings = pytest.mark.parametrize("encoding", ["json", "cbor"])


async def count(request: Request) -> Answer:
    if request.path.endswith("/resolve"):
        return Answer(v0.encode_resolved(request.encoding, "0123456789abcdef"))
    return output(request, 5)


@both_encodings
async def test_an_action_is_one_post(encoding: str) -> None:
    async with http_server(count) as server, Client(server.url, encoding=encoding) as client:
        handle = client.accessor("counter", Counter).get_or_create(["a", "b"])
        assert await handle.increment(amount=5) == 5
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/registry/actors/actions/increment")
    assert request.arguments == [5]
    assert decode_query(request.headers["x-rivetkit-query"]) == GetOrCreate("counter", ["a", "b"])
    assert request.headers["x-rivetkit-encoding"] == encoding
    assert request.headers["content-type"] == (
        "application/json" if encoding == "json" else "application/octet-stream"
    )
    assert request.headers["user-agent"].startswith("rivet_ray/")
    assert "x-rivetkit-conn-params" not in request.headers


async def test_the_path_of_a_url_is_kept() -> None:
    async with http_server(count) as server, Client(f"{server.url}/t/x/") as client:
        await client.actor("counter").call("a/b ü")
    assert server.requests[0].path == "/t/x/registry/actors/actions/a%2Fb%20%C3%BC"


@pytest.mark.parametrize("url", ["localhost:8080", "ws://localhost", "", "http://"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="looks like http://localhost:8080"):
        registry_url(url)


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="json, cbor"):
        Client(encoding="xml")


@pytest.mark.parametrize("key", ["Zähler", "日本", "😀", "\x7f", '"\\\n'])
async def test_keys_and_params_beyond_ascii_survive_headers(key: str) -> None:
    async with http_server(count) as server, Client(server.url) as client:
        await client.actor("counter", key, params={"name": key}).call("increment")
    headers = server.requests[0].headers
    assert decode_query(headers["x-rivetkit-query"]) == GetOrCreate("counter", [key])
    assert json.loads(headers["x-rivetkit-conn-params"]) == {"name": key}


def test_plain_json_escapes_as_utf_16() -> None:
    assert plain_json('"aé😀"') == '"a\\u00e9\\ud83d\\ude00"'


async def test_each_way_to_an_actor_sends_its_query() -> None:
    async with http_server(count) as server, Client(server.url) as client:
        counters = client.accessor("counter", Counter)
        await counters.get("k").increment()
        await counters.get_or_create("k", {"x": 1, "y": 2}, region="eu").increment()
        created = await counters.create("k", {"x": 1})
        await created.increment()
        await counters.get_with_id("42").increment()
        await client.get("counter", "k").call("increment")
        await (await client.create("counter", "k", [1])).call("increment")
        await client.get_with_id("42").call("increment")
    queries = [decode_query(request.headers["x-rivetkit-query"]) for request in server.requests]
    by_id = GetById("0123456789abcdef")
    assert queries == [
        GetByKey("counter", ["k"]),
        GetOrCreate("counter", ["k"], msgspec.Raw(b'{"x":1,"y":2}'), "eu"),
        Create("counter", ["k"], msgspec.Raw(b'{"x":1}')),
        by_id,
        GetById("42"),
        GetByKey("counter", ["k"]),
        Create("counter", ["k"], msgspec.Raw(b"[1]")),
        by_id,
        GetById("42"),
    ]


async def test_resolve_asks_once_and_fixes_the_handle() -> None:
    async with http_server(count) as server, Client(server.url) as client:
        handle = client.accessor("counter", Counter).get_or_create("k")
        assert await handle.resolve() == "0123456789abcdef"
        assert await handle.resolve() == "0123456789abcdef"
        await handle.increment(1)
    assert [request.path.rpartition("/")[2] for request in server.requests] == [
        "resolve",
        "increment",
    ]
    query = decode_query(server.requests[1].headers["x-rivetkit-query"])
    assert query == GetById("0123456789abcdef")


async def test_a_key_that_is_too_long_is_refused_at_once() -> None:
    async with Client() as client:
        with pytest.raises(errors.InvalidRequest):
            client.actor("counter", "k" * 129)


@both_encodings
async def test_results_become_what_the_class_declares(encoding: str) -> None:
    async def respond(request: Request) -> Answer:
        return output(request, {"x": 1, "y": 2})

    async with http_server(respond) as server, Client(server.url, encoding=encoding) as client:
        handle = client.accessor("counter", Counter).get("k")
        assert await handle.where("me") == Point(1, 2)
        untyped = client.get("counter", "k")
        assert await untyped.call(Counter.where, "me", offset=3) == Point(1, 2)
        assert await untyped.call("whereIs", "me") == {"x": 1, "y": 2}
        with pytest.raises(UnexpectedValue, match=r"Counter\.increment .* no int") as caught:
            await handle.increment(1)
    assert isinstance(caught.value, TypeError)
    assert caught.value.outcome is Outcome.TOOK_EFFECT
    assert server.requests[0].path.endswith("/whereIs")
    assert server.requests[1].arguments == ["me", 1, 3]


@both_encodings
async def test_no_output_is_none(encoding: str) -> None:
    async def respond(request: Request) -> Answer:
        return Answer(v0.encode_action_response(request.encoding, None))

    async with http_server(respond) as server, Client(server.url, encoding=encoding) as client:
        assert await client.accessor("counter", Counter).get("k").reset() is None
        assert await client.get("counter", "k").call("reset") is None


# --- Errors ---------------------------------------------------------------------


@both_encodings
@pytest.mark.parametrize(
    ("status", "code", "kind", "outcome"),
    [
        (400, "actor_not_found", errors.ActorNotFound, Outcome.NOT_STARTED),
        (403, "forbidden", errors.Forbidden, Outcome.NOT_STARTED),
        (500, "internal_error", errors.InternalError, Outcome.TOOK_EFFECT),
        (400, "too_rich", errors.UserError, Outcome.TOOK_EFFECT),
        (503, "actor_stopped", errors.ActorStopped, Outcome.UNKNOWN),
    ],
)
async def test_an_error_is_rebuilt_as_its_class(
    encoding: str, status: int, code: str, kind: type[errors.RivetError], outcome: Outcome
) -> None:
    async def respond(request: Request) -> Answer:
        message = v0.ErrorMessage(code, "No.", values.encode({"a": [1]}))
        return failure(request, status, message, **{v0.OUTCOME_HEADER: outcome.value})

    async with http_server(respond) as server, Client(server.url, encoding=encoding) as client:
        with pytest.raises(kind) as caught:
            await client.actor("counter").call("increment")
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert (caught.value.message, caught.value.metadata) == ("No.", {"a": [1]})
    assert caught.value.outcome is outcome


async def test_an_error_in_json_is_read_under_cbor() -> None:
    async def respond(request: Request) -> Answer:
        return Answer(
            b'{"c":"forbidden","m":"No."}', 403, {"Content-Type": "application/json; charset=x"}
        )

    async with http_server(respond) as server, Client(server.url, encoding="cbor") as client:
        with pytest.raises(errors.Forbidden) as caught:
            await client.actor("counter").call("increment")
    assert caught.value.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("status", [200, 302, 404, 502])
async def test_an_answer_of_something_else_is_unknown(status: int) -> None:
    async def respond(request: Request) -> Answer:
        return Answer(b"<html>Bad gateway</html>", status, {"Content-Type": "text/html"})

    async with http_server(respond) as server, Client(server.url) as client:
        with pytest.raises(errors.RequestFailed) as caught:
            await client.actor("counter").call("increment")
        with pytest.raises(errors.RequestFailed):
            await client.actor("counter").resolve()
    assert caught.value.outcome is Outcome.UNKNOWN
    if status != 200:
        assert str(status) in caught.value.message


async def test_a_refused_connection_never_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    async with Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(errors.RequestFailed, match="rivet-ray dev") as caught:
            await client.actor("counter").call("increment")
    assert caught.value.outcome is Outcome.NOT_STARTED


async def test_a_connection_cut_before_the_answer_is_unknown() -> None:
    async def respond(request: Request) -> Answer | None:
        return None

    async with http_server(respond) as server, Client(server.url) as client:
        with pytest.raises(errors.RequestFailed) as caught:
            await client.actor("counter").call("increment")
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_no_answer_in_time_is_unknown() -> None:
    async def respond(request: Request) -> Answer | None:
        await asyncio.Event().wait()
        return None

    async with http_server(respond) as server, Client(server.url, timeout=0.1) as client:
        with pytest.raises(errors.RequestFailed, match=r"0\.1 s") as caught:
            await client.actor("counter").call("increment")
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_closed_client_fails_fast() -> None:
    client = Client()
    await client.aclose()
    await client.aclose()
    with pytest.raises(errors.RequestFailed, match="closed") as caught:
        await client.actor("counter").call("increment")
    assert caught.value.outcome is Outcome.NOT_STARTED


async def test_many_calls_at_once() -> None:
    async def respond(request: Request) -> Answer:
        return output(request, request.arguments[0])

    async with http_server(respond) as server, Client(server.url) as client:
        handle = client.actor("counter")
        answers: list[Any] = await asyncio.gather(
            *(handle.call("increment", number) for number in range(300))
        )
    assert answers == list(range(300))
