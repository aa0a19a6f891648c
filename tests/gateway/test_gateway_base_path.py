"""`GatewaySettings.base_path`, the `basePath` of wire-protocol.md, A.1."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_streams import streaming
from gateway_wire import NOT_FOUND, Serve, Site, get_or_create
from websockets.exceptions import InvalidStatus

from rivet_ray import CORS, Actor, Registry, action, use
from rivet_ray.gateway import GatewaySettings


class Counter(Actor[int]):
    public = True

    def create_state(self, input: Any) -> int:
        return 0

    @action
    def add(self, amount: int) -> int:
        self.state += amount
        return self.state


class App(Registry):
    counter = use(Counter)


ACTORS = {"counter": Counter}
A = get_or_create("counter", "a")
APP = "https://app.example.com"


async def based(serve: Serve, base: str, **options: Any) -> Site:
    return await serve(ACTORS, settings=GatewaySettings(base_path=base, **options))


@pytest.mark.parametrize("base", ["/api", "/t/x/"])
async def test_every_route_answers_below_it(serve: Serve, base: str) -> None:
    site = await based(serve, base)
    for mount in (base.rstrip("/"), f"{base.rstrip('/')}/registry"):
        before = (await site.call(A, "add", 1, mount=mount)).output
        assert (await site.resolve(A, mount=mount)).body == {"i": "704e99e868244ebb"}
        async with site.connect(A, mount=mount) as socket:
            assert await socket.ask(0, "add", 1) == before + 1
        async with streaming(site, A, mount=mount) as stream:
            assert await stream.ask(0, "add", 1, mount=mount) == before + 2
        for path in ("", "/", "/health", "/metadata", "/openapi.json", "/docs", "/docs/"):
            answer = await site.post(f"{mount}{path}", {}, method="GET")
            assert answer.status == 200, path


async def test_nothing_answers_beside_it(serve: Serve) -> None:
    site = await based(serve, "/api")
    for mount in ("", "/registry", "/apis", "/ap", "/api/api"):
        answer = await site.call(A, "add", 1, mount=mount)
        assert (answer.status, answer.raw.decode()) == (404, NOT_FOUND)
        for path in ("/", "/health", "/openapi.json"):
            assert (await site.post(f"{mount}{path}", {}, method="GET")).status == 404
        with pytest.raises(InvalidStatus):
            async with site.connecting(A, mount=mount):
                pass


async def test_the_default_is_the_root(serve: Serve) -> None:
    assert GatewaySettings().base_path == "/"
    site = await based(serve, "/")
    assert (await site.call(A, "add", 1, mount="")).output == 1
    assert (await site.call(A, "add", 1)).output == 2


async def test_the_client_keeps_the_path_of_its_url(serve: Serve) -> None:
    site = await based(serve, "/t/x")
    url = f"http://{site.address}/t/x"
    for transport in ("websocket", "sse"):
        async with App.client(url, encoding=site.wire.name, transport=transport) as client:
            counter = client.counter.get_or_create("a")
            before = await counter.add(1)
            async with counter.connect() as connection:
                assert await connection.actor.add(1) == before + 1


async def test_pages_of_other_origins(serve: Serve) -> None:
    site = await based(serve, "/api", cors=CORS(origin=APP))
    preflight = {"Origin": APP, "Access-Control-Request-Method": "POST"}
    answer = await site.post("/api/actors/resolve", preflight, method="OPTIONS")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, APP)
    async with site.connect(A, mount="/api") as socket:
        assert await socket.ask(0, "add", 1) == 1


@pytest.mark.parametrize(
    "base", ["", "api", "api/", "//", "//api", "/a//b", "/a?b", "/a#b", "/{a}", "/a b", "/a\n"]
)
def test_paths_that_are_none(base: str) -> None:
    with pytest.raises(ValueError, match="base_path"):
        GatewaySettings(base_path=base)
