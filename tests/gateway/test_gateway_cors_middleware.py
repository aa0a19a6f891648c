"""`CrossOrigin` alone, and beside a middleware of the user's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount
from starlette.types import Message, Receive, Scope, Send

from examples.counter import App
from rivet_ray import ALLOWED_PUBLIC_HEADERS, CORS
from rivet_ray.gateway.cors import CrossOrigin

APP = "https://app.example.com"
OTHER = "https://other.example.com"


def scope(path: str = "/x", method: str = "GET", origin: str | None = APP) -> Scope:
    headers = [] if origin is None else [(b"origin", origin.encode())]
    return {"type": "http", "method": method, "path": path, "scheme": "http", "headers": headers}


async def nothing() -> Message:
    raise AssertionError("nobody reads the request")


async def test_a_stream_is_not_held_back() -> None:
    """Each part leaves before the next one is made, and is the very same object."""
    go_on = asyncio.Event()
    parts = [{"type": "http.response.body", "body": b"%d" % n, "more_body": True} for n in range(3)]

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in parts:
            await send(part)
            await go_on.wait()
            go_on.clear()

    sent: asyncio.Queue[Message] = asyncio.Queue()
    app = CrossOrigin(stream, CORS(APP))
    running = asyncio.ensure_future(app(scope(), nothing, sent.put))
    start = await sent.get()
    assert (b"access-control-allow-origin", b"https://app.example.com") in start["headers"]
    for part in parts:
        assert await sent.get() is part
        assert sent.empty()
        go_on.set()
    await running


async def test_an_actors_own_headers_do_not_widen_it() -> None:
    """What `on_fetch` of an actor may answer: once each, as the registry has it, Vary kept."""

    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"Access-Control-Allow-Origin", b"*"),
            (b"access-control-allow-credentials", b"true"),
            (b"vary", b"Accept-Encoding"),
            (b"x-own", b"1"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    for origin, allowed in ((APP, [APP.encode()]), (None, [])):
        sent: list[Message] = []

        async def keep(message: Message, to: list[Message] = sent) -> None:
            to.append(message)

        await CrossOrigin(own, CORS(APP))(scope(origin=origin), nothing, keep)
        found: list[tuple[bytes, bytes]] = sent[0]["headers"]
        lower = [(name.lower(), value) for name, value in found]
        assert [v for n, v in lower if n == b"access-control-allow-origin"] == allowed
        assert [v for n, v in lower if n == b"vary"] == [b"Accept-Encoding", b"Origin"]
        assert (b"x-own", b"1") in found


async def test_a_function_that_hangs_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rivet_ray.gateway.origins.PATIENCE", 0.01)

    async def hangs(origin: str) -> bool:
        await asyncio.Event().wait()
        return True

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    await CrossOrigin(app, CORS(hangs))(scope(), nothing, keep)
    assert sent[0]["status"] == 403
    assert sent[0]["headers"][-1] == (b"vary", b"Origin")


async def test_a_repeated_origin_is_none() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    twice = {**scope(), "headers": [(b"origin", APP.encode()), (b"origin", b"https://evil")]}
    await CrossOrigin(app, CORS(APP))(twice, nothing, keep)
    assert sent[0]["status"] == 403
    assert sent[0]["headers"][-1] == (b"vary", b"Origin")


# --- In an application that has CORS of its own -----------------------------------------


async def asked(cors: CORS | None, origin: str, method: str = "POST") -> httpx.Response:
    """The gateway mounted, as the documentation shows it, below Starlette's middleware."""
    server = App.create_server(store="memory://", cors=cors)
    outside = Middleware(
        CORSMiddleware,
        allow_origins=[APP],
        allow_methods=["GET", "POST", "OPTIONS"],
        allow_headers=[*ALLOWED_PUBLIC_HEADERS, "Authorization"],
        allow_credentials=True,
    )
    app = Starlette(routes=[Mount("/registry", server.handler)], middleware=[outside])
    query = json.dumps({"getOrCreateForKey": {"name": "counter", "key": ["a"]}})
    headers = {"Origin": origin, "X-RivetKit-Encoding": "json", "X-RivetKit-Query": query}
    if method == "OPTIONS":
        wanted = ",".join(name.lower() for name in ALLOWED_PUBLIC_HEADERS)
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": wanted,
        }
    transport = httpx.ASGITransport(app)
    async with (
        server.handler.router.lifespan_context(server.handler),
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        return await http.request(
            method, "/registry/actors/actions/increment", headers=headers, content=b'{"a":[1]}'
        )


def permissions(answer: httpx.Response) -> list[str]:
    found: Any = answer.headers.get_list("access-control-allow-origin")
    return list(found)


@pytest.mark.parametrize("cors", [None, CORS(APP)], ids=["outside", "both"])
async def test_a_middleware_around_it(cors: CORS | None) -> None:
    """The recommended way; and where the registry has CORS too, nothing is said twice."""
    answer = await asked(cors, APP)
    assert answer.json() == {"o": 1}
    assert permissions(answer) == [APP]
    assert answer.headers.get_list("access-control-allow-credentials") == ["true"]
    asking = await asked(cors, APP, "OPTIONS")
    assert asking.status_code == 200
    assert permissions(asking) == [APP]
    refused = await asked(cors, OTHER)
    assert (refused.status_code, permissions(refused)) == (403, [])
