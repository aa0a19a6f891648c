"""`create_app`: the routes of the gateway inside one FastAPI application."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from rivet_ray.gateway.actions import CallAction, Resolve, not_found
from rivet_ray.gateway.admission import Admission
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.budgets import Budgets
from rivet_ray.gateway.codec import Codec
from rivet_ray.gateway.cors import AROUND, CrossOrigin
from rivet_ray.gateway.documents import Documentation, Metadata, OpenAPI, Page
from rivet_ray.gateway.event_stream import ConnectEventStream
from rivet_ray.gateway.fanout import EventFrames
from rivet_ray.gateway.front import Front
from rivet_ray.gateway.health import Health
from rivet_ray.gateway.message import SendMessage
from rivet_ray.gateway.raw_http import RawHttp
from rivet_ray.gateway.raw_websocket import RawWebSocket
from rivet_ray.gateway.responses import TEXT, respond
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.gateway.statistics import GatewayStatistics
from rivet_ray.gateway.websocket import ConnectWebSocket
from rivet_ray.protocol import v0
from rivet_ray.runtime.watchdog import Watchdog


def _prefixes(settings: GatewaySettings) -> tuple[str, str]:
    """Every route answers at both, so that the app can be served as it is or mounted."""
    base = settings.base_path.rstrip("/")
    return f"{base}/registry", base


def create_app(backend: Backend, settings: GatewaySettings | None = None) -> FastAPI:
    """The gateway as a FastAPI application.

    The backend is opened when the application starts, or with the first
    request where it is mounted into another one, and closed when it stops.
    """
    settings = settings or GatewaySettings()
    budgets = Budgets(settings)
    watchdog = Watchdog(settings.blocked_after)
    statistics = GatewayStatistics(budgets.gateway, watchdog)
    codec = Codec(settings, statistics)
    front = Front(settings, budgets, statistics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await backend.start()
        watchdog.start()
        try:
            yield
        finally:
            watchdog.stop()
            await backend.close()
            codec.close()

    app = Gateway(title="rivet_ray", lifespan=lifespan, redirect_slashes=False, openapi_url=None)
    app.state.watchdog = watchdog
    app.state.rivet_front = front
    # Before what users add, so that the hot routes are matched first.
    app.router.routes[:0] = _routes(backend, settings, budgets, codec, statistics)
    document = OpenAPI(backend)
    app.router.routes += _pages(backend, settings, statistics, document)
    app.openapi = document.document  # type: ignore[method-assign]
    app.router.default = not_found
    app.add_middleware(
        CrossOrigin,
        cors=settings.cors,
        loopback=settings.loopback_origins,
        hosts=settings.hosts,
    )
    return app


class Gateway(FastAPI):
    """The application, which remembers the one that it is mounted into."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        around = scope.get("app")
        if around is not None and around is not self:
            scope = {**scope, AROUND: around}
        await super().__call__(scope, receive, send)


def _routes(
    backend: Backend,
    settings: GatewaySettings,
    budgets: Budgets,
    codec: Codec,
    statistics: GatewayStatistics,
) -> list[BaseRoute]:
    admission = Admission(backend, settings)
    call = CallAction(backend, admission, settings, budgets, codec)
    resolve = Resolve(backend, admission, settings)
    message = SendMessage(backend, admission, settings, budgets, codec)
    frames = EventFrames(budgets, statistics)
    connect = ConnectWebSocket(backend, admission, settings, frames, budgets, codec, statistics)
    stream = ConnectEventStream(backend, admission, settings, frames, budgets, statistics)
    raw_http = RawHttp(backend, admission, settings)
    raw_websocket = RawWebSocket(backend, admission, settings, budgets)
    banner = Banner()
    routes: list[BaseRoute] = []
    for prefix in _prefixes(settings):
        for slash in ("", "/"):
            routes += [
                Route(f"{prefix}/actors/actions/{{action}}{slash}", call),
                Route(f"{prefix}/actors/resolve{slash}", resolve),
                Route(f"{prefix}/actors/connect/sse{slash}", stream),
                Route(f"{prefix}/actors/message{slash}", message),
                WebSocketRoute(f"{prefix}/actors/connect/websocket{slash}", connect),
            ]
        for rest in ("", "/{path:path}"):
            routes += [
                Route(f"{prefix}/actors/raw/http{rest}", raw_http),
                WebSocketRoute(f"{prefix}/actors/raw/websocket{rest}", raw_websocket),
                # As the original: whatever stands in front.
                WebSocketRoute(f"{prefix}/{{_:path}}/raw/websocket{rest}", raw_websocket),
            ]
        routes += [Route(path, banner) for path in {prefix or "/", f"{prefix}/"}]
    return routes


def _pages(
    backend: Backend, settings: GatewaySettings, statistics: GatewayStatistics, document: OpenAPI
) -> list[BaseRoute]:
    pages: dict[str, Page] = {
        "health": Health(backend),
        "metadata": Metadata(backend, statistics),
    }
    if settings.documentation:
        pages |= {"openapi.json": document, "docs": Documentation()}
    return [
        Route(f"{prefix}/{path}{slash}", page)
        for prefix in _prefixes(settings)
        for path, page in pages.items()
        for slash in ("", "/")
    ]


class Banner:
    """`GET /`: what this is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD"):
            await respond(send, 200, v0.BANNER.encode(), TEXT)
        else:
            await not_found(scope, receive, send)
