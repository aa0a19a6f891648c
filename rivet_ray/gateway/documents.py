"""What a gateway says about itself: documentation, health and metadata."""

from __future__ import annotations

import importlib.metadata
import json
import logging
from typing import Any

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.types import Receive, Scope, Send

from rivet_ray.gateway.actions import not_found
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.openapi import openapi_document
from rivet_ray.gateway.responses import JSON, respond
from rivet_ray.gateway.statistics import GatewayStatistics, held_by

HTML = b"text/html;charset=UTF-8"

log = logging.getLogger("rivet_ray.gateway")


class Page:
    """A GET endpoint as plain ASGI."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await not_found(scope, receive, send)
            return
        status, body, content_type = await self.page(scope)
        await respond(send, status, body, content_type, [(b"cache-control", b"no-cache")])

    async def page(self, scope: Scope) -> tuple[int, bytes, bytes]:
        """Status, body and content type."""
        raise NotImplementedError


class OpenAPI(Page):
    """`GET /openapi.json`: built when it is first asked for, and once."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._document: dict[str, Any] | None = None
        self._text = b""

    def document(self) -> dict[str, Any]:
        if self._document is None:
            self._document = openapi_document(self._backend.definitions, version())
            self._text = json.dumps(self._document).encode()
        return self._document

    async def page(self, scope: Scope) -> tuple[int, bytes, bytes]:
        self.document()
        return 200, self._text, JSON


class Documentation(Page):
    """`GET /docs`: the document as a page to read and to try."""

    async def page(self, scope: Scope) -> tuple[int, bytes, bytes]:
        # Relative, so that it is right wherever the application is mounted. The raw path is
        # what the browser goes by: some frameworks add a slash to the other.
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        url = "../openapi.json" if path.endswith(b"/") else "openapi.json"
        page = get_swagger_ui_html(openapi_url=url, title="rivet_ray actors")
        return 200, bytes(page.body), HTML


class Metadata(Page):
    """`GET /metadata`: what clients of RivetKit 2 ask before anything else.

    And counts of this process's gateway, for operators.
    """

    def __init__(self, backend: Backend, statistics: GatewayStatistics) -> None:
        self._backend = backend
        self._statistics = statistics

    async def page(self, scope: Scope) -> tuple[int, bytes, bytes]:
        names: dict[str, Any] = {name: {"metadata": {}} for name in self._backend.definitions}
        found = {
            "runtime": "rivetkit",
            "version": version(),
            "actorNames": names,
            "gateway": self._statistics.told(),
        }
        if self._backend.held is not None:
            found["host"] = held_by(self._backend.held)
        if self._backend.unanswered is not None:
            found["unanswered"] = held_by(self._backend.unanswered)
        return 200, json.dumps(found).encode(), JSON


def version() -> str:
    try:
        return importlib.metadata.version("rivet-ray")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
