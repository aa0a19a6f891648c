"""Actors inside a Starlette application: `uvicorn examples.frameworks.with_starlette:app`."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.counter import App

server = App.create_server()


async def increment(request: Request) -> JSONResponse:
    counter = server.client.counter.get_or_create(request.path_params["name"])
    return JSONResponse({"count": await counter.increment(1)})


async def count(request: Request) -> JSONResponse:
    counter = server.client.counter.get_or_create(request.path_params["name"])
    return JSONResponse({"count": await counter.get_count()})


class Sign:
    """The application's own middleware; it sees the actors' requests too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-application", b"Starlette")]
            await send(message)

        await self.app(scope, receive, signed)


app = Starlette(
    routes=[
        Route("/increment/{name}", increment, methods=["POST"]),
        Route("/count/{name}", count),
        Mount("/registry", server.handler),
    ],
    middleware=[Middleware(Sign)],
    lifespan=server.lifespan,
)
