"""Serving a gateway with uvicorn."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from rivet_ray.definition.lasting_loop import new_event_loop
from rivet_ray.gateway.bounded_http import BoundedHttpProtocol
from rivet_ray.gateway.websocket_protocol import WebSocketProtocol
from rivet_ray.shutdown import DRAIN, GRACE, Shutdown

DEFAULT_PORT = 8080


class PortTaken(OSError):
    """The address is in use; the message says which, and what to do."""


PROTOCOLS: dict[str, Any] = {
    "http": BoundedHttpProtocol,
    "ws": WebSocketProtocol,
    # It costs five sixths of a socket's throughput.
    "ws_per_message_deflate": False,
    # Seconds: a peer that is gone without a word is found well within the resume window.
    "ws_ping_interval": 10.0,
    "ws_ping_timeout": 10.0,
}
"""uvicorn's options for what comes over a connection, wherever a gateway is served."""


TRUSTED = "FORWARDED_ALLOW_IPS"
"""uvicorn's variable: addresses and networks of proxies that are believed."""


def proxy_options() -> dict[str, Any]:
    """Options of uvicorn: whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.

    Nobody's, unless TRUSTED says whose. Left alone uvicorn believes whoever
    connects from this machine, also a proxy that passes on what its clients make up.
    """
    return {"proxy_headers": bool(os.environ.get(TRUSTED))}


def port_from_environment() -> int:
    """PORT, or PORT_HTTP, or 8080."""
    return int(os.environ.get("PORT") or os.environ.get("PORT_HTTP") or DEFAULT_PORT)


def uvicorn_config(app: FastAPI | str, host: str, port: int, **options: Any) -> uvicorn.Config:
    """How every gateway is served: httptools, uvloop off Windows, no deflate."""
    settings: dict[str, Any] = {
        "timeout_graceful_shutdown": GRACE * DRAIN,
        **PROTOCOLS,
        **proxy_options(),
        **options,
    }
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="asyncio" if sys.platform == "win32" else "uvloop",
        access_log=False,
        log_level="warning",
        server_header=False,
        **settings,
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortTaken, or OSError for an address we do not have."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        # Accepted sockets inherit it; uvloop does not set it on those of a given listener.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"{host}:{port} cannot be used: {error.strerror}. Choose another port with --port."
        ) from error
    listener.set_inheritable(True)
    return listener


class Server(uvicorn.Server):
    """uvicorn's server, that says when it is ready, and whose process may end with it.

    With `grace`, signals belong to it for good: the first one stops it, and the process has
    ended so many seconds later. Without, it handles them as uvicorn does, and gives them
    back when it has stopped: the process is somebody else's.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        ready: Callable[[], None] | None = None,
        grace: float | None = None,
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._grace = grace

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """As uvicorn does; with a grace the signal that stops it is not raised again."""
        if self._grace is None:
            with super().capture_signals():
                yield
            return
        if threading.current_thread() is threading.main_thread():
            Shutdown(self._grace).catch(self.handle_exit)
        yield

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, on a loop that user code does not end."""
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self.serve(sockets=sockets))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._ready is not None:
            self._ready()


def check_no_loop() -> None:
    """Raise RuntimeError if this thread runs an event loop, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "run_server() blocks, and this thread already runs an event loop, as notebooks do. Serve "
        "from a process of its own (rivet-ray dev module:App), or from a thread: "
        "threading.Thread(target=App.run_server, daemon=True).start()"
    )


def run(
    app: FastAPI,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    ready: Callable[[], None] | None = None,
    grace: float = GRACE,
) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises PortTaken before anything is started.

    The process has ended `grace` seconds after the signal.
    """
    chosen = port_from_environment() if port is None else port
    with bind(host, chosen) as listener:
        config = uvicorn_config(app, host, chosen, timeout_graceful_shutdown=grace * DRAIN)
        Server(config, ready, grace).run(sockets=[listener])
