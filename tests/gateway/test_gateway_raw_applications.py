"""An actor hands a request, or a socket, to an application of its own."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi import Request as FastRequest
from fastapi import WebSocket as FastWebSocket
from gateway_raw import closed, fetch, raw_socket, receive
from gateway_wire import Serve, get_or_create
from starlette.requests import Request
from starlette.websockets import WebSocket

from rivet_ray import Actor

application = FastAPI()


@application.get("/items/{item}", name="item")
async def read(item: str, request: FastRequest) -> dict[str, Any]:
    return {
        "item": item,
        "url": str(request.url),
        "base": str(request.base_url),
        "link": str(request.url_for("item", item="c")),
        "state": request.state.actor.state,
    }


@application.websocket("/sum/{number}")
async def add(websocket: FastWebSocket, number: int) -> None:
    await websocket.accept()
    actor: Any = websocket.state.actor
    async for text in websocket.iter_text():
        actor.state += int(text) * number
        await websocket.send_json([actor.state, str(websocket.url)])


class Shop(Actor[int]):
    public = True

    def create_state(self, input: Any) -> int:
        return 0

    async def on_fetch(self, request: Request) -> FastAPI:
        assert request.url.path.startswith("/items"), "the hook itself sees the path behind"
        return application

    async def on_websocket(self, websocket: WebSocket) -> FastAPI:
        return application


ACTORS: dict[str, Any] = {"shop": Shop}
A = get_or_create("shop", "a")


@pytest.mark.parametrize("mount", ["/registry", ""])
async def test_urls_lead_back_to_the_actor(serve: Serve, mount: str) -> None:
    site = await serve(ACTORS)
    root = f"http://{site.address}{mount}/actors/raw/http"
    seen = (await fetch(site, A, "/items/a-b?x=1", mount=mount)).json()
    assert seen == {
        "item": "a-b",
        "url": f"{root}/items/a-b?x=1",
        "base": f"{root}/",
        "link": f"{root}/items/c",
        "state": 0,
    }
    # A redirect of the application is one to itself.
    redirect = await fetch(site, A, "/items/a/", mount=mount)
    assert redirect.status_code == 307
    assert redirect.headers["location"] == f"{root}/items/a"
    assert (await fetch(site, A, "/items", mount=mount)).json() == {"detail": "Not Found"}


async def test_a_socket(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with raw_socket(site, A, "/sum/2?x=%20") as socket:
        await socket.send("5")
        url = f"ws://{site.address}/registry/actors/raw/websocket/sum/2?x=%20"
        assert await receive(socket) == f'[10,"{url}"]'
    assert (await fetch(site, A, "/items/a")).json()["state"] == 10


async def test_a_socket_that_is_refused_has_a_reason(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with raw_socket(site, A, "/nowhere") as socket:
        assert await closed(socket) == (1008, "forbidden", [])
    # FastAPI says what is wrong with it, in a list.
    async with raw_socket(site, A, "/sum/x") as socket:
        code, reason, before = await closed(socket)
    assert (code, before) == (1008, [])
    assert "int_parsing" in reason
    assert len(reason.encode()) <= 123
