"""One WebSocket as ASGI's `receive` and `send`."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import msgspec

from rivet_ray.asgi.http import checked
from rivet_ray.errors import Forbidden
from rivet_ray.runtime.exchange import NORMAL, SWITCHING, Exchange

GONE = 1006
REFUSED = 1008
CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})
"""What a close frame may carry."""
MAX_REASON = 123


class Socket:
    """Its two methods are what an ASGI application is called with."""

    __slots__ = ("_accepted", "_connected", "_exchange", "_parts")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._connected = False
        self._accepted = False
        self._parts: list[bytes] = []

    async def receive(self) -> dict[str, Any]:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        # A cancelled `receive` loses nothing: what it has taken waits here.
        while (piece := await self._exchange.take()) is not None:
            self._parts.append(piece.data)
            if not piece.more:
                data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
                self._parts.clear()
                if piece.text:
                    return {"type": "websocket.receive", "text": data.decode()}
                return {"type": "websocket.receive", "bytes": data}
        code, reason = self._exchange.close or (GONE, "")
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        kind = message["type"]
        if kind == "websocket.accept" and not self._accepted:
            self._accept(message.get("subprotocol"), message.get("headers") or ())
        elif kind == "websocket.close":
            self._close(message.get("code", NORMAL), message.get("reason") or "")
        elif kind == "websocket.send" and self._accepted:
            text: str | None = message.get("text")
            if text is not None:
                await self._exchange.give(text.encode(), text=True)
            else:
                await self._exchange.give(bytes(message["bytes"]))
        else:
            raise RuntimeError(f"{kind!r} is not what a socket goes on with")

    def _close(self, code: int, reason: Any) -> None:
        if not isinstance(reason, str):
            # FastAPI gives a list of what is wrong with the request, of any length.
            listed = msgspec.json.encode(reason, enc_hook=str)
            reason = listed[:MAX_REASON].decode(errors="ignore")
        if not self._accepted and code == NORMAL:
            # ASGI's way to refuse a socket, which is not to look like a normal end.
            code, reason = REFUSED, reason or Forbidden.code
        if code not in CODES:
            raise ValueError(f"{code!r} is no code that a close may carry")
        if len(reason.encode()) > MAX_REASON:
            raise ValueError(f"a reason has at most {MAX_REASON} bytes of UTF-8")
        self._exchange.end(int(code), reason)

    def _accept(self, protocol: str | None, headers: Any) -> None:
        if protocol is not None and protocol not in (self._exchange.request.protocols or ()):
            raise ValueError(f"the client does not offer the subprotocol {protocol!r}")
        self._exchange.start(SWITCHING, checked(headers), protocol)
        self._accepted = True
