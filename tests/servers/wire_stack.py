"""The real stack, for tests that bring their own actors: HAProxy, Serve, gateway, link.

`python wire_stack.py PORT STATS_PORT METRICS_PORT` serves until its standard input closes. The one
replica holds one gateway at a time: PUT /__site__ makes it (a pickled `Site`), DELETE
takes it away and gives the errors that were logged meanwhile, POST empties a list that
a test module keeps in the replica and gives what it held. All else is the gateway's.
"""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTROL = "/__site__"


@dataclass(frozen=True)
class Site:
    """A gateway: its actor types are importable in the replica, by reference."""

    actors: Mapping[str, Any]
    store: str
    host: str
    """Where the link of the one host listens."""
    secret: bytes
    settings: Any
    records: str
    """The module whose RECORDS, if it has any, are emptied."""


def build() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Mount, Route
    from starlette.types import Receive, Scope, Send

    from rivet_ray.gateway import create_app
    from rivet_ray.registry import setup
    from rivet_ray.remote import Fixed, Remote

    class Switchboard:
        def __init__(self) -> None:
            self._app: Any = None
            self._backend: Remote | None = None
            self._errors = Errors()

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self._app(scope, receive, send)

        async def control(self, request: Request) -> Response:
            if request.method == "PUT":
                await self._leave()
                await self._enter(pickle.loads(await request.body()))
                return Response()
            if request.method == "DELETE":
                await self._leave()
                return Response(pickle.dumps(self._errors.take()))
            module = importlib.import_module(request.query_params["module"])
            kept: list[Any] = getattr(module, request.query_params["name"])
            answer = Response(pickle.dumps(kept))
            kept.clear()
            return answer

        async def _enter(self, site: Site) -> None:
            for record in getattr(importlib.import_module(site.records), "RECORDS", ()):
                record.clear()
            self._errors.take()
            definitions = setup(use=site.actors).definitions()
            self._backend = Remote(definitions, site.store, Fixed(site.host), secret=site.secret)
            await self._backend.start()
            self._app = create_app(self._backend, site.settings)

        async def _leave(self) -> None:
            if self._backend is not None:
                await self._backend.close()
                self._backend = None

    switchboard = Switchboard()
    control = Route(CONTROL, switchboard.control, methods=["POST", "PUT", "DELETE"])
    return Starlette(routes=[control, Mount("/", switchboard)])


class Errors(logging.Handler):
    """What was logged in the replica as an error: (logger, text)."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._found: list[tuple[str, str]] = []
        for name in ("", "uvicorn", "uvicorn.error", "ray.serve"):
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append((record.name, self.format(record)))

    def take(self) -> list[tuple[str, str]]:
        found, self._found = self._found, []
        return found


def main() -> None:
    from rivet_ray_serve.environment import local_environment
    from rivet_ray_serve.local import adopt_orphans, end_descendants, start_ray

    adopt_orphans()
    directory = Path(tempfile.mkdtemp(prefix="rivet-ray-"))
    try:
        os.environ.update(local_environment(directory))
        import ray

        # By name, so that the replica finds this module and not a copy of it.
        import wire_stack
        from ray import serve

        from rivet_ray_serve.application import deployed

        start_ray(directory)
        serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
        serve.run(deployed(wire_stack.build))
        print("serves", flush=True)
        sys.stdin.read()
        ray.shutdown()
    finally:
        end_descendants()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
