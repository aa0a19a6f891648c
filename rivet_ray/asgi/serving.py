"""The hooks of an actor, called with Starlette's objects."""

from __future__ import annotations

from collections.abc import Awaitable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from rivet_ray.asgi.http import Http
from rivet_ray.asgi.scope import mounted, scope_of
from rivet_ray.asgi.websocket import Socket
from rivet_ray.errors import Forbidden, InvalidFetchResponse
from rivet_ray.protocol import values
from rivet_ray.runtime.exchange import ClientLeft, Exchange

if TYPE_CHECKING:
    from starlette.types import ASGIApp

JSON = [(b"content-type", b"application/json")]
TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
BYTES = [(b"content-type", b"application/octet-stream")]


async def serve_exchange(actor: Any, exchange: Exchange) -> None:
    """Serve it with `on_fetch` or `on_websocket` of the actor."""
    if exchange.is_websocket:
        await _websocket(actor, exchange)
    else:
        await _fetch(actor, exchange)


async def _fetch(actor: Any, exchange: Exchange) -> None:
    from starlette.requests import ClientDisconnect, Request

    http = Http(exchange)
    scope = scope_of(actor, exchange)
    try:
        result = await _settled(
            actor.on_fetch(Request(scope, http.receive, http.send))  # as ASGI has them
        )
        await _respond(result, mounted(scope, exchange), http)
    except ClientDisconnect as error:
        raise ClientLeft("the client has left") from error


async def _respond(result: Any, scope: dict[str, Any], http: Http) -> None:
    """Send what `on_fetch` has returned; the scope is for an application."""
    if isinstance(result, str):
        await http.whole(TEXT, result.encode())
    elif isinstance(result, bytes):
        await http.whole(BYTES, result)
    elif isinstance(result, (dict, list)):
        try:
            body = msgspec.json.encode(result, enc_hook=values.encode_custom)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidFetchResponse("What on_fetch returned is not JSON.") from error
        await http.whole(JSON, body)
    elif callable(result):
        application = cast("ASGIApp", result)
        await application(scope, http.receive, http.send)
    else:
        raise InvalidFetchResponse(
            "on_fetch returned nothing."
            if result is None
            else f"on_fetch returned {type(result).__name__}, which is no response."
        )


async def _websocket(actor: Any, exchange: Exchange) -> None:
    from starlette.websockets import WebSocket, WebSocketDisconnect

    socket = Socket(exchange)
    scope = scope_of(actor, exchange)
    websocket = WebSocket(scope, socket.receive, socket.send)
    try:
        result = await _settled(actor.on_websocket(websocket))
        if result is False:
            raise Forbidden("This socket is refused.")
        if callable(result):
            application = cast("ASGIApp", result)
            await application(mounted(scope, exchange), socket.receive, socket.send)
    except WebSocketDisconnect as error:
        raise ClientLeft("the client has left") from error


async def _settled(value: Awaitable[Any] | Any) -> Any:
    return await value if isawaitable(value) else value
