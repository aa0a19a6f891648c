"""Actors inside a Litestar application: `uvicorn examples.frameworks.with_litestar:app`."""

from typing import Any, cast

from litestar import Litestar, Response, asgi, get, post
from litestar.types import Receive, Scope, Send

from examples.counter import App

server = App.create_server()


@asgi("/registry", is_mount=True, copy_scope=True)
async def registry(scope: Scope, receive: Receive, send: Send) -> None:
    await server.handler(cast("Any", scope), cast("Any", receive), cast("Any", send))


@post("/increment/{name:str}", status_code=200)
async def increment(name: str) -> dict[str, int]:
    return {"count": await server.client.counter.get_or_create(name).increment(1)}


@get("/count/{name:str}")
async def count(name: str) -> dict[str, int]:
    return {"count": await server.client.counter.get_or_create(name).get_count()}


def sign(response: Response[Any]) -> Response[Any]:
    response.headers["X-Application"] = "Litestar"
    return response


app = Litestar(
    route_handlers=[registry, increment, count],
    after_request=sign,
    lifespan=[server.lifespan],
)
