"""A uvicorn server in a thread of the test's process, for callers that block."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rivet_ray.gateway.server import Server, bind, uvicorn_config

PATIENCE = 10.0
"""Seconds to start and to stop."""


@contextmanager
def threaded_server(app: Any) -> Iterator[str]:
    """Serve an ASGI application as the project does; yields its URL."""
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        ready = threading.Event()
        config = uvicorn_config(app, "127.0.0.1", port, log_config=None)
        server = Server(config, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert ready.wait(PATIENCE), "the server did not start"
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the server did not stop"
