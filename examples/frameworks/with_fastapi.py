"""Actors inside a FastAPI application: `uvicorn examples.frameworks.with_fastapi:app`."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from examples.counter import App

server = App.create_server()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """What the application itself needs goes here too."""
    async with server:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/registry", server.handler)


@app.middleware("http")
async def sign(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await proceed(request)
    response.headers["X-Application"] = "FastAPI"
    return response


@app.post("/increment/{name}")
async def increment(name: str) -> dict[str, int]:
    return {"count": await server.client.counter.get_or_create(name).increment(1)}


@app.get("/count/{name}")
async def count(name: str) -> dict[str, int]:
    return {"count": await server.client.counter.get_or_create(name).get_count()}
