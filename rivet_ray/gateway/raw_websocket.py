"""`/actors/raw/websocket/{path}`: sockets for an actor's `on_websocket`.

The actor accepts the socket, with a subprotocol of its user or with none; then
ours is named, so that a client that offered some gets one. A client that is
refused gets a close with a code and a reason, never a refused upgrade, of which
it could learn nothing.
"""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from rivet_ray.budget import Budget
from rivet_ray.errors import InvalidQueryJSON, MessageTooLong, RivetError
from rivet_ray.gateway.actions import not_found
from rivet_ray.gateway.admission import Admission
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.budgets import Budgets
from rivet_ray.gateway.negotiate import params_of, request_info
from rivet_ray.gateway.origins import raise_refusal
from rivet_ray.gateway.outgoing import INTERNAL, fit
from rivet_ray.gateway.raw import ACTION, raw_request, slim
from rivet_ray.gateway.responses import error_message
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.gateway.websocket import PROTOCOL
from rivet_ray.protocol.queries import decode_query
from rivet_ray.protocol.raw import RawData
from rivet_ray.protocol.subprotocols import own_protocols, parse_protocols
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime import Tunnel
from rivet_ray.store import ActorRecord

log = logger_of_strangers("rivet_ray.gateway")

MARKER = b"/raw/websocket"
TOO_BIG = 1009
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
UNAVAILABLE = 503


class RawWebSocket:
    """Admits the client, then relays."""

    def __init__(
        self, backend: Backend, admission: Admission, settings: GatewaySettings, budgets: Budgets
    ) -> None:
        self._backend = backend
        self._admission = admission
        self._settings = settings
        self._budgets = budgets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await not_found(scope, receive, send)
            return
        await receive()
        relay = Relay(scope, receive, send, self._settings.close_timeout)
        try:
            raise_refusal(scope)
            asked = parse_protocols(relay.offered)
            if asked.query is None:
                raise InvalidQueryJSON("The subprotocol query.<JSON> is missing.")
            query = decode_query(asked.query)
            params = params_of(asked.params, self._settings.max_params_size)
            caller = await self._admission.admit(query, ACTION, params, request_info(scope))
            request = raw_request(scope, MARKER, own_protocols(relay.offered))
            timeout, limit = self._settings.raw_start_timeout, self._settings.max_queued_size
            share = self._budgets.of(caller)

            async def reach(record: ActorRecord) -> None:
                calls = self._backend.calls
                tunnel = calls.tunnel(record.id, request, slim(caller), timeout=timeout)
                await relay.run(tunnel, Budget("raw message", limit, share.budget))

            await self._backend.directory.reach(query, reach)
        except OSError:
            return  # The client left while we wrote.
        except Exception as error:
            await relay.refuse(error)


class Relay:
    """One socket."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, close_timeout: float) -> None:
        self.offered: list[str] = scope.get("subprotocols", [])
        self._receive = receive
        self._send = send
        self._close_timeout = close_timeout
        self._accepted = False

    async def run(self, tunnel: Tunnel, unfinished: Budget) -> None:
        """Until either side ends it. Raises what kept the actor from accepting.

        `unfinished` bounds what has come of a message of the actor's.
        """
        reader = asyncio.create_task(self._read(tunnel))
        try:
            start = await tunnel.started()
            if start is not None:
                await self._accept(start.protocol, start.headers)
                if not await self._write(tunnel, unfinished):
                    await self._end(TOO_BIG, MessageTooLong.code)
                    return
                if tunnel.failure is not None:
                    await self._end(SERVICE_RESTART, error_message(tunnel.failure).code)
            if tunnel.closing is not None:
                await self._end(tunnel.closing.code, tunnel.closing.reason)
        finally:
            unfinished.end()
            tunnel.leave()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def refuse(self, error: Exception) -> None:
        """Setup failed: a close that says so."""
        code = INTERNAL
        if isinstance(error, RivetError) and error.status == UNAVAILABLE:
            code = TRY_AGAIN_LATER
        try:
            await self._end(code, error_message(error).code)
        except OSError:
            return  # The client left while we wrote.

    async def _accept(self, protocol: str | None, headers: list[tuple[bytes, bytes]]) -> None:
        if protocol is None and PROTOCOL in self.offered:
            protocol = PROTOCOL
        self._accepted = True
        await self._send({"type": "websocket.accept", "subprotocol": protocol, "headers": headers})

    async def _end(self, code: int, reason: str) -> None:
        """Close; a client that does not read cannot be told, and is not waited for."""
        if not self._accepted:
            await self._accept(None, [])
        close = {"type": "websocket.close", "code": code, "reason": fit(reason)}
        try:
            async with asyncio.timeout(self._close_timeout):
                await self._send(close)
        except TimeoutError:
            log.warning("a raw socket is cut: its client does not read", extra=REPEATED)

    async def _read(self, tunnel: Tunnel) -> None:
        try:
            while (message := await self._receive())["type"] == "websocket.receive":
                text: str | None = message.get("text")
                data = message["bytes"] if text is None else text.encode()
                if not await tunnel.give(data, text=text is not None):
                    return
            tunnel.leave(message.get("code", 1005), message.get("reason") or "")
        except Exception:
            log.exception("a raw socket cannot be read", extra=REPEATED)
            tunnel.leave()

    async def _write(self, tunnel: Tunnel, unfinished: Budget) -> bool:
        """Relay messages until there are no more; False for one that is too long to be joined."""
        parts: list[RawData] = []
        while (piece := await tunnel.take()) is not None:
            if (piece.more or parts) and not unfinished.fits(len(piece.data)):
                log.warning(
                    "a raw socket is closed: a message of its actor has more than %d bytes, "
                    "or too much waits for its caller",
                    unfinished.limit,
                    extra=REPEATED,
                )
                return False
            parts.append(piece)
            if piece.more:
                continue
            data = piece.data if len(parts) == 1 else b"".join(part.data for part in parts)
            parts.clear()
            if piece.text:
                await self._send({"type": "websocket.send", "text": data.decode()})
            else:
                await self._send({"type": "websocket.send", "bytes": data})
            unfinished.give_back(unfinished.held)
        return True
