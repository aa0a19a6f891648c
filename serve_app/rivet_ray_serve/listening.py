"""How the processes of Serve listen: as gateways do everywhere.

Serve makes uvicorn's configuration itself and has no option for sockets, and uvicorn opens
one before the application sees the request.
"""

from __future__ import annotations

from typing import Any, ClassVar

import uvicorn
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from rivet_ray.gateway import deflate
from rivet_ray.gateway.server import PROTOCOLS, proxy_options
from rivet_ray.gateway.vanishing import EXTENSION


class _Config(uvicorn.Config):
    """As everywhere else; see `rivet_ray.gateway.server.uvicorn_config`.

    HAProxy passes an `X-Forwarded-For` on as it comes, so nobody's is believed that is
    not named.
    """

    gateway: ClassVar[ASGIApp | None] = None
    """What Serve has wrapped: its bounds hold for the connections too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, **PROTOCOLS, **proxy_options()})


def listen_as_gateways(app: ASGIApp | None = None) -> None:
    """In this process, for servers that are made from now on."""
    _Config.gateway = app
    uvicorn.Config = _Config  # type: ignore[misc]
    deflate.is_off()


def fallback() -> list[Middleware]:
    """In the process of Serve's own proxy, before it listens; Serve adds what is returned.

    HAProxy hands requests to it while no replica is ready: at the start, and when the last
    one was lost.
    """
    listen_as_gateways()
    return [Middleware(_WithoutSocket)]


class _WithoutSocket:
    """Serve pickles the scope, which cannot take along what our protocols offer of a socket."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.get("extensions", {}).pop(EXTENSION, None)
        await self._app(scope, receive, send)
