"""The request of a raw request or socket, as the actor is to see it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import Mount, Route, Router

from rivet_ray.gateway.raw import raw_request

MARKER = b"/actors/raw/http"


class Endpoint:
    """Keeps what the actor would see."""

    def __init__(self) -> None:
        self.root, self.path = b"", b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = raw_request(scope, MARKER)
        self.root, self.path = request.root, request.path


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("mount", ["", "/registry", "/actors/raw/http/registry"])
@pytest.mark.parametrize("path", ["", "/", "/x", "/actors/raw/http/x", "/raw/websocket/x"])
async def test_the_path_stands_behind_the_route(mount: str, path: str, raw: bool) -> None:
    """The gateway may be mounted at a path that looks like a route of its own."""
    endpoint = Endpoint()
    routes = [Route(f"/actors/raw/http{rest}", endpoint) for rest in ("", "/{path:path}")]
    router = Router([Mount(mount, routes=routes)])
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": f"{mount}/actors/raw/http{path}",
        "query_string": b"",
        "headers": [],
        "scheme": "http",
    }
    if raw:
        scope["raw_path"] = scope["path"].encode()
    router_call: Any = router
    await router_call(scope, None, None)
    assert endpoint.root == f"{mount}/actors/raw/http".encode()
    assert endpoint.path == (path.encode() or b"/")
