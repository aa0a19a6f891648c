"""Cross-origin resource sharing around the routes of a gateway."""

from __future__ import annotations

import asyncio
from inspect import isawaitable
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rivet_ray.definition import CORS
from rivet_ray.definition.user_code import call, finish
from rivet_ray.protocol import v0
from rivet_ray.protocol.event_stream import KEEP_ALIVE_HEADER
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.gateway")

Headers = list[tuple[bytes, bytes]]

PATIENCE = 5.0
"""Seconds that a function may take to judge an origin."""

PREFIX: Final = b"access-control-"
ORIGIN: Final = b"access-control-allow-origin"
VARY: Final = (b"vary", b"Origin")


class CrossOrigin:
    """Answers browsers that ask, and says in each answer which pages may read it.

    Every OPTIONS is answered 204 here and goes no further. All other answers,
    errors too, get their headers as they pass; no body is held. WebSockets
    pass untouched: browsers do not guard them by CORS.
    """

    def __init__(self, app: ASGIApp, cors: CORS) -> None:
        self._app = app
        self._cors = cors
        origin = cors.origin
        self._judge = origin if callable(origin) else None
        self._origins: frozenset[str] = frozenset()
        if not callable(origin):
            self._origins = frozenset((origin,) if isinstance(origin, str) else origin)
        self._vary: Headers = [] if cors.any_origin else [VARY]
        credentials: Headers = []
        if cors.allows_credentials:
            credentials = [(b"access-control-allow-credentials", b"true")]
        ours = (v0.OUTCOME_HEADER, KEEP_ALIVE_HEADER)
        exposed = dict.fromkeys((*ours, *cors.expose_headers))
        self._answered: Headers = [
            *credentials,
            (b"access-control-expose-headers", ",".join(exposed).encode()),
        ]
        self._preflight: Headers = [
            *credentials,
            (b"access-control-allow-methods", ",".join(cors.allow_methods).encode()),
            (b"access-control-allow-headers", ",".join(cors.headers).encode()),
            (b"access-control-max-age", b"%d" % cors.max_age),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        allowed = await self._allowed(scope)
        if scope["method"] == "OPTIONS":
            headers = [*allowed, *self._preflight, *self._vary]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        own = [*allowed, *self._answered, *self._vary] if allowed else self._vary

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                # What an actor answered itself does not widen what the registry allows.
                given: list[Any] = [
                    (name, value)
                    for name, value in message.get("headers", ())
                    if not name.lower().startswith(PREFIX)
                ]
                message = {**message, "headers": [*given, *own]}
            await send(message)

        await self._app(scope, receive, answer)

    async def _allowed(self, scope: Scope) -> Headers:
        """The header that lets the page read the answer; none for a page that may not."""
        if self._cors.any_origin:
            return [(ORIGIN, b"*")]
        found = [value for name, value in scope["headers"] if name == b"origin"]
        if len(found) != 1:
            return []
        origin = found[0].decode("latin-1")
        if self._judge is None:
            return [(ORIGIN, found[0])] if origin in self._origins else []
        verdict = await self._judged(origin)
        return [] if verdict is None else [(ORIGIN, verdict.encode("latin-1"))]

    async def _judged(self, origin: str) -> str | None:
        assert self._judge is not None
        try:
            verdict = call("CORS", self._judge, origin)
            if isawaitable(verdict):
                async with asyncio.timeout(PATIENCE):
                    verdict = await finish("CORS", self._judge, verdict)
        except Exception:
            # A page that may not is the safe answer, and the log says why.
            log.exception("the CORS function failed for the origin %r", origin, extra=REPEATED)
            return None
        if verdict is True:
            return origin
        if not isinstance(verdict, str) or not verdict:
            return None
        if verdict == "*" or not verdict.isascii() or not verdict.isprintable():
            log.error("the CORS function gave %r, which is no origin", verdict)
            return None
        return verdict
