"""`/actors/raw/http/{path}`: what the actor sees, and what its client gets."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from fastapi import FastAPI
from fastapi import Request as FastRequest
from gateway_raw import fetch, raw_connection
from gateway_wire import HIDDEN, JSON, NOT_FOUND, Serve, Wire, get, get_or_create
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from rivet_ray import Actor, NoConnection, UserError, action


@pytest.fixture
def wire() -> Wire:
    """Nothing here is said in an encoding of ours, but for errors."""
    return JSON


@dataclass
class State:
    count: int = 0
    hooks: list[str] = field(default_factory=list[str])


application = FastAPI()


@application.get("/app/items/{item}")
async def item(item: int, request: FastRequest) -> dict[str, Any]:
    request.state.actor.state.count += item
    return {"item": item, "count": request.state.actor.state.count, "auth": request.state.auth}


class Site(Actor[State]):
    public = True
    cancelled: ClassVar[asyncio.Event]
    waiting: ClassVar[asyncio.Event]

    def on_connect(self, conn: Any) -> None:
        self.state.hooks.append("connect")

    def on_disconnect(self, conn: Any) -> None:
        self.state.hooks.append("disconnect")

    @action
    def get_state(self) -> list[Any]:
        return [self.state.count, list(self.state.hooks)]

    async def on_fetch(self, request: Request) -> Any:
        path = request.url.path
        if path.startswith("/app/"):
            return application
        return await getattr(self, "fetch_" + path.strip("/").partition("/")[0])(request)

    async def fetch_seen(self, request: Request) -> dict[str, Any]:
        return {
            "method": request.method,
            "url": str(request.url),
            "path": request.url.path,
            "raw_path": request.scope["raw_path"].decode("latin-1"),
            "query": request.url.query,
            "headers": [
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, value in request.scope["headers"]
            ],
            "body": (await request.body()).hex(),
            "params": request.state.params,
            "auth": request.state.auth,
        }

    async def fetch_echo(self, request: Request) -> Response:
        return StreamingResponse(request.stream(), media_type="application/x-random")

    async def fetch_whole(self, request: Request) -> bytes:
        return await request.body()

    async def fetch_text(self, request: Request) -> str:
        return "grüße"

    async def fetch_list(self, request: Request) -> list[Any]:
        return [1, "two", None]

    async def fetch_teapot(self, request: Request) -> Response:
        response = PlainTextResponse("short and stout", 418, {"X-Pot": "tea"})
        response.headers["X-RivetKit-Outcome"] = "unknown"  # Who says so is the server.
        response.headers["X-RivetKit-Auth-Data"] = "{}"
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        response.headers.append("Connection", "X-Pot")
        response.headers.append("Keep-Alive", "timeout=99")
        return response

    async def fetch_nothing(self, request: Request) -> None:
        self.state.count += 1

    async def fetch_object(self, request: Request) -> Any:
        return 7

    async def fetch_unsendable(self, request: Request) -> Any:
        return {"it": object()}

    async def fetch_header(self, request: Request) -> Response:
        return Response("x", headers={"X-Evil": "a\r\nb"})

    async def fetch_silent(self, request: Request) -> Any:
        async def silent(scope: Any, receive: Any, send: Any) -> None:
            pass

        return silent

    async def fetch_boom(self, request: Request) -> Any:
        self.state.count += 1
        raise ValueError("the password is hunter2")

    async def fetch_fail(self, request: Request) -> Any:
        self.state.count += 1
        raise UserError("not that", code="no_such_thing", metadata={"why": 1})

    async def fetch_conn(self, request: Request) -> dict[str, Any]:
        try:
            return {"id": self.conn.id}
        except NoConnection:
            return {"none": len(self.conns)}

    async def fetch_empty(self, request: Request) -> Response:
        return Response(status_code=204)

    async def fetch_wait(self, request: Request) -> Any:
        self.state.count += 1
        Site.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if await request.is_disconnected():
                Site.cancelled.set()
            raise

    async def fetch_spoil(self, request: Request) -> str:
        self.state.count = object()  # type: ignore[assignment]
        return "spoilt"


class Plain(Actor[None]):
    public = True


ACTORS: dict[str, Any] = {"site": Site, "plain": Plain}
A = get_or_create("site", "a")


# --- What the actor sees ------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("mount", ["/registry", ""])
async def test_the_request_as_it_was_sent(serve: Serve, method: str, mount: str) -> None:
    site = await serve(ACTORS)
    body = b"" if method == "GET" else bytes(range(256))
    answer = await fetch(
        site, A, "/seen/a%2Fb//c/?x=%20y&x=2&=", method=method, mount=mount, content=body
    )
    assert answer.status_code == 200, answer.text
    seen = answer.json()
    assert seen["method"] == method
    assert seen["raw_path"] == "/seen/a%2Fb//c/"
    assert seen["path"] == "/seen/a/b//c/", "decoded, as ASGI has it"
    assert seen["query"] == "x=%20y&x=2&="
    assert seen["body"] == body.hex()


async def test_headers_of_the_wire_and_of_the_hop_are_not_the_actors(serve: Serve) -> None:
    """A.8: what only the inside may say is never believed of a client."""
    site = await serve(ACTORS)
    answer = await fetch(
        site,
        A,
        "/seen",
        headers={
            "X-RivetKit-Auth-Data": '{"admin": true}',
            "X-RivetKit-Expose-Internal-Error": "true",
            "X-RivetKit-Encoding": "json",
            "X-RivetKit-Conn-Params": '{"a": 1}',
            "X-RivetKit-Conn-Seen": "3",
            "X-RivetKit-Outcome": "unknown",
            "X_RivetKit_Auth_Data": "{}",
            "X-RivetKit_Auth-Data": "{}",
            "X-AC-Auth-Data": "{}",
            "X-AC-Expose-Internal-Error": "true",
            "X-AC-Query": "{}",
            "X-Mine": "kept",
            "Authorization": "Bearer kept",
            "Cookie": "kept=1",
            "TE": "trailers",
            "Accept": "text/x",
        },
    )
    seen = answer.json()
    names = [name for name, _ in seen["headers"]]
    assert not [name for name in names if "rivetkit" in name or "x-ac" in name], names
    assert not {"te", "connection", "keep-alive", "transfer-encoding"} & set(names), names
    assert ["x-mine", "kept"] in seen["headers"]
    assert ["authorization", "Bearer kept"] in seen["headers"]
    assert ["cookie", "kept=1"] in seen["headers"]
    assert (seen["auth"], seen["params"]) == (None, {"a": 1})


async def test_no_connection_and_no_hook_of_one(serve: Serve) -> None:
    """A.7b: a raw request neither creates a connection nor runs its hooks."""
    site = await serve(ACTORS)
    answer = await fetch(site, A, "/conn")
    assert answer.json() == {"none": 0}
    assert (await site.call(A, "get_state")).output == [0, ["connect"]]


# --- What the client gets -----------------------------------------------------


async def test_the_response_as_the_actor_gave_it(serve: Serve) -> None:
    site = await serve(ACTORS)
    answer = await fetch(site, A, "/teapot")
    assert (answer.status_code, answer.text) == (418, "short and stout")
    assert answer.headers["x-pot"] == "tea"
    assert answer.headers.get_list("set-cookie") == [
        "a=1; Path=/; SameSite=lax",
        "b=2; Path=/; SameSite=lax",
    ]
    assert "keep-alive" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("x-rivetkit")]


async def test_text_bytes_and_json(serve: Serve) -> None:
    site = await serve(ACTORS)
    text = await fetch(site, A, "/text")
    assert (text.content, text.headers["content-type"]) == (
        "grüße".encode(),
        "text/plain; charset=utf-8",
    )
    data = os.urandom(1000)
    whole = await fetch(site, A, "/whole", method="POST", content=data)
    assert (whole.content, whole.headers["content-type"]) == (data, "application/octet-stream")
    listed = await fetch(site, A, "/list")
    assert (listed.json(), listed.headers["content-type"]) == ([1, "two", None], "application/json")
    assert (await fetch(site, A, "/empty")).status_code == 204


async def test_head_has_no_body(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with raw_connection(site) as raw:
        await raw.head(A, "/text", "HEAD")
        assert await raw.answer() == 200
        assert dict(raw.headers)["content-length"] == str(len("grüße".encode()))
        # The next answer stands directly behind: there was no body.
        await raw.head(A, "/teapot")
        assert await raw.answer() == 418


async def test_an_asgi_application_answers(serve: Serve) -> None:
    """Its routes find the actor in `request.state`; what they change is saved."""
    site = await serve(ACTORS)
    for count in (5, 10):
        answer = await fetch(site, A, "/app/items/5")
        assert answer.json() == {"item": 5, "count": count, "auth": None}
    assert (await fetch(site, A, "/app/items/five")).status_code == 422
    assert (await fetch(site, A, "/app/none")).status_code == 404
    assert (await site.call(A, "get_state")).output[0] == 10


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 1_000_000])
async def test_random_bodies_both_ways(serve: Serve, size: int) -> None:
    site = await serve(ACTORS)
    body = os.urandom(size)
    for path in ("/echo", "/whole"):
        answer = await fetch(site, A, path, method="POST", content=body)
        assert answer.content == body


async def test_many_at_once(serve: Serve) -> None:
    site = await serve(ACTORS)

    async def one(number: int) -> None:
        body = os.urandom(200_000 + number)
        query = get_or_create("site", str(number % 5))
        assert (await fetch(site, query, "/echo", method="PUT", content=body)).content == body

    await asyncio.gather(*(one(number) for number in range(40)))


# --- What goes wrong ----------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "code", "outcome"),
    [
        ("/nothing", 500, "invalid_fetch_response", "took_effect"),
        ("/object", 500, "invalid_fetch_response", "took_effect"),
        ("/unsendable", 500, "invalid_fetch_response", "took_effect"),
        ("/header", 500, "invalid_fetch_response", "took_effect"),
        ("/silent", 500, "invalid_fetch_response", "took_effect"),
        ("/boom", 500, "internal_error", "took_effect"),
        ("/fail", 400, "no_such_thing", "took_effect"),
        ("/spoil", 500, "internal_error", "took_effect"),
    ],
)
async def test_errors_of_the_handler(
    serve: Serve, path: str, status: int, code: str, outcome: str
) -> None:
    """C8, C10: typed, with what is known of the effect, and without hidden text."""
    site = await serve(ACTORS)
    answer = await fetch(site, A, path)
    assert (answer.status_code, answer.json()["c"]) == (status, code), answer.text
    assert answer.headers["x-rivetkit-outcome"] == outcome
    assert "hunter2" not in answer.text
    if code == "internal_error":
        assert answer.json()["m"] == HIDDEN
    kept = {"/nothing": 1, "/boom": 1, "/fail": 1}.get(path, 0)
    assert (await site.call(A, "get_state")).output[0] == kept, "what it changed is kept"


async def test_no_handler(serve: Serve) -> None:
    site = await serve(ACTORS)
    answer = await fetch(site, get_or_create("plain", "a"))
    assert (answer.status_code, answer.json()["c"]) == (404, "fetch_handler_not_defined")
    assert answer.headers["x-rivetkit-outcome"] == "not_started"


async def test_no_actor(serve: Serve) -> None:
    site = await serve(ACTORS)
    for query in (get("site", "missing"), get_or_create("nobody", "a")):
        answer = await fetch(site, query)
        assert (answer.status_code, answer.json()["c"]) == (400, "actor_not_found")


async def test_a_query_is_required(serve: Serve) -> None:
    site = await serve(ACTORS)
    answer = await site.http.get(f"http://{site.address}/registry/actors/raw/http/seen")
    assert (answer.status_code, answer.json()["c"]) == (400, "invalid_request")
    assert (await fetch(site, "{")).json()["c"] == "invalid_query_json"


async def test_other_methods_are_not_served(serve: Serve) -> None:
    site = await serve(ACTORS)
    answer = await fetch(site, A, "/seen", method="TRACE")
    assert (answer.status_code, answer.text) in ((404, NOT_FOUND), (405, answer.text))


async def test_a_client_that_leaves_ends_the_handler(serve: Serve) -> None:
    site = await serve(ACTORS)
    Site.cancelled, Site.waiting = asyncio.Event(), asyncio.Event()
    async with raw_connection(site) as raw:
        await raw.head(A, "/wait")
        async with asyncio.timeout(3):
            await Site.waiting.wait()
        raw.abort()
        async with asyncio.timeout(3):
            await Site.cancelled.wait()
    assert (await site.call(A, "get_state")).output[0] == 1, "what it changed is kept"
