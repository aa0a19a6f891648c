"""One HTTP exchange as ASGI's `receive` and `send`."""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableMapping
from typing import Any

from rivet_ray.errors import InvalidFetchResponse
from rivet_ray.protocol.raw import is_withheld
from rivet_ray.runtime.exchange import Exchange

Headers = list[tuple[bytes, bytes]]

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")


class Http:
    """Its two methods are what an ASGI application is called with."""

    __slots__ = ("_body", "_exchange", "_left", "_started")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._started = False
        self._left: int | None = None
        """Bytes of the body that the response's head still promises."""
        self._body = True
        """The response has a body; not so for HEAD, 204 and 304."""

    async def receive(self) -> dict[str, Any]:
        piece = await self._exchange.take()
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece.data, "more_body": piece.more}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        kind = message["type"]
        if kind == "http.response.start" and not self._started:
            status: Any = message["status"]
            if not isinstance(status, int) or not 200 <= status <= 999:
                raise InvalidFetchResponse(f"{status!r} is no status of a response.")
            headers = checked(message.get("headers", ()))
            self._body = self._exchange.request.method != "HEAD" and status not in (204, 304)
            self._left = _promised(headers) if self._body else None
            self._exchange.start(status, headers)
            self._started = True
        elif kind == "http.response.body" and self._started:
            more = bool(message.get("more_body", False))
            await self._send_body(bytes(message.get("body", b"")), more)
        else:
            raise RuntimeError(f"{kind!r} is not what a response goes on with")

    async def _send_body(self, data: bytes, more: bool) -> None:
        if not self._body:
            data = b""
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the response's body is not as long as its content-length")
        if data or not more:
            await self._exchange.give(data, more=more)

    async def whole(self, headers: Headers, body: bytes) -> None:
        """A response at once."""
        length = (b"content-length", b"%d" % len(body))
        await self.send(
            {"type": "http.response.start", "status": 200, "headers": [*headers, length]}
        )
        await self.send({"type": "http.response.body", "body": body})


def checked(given: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers that may go out. Raises InvalidFetchResponse for what no header holds."""
    headers: Headers = []
    for name, value in given:
        name, value = bytes(name).lower(), bytes(value)
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise InvalidFetchResponse(f"The header {name.decode('latin-1')!r} cannot be sent.")
        # Those of the wire would speak for the server.
        if not is_withheld(name):
            headers.append((name, value))
    return headers


def _promised(headers: Headers) -> int | None:
    for name, value in headers:
        if name == b"content-length":
            if not value.isdigit():
                raise InvalidFetchResponse("The content-length is no number.")
            return int(value)
    return None
