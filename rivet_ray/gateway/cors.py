"""Cross-origin resource sharing around the routes of a gateway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rivet_ray.definition import CORS
from rivet_ray.errors import RivetError
from rivet_ray.gateway.negotiate import fallback_encoding, headers_of
from rivet_ray.gateway.origins import REFUSAL, Origins
from rivet_ray.gateway.responses import respond_error
from rivet_ray.protocol import v0
from rivet_ray.protocol.event_stream import KEEP_ALIVE_HEADER

Headers = list[tuple[bytes, bytes]]

PREFIX: Final = b"access-control-"
ORIGIN: Final = b"access-control-allow-origin"
VARY: Final = (b"vary", b"Origin")
AROUND: Final = "rivet_ray.around"
"""Where a scope names the application that the gateway is mounted into."""


class CrossOrigin:
    """Refuses pages that may not, and tells browsers which may read an answer.

    A refused page is answered before any route: with 403, a WebSocket by its route. If
    there is `cors`, every OPTIONS is answered 204 here and goes no further. All other
    answers, errors too, get their headers as they pass; no body is held.
    """

    def __init__(
        self,
        app: ASGIApp,
        cors: CORS | None = None,
        *,
        loopback: bool = False,
        hosts: Sequence[str] | None = None,
    ) -> None:
        self._app = app
        self._origins = Origins(cors, loopback=loopback, hosts=hosts)
        self._alone = cors is None
        self._speaks = cors is not None or loopback
        cors = cors or CORS(origin=_nobody)
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
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        permission: str | None = None
        refusal: RivetError | None = None
        try:
            self._origins.check_host(scope)
            permission = await self._origins.permission(scope)
            self._origins.check(scope, permission, _rule_around(scope) if self._alone else None)
        except RivetError as error:
            refusal = error
        if scope["type"] == "websocket":
            inner = scope if refusal is None else {**scope, REFUSAL: refusal}
            await self._app(inner, receive, send)
            return
        allowed: Headers = []
        if permission is not None:
            allowed = [(ORIGIN, permission.encode("latin-1"))]
        if scope["method"] == "OPTIONS" and (allowed or not self._alone):
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

        if refusal is not None:
            await respond_error(answer, refusal, fallback_encoding(headers_of(scope)))
        else:
            await self._app(scope, receive, answer if self._speaks else send)


def _nobody(origin: str) -> bool:
    return False


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Behind a rule that is only asked."""


_rules: WeakKeyDictionary[Starlette, list[CORSMiddleware]] = WeakKeyDictionary()


def _rule_around(scope: Scope) -> Callable[[str], bool] | None:
    """Which origins the CORSMiddleware of the application around the gateway admits."""
    around = scope.get(AROUND)
    if not isinstance(around, Starlette):
        return None
    found = _rules.get(around)
    if found is None:
        found = _rules[around] = []
        for item in around.user_middleware:
            if cast("object", item.cls) is CORSMiddleware:
                # Starlette's type of its parameters cannot be filled in.
                known = cast("Callable[..., CORSMiddleware]", CORSMiddleware)
                found.append(known(_nothing, *item.args, **item.kwargs))
    return lambda origin: any(rule.is_allowed_origin(origin) for rule in found)
