"""A real server of an ASGI application, configured as the project does it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from rivet_ray.gateway.server import Server, bind, uvicorn_config


@asynccontextmanager
async def serving(
    app: Any,
    listen: Callable[[], socket.socket] = lambda: bind("127.0.0.1", 0),
    **options: Any,
) -> AsyncIterator[str]:
    """Its URL, for the length of the block; the options are uvicorn's."""
    ready = asyncio.Event()
    with listen() as listener:
        host, port = listener.getsockname()[:2]
        config = uvicorn_config(app, host, port, log_config=None, **options)
        server = Server(config, ready.set)
        running = asyncio.ensure_future(server.serve(sockets=[listener]))
        started = asyncio.ensure_future(ready.wait())
        await asyncio.wait((running, started), return_when=asyncio.FIRST_COMPLETED)
        try:
            assert started.done(), "the server ended before it was ready"
            yield f"http://{host}:{port}"
        finally:
            started.cancel()
            server.should_exit = True
            await running
