"""Every route that `on_auth` guards, as one: what a caller is told, whatever the route.

`POST /actors/message` is not among them: it is guarded by the token of a connection,
see `test_gateway_messages`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gateway_raw import closed, raw_socket
from gateway_streams import opening
from gateway_wire import Answer, Site
from starlette.websockets import WebSocket

SECRET_TEXT = "hunter2"
"""What the errors of a test hide; no route may tell it."""

Knock = Callable[[Site, Any, Any], Awaitable[str | None]]
"""Asks for an actor with a query and parameters: the code of the refusal, or None."""

STATUS = {
    "unauthorized": 401,
    "forbidden": 403,
    "origin_not_allowed": 403,
    "sold_out": 400,
    "invalid_params": 400,
    "internal_error": 500,
    "actor_not_found": 400,
    "store_unavailable": 503,
    "store_lost_data": 503,
}


class Reachable:
    """Beside `Actor`: what raw requests and sockets need to come in."""

    async def on_fetch(self, request: Any) -> str:
        return "in"

    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()


def told(answer: Answer) -> str | None:
    if answer.status == 200:
        return None
    assert answer.status == STATUS[answer.code]
    assert answer.outcome == "not_started"
    challenge = "Bearer" if answer.status == 401 else None
    assert answer.headers.get("www-authenticate") == challenge
    assert SECRET_TEXT.encode() not in answer.raw
    return answer.code


def refused(error: Any) -> str:
    """The code of an error that comes as a message."""
    assert error["oc"] == "not_started"
    assert SECRET_TEXT not in str(error)
    code: str = error["c"]
    return code


async def by_action(site: Site, query: Any, params: Any) -> str | None:
    return told(await site.call(query, "whoami", params=params))


async def by_resolve(site: Site, query: Any, params: Any) -> str | None:
    return told(await site.resolve(query, params=params))


async def by_websocket(site: Site, query: Any, params: Any) -> str | None:
    async with site.connecting(query, params) as socket:
        first = await socket.next()
        if "i" in first:
            return None
        code = refused(first["e"])
        assert await socket.closed() == (1011, code, [])
        return code


async def by_stream(site: Site, query: Any, params: Any) -> str | None:
    async with opening(site, site.headers(query, params)) as stream:
        assert stream.status == 200
        first = await stream.next()
        if "i" in first:
            return None
        assert await stream.closed() == (None, [])
        return refused(first["e"])


async def by_raw_http(site: Site, query: Any, params: Any) -> str | None:
    path = "/registry/actors/raw/http/x"
    return told(await site.post(path, site.headers(query, params), method="GET"))


async def by_raw_websocket(site: Site, query: Any, params: Any) -> str | None:
    async with raw_socket(site, query, params=params) as socket:
        code, reason, before = await closed(socket)
        if code == 1000:
            return None
        again = STATUS[reason] == 503
        assert (code, before) == (1013 if again else 1011, [])
        return reason


SURFACES: dict[str, tuple[Knock, set[str]]] = {
    "action": (by_action, {"action"}),
    "resolve": (by_resolve, set()),
    "websocket": (by_websocket, {"connect"}),
    "stream": (by_stream, {"connect"}),
    "raw http": (by_raw_http, {"action"}),
    "raw websocket": (by_raw_websocket, {"action"}),
}
"""How to knock, and the intents that the route adds; a further route gets a line here."""
