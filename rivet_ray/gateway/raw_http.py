"""`/actors/raw/http/{path}`: requests for an actor's `on_fetch`, streamed both ways.

Nothing is gathered here beyond a window of bytes in each direction: an actor
that does not read stops the client's upload, a client that does not read stops
the actor's writing.

**Deadlines (C9).** The answer has to begin within `raw_start_timeout`. From then
on the exchange lives as long as something moves: without a byte in either
direction for `raw_idle_timeout` it is broken off. A response that is broken off
never looks complete: the client's connection is cut.
"""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send

from rivet_ray.gateway.actions import not_found
from rivet_ray.gateway.admission import Admission
from rivet_ray.gateway.backend import Backend
from rivet_ray.gateway.negotiate import (
    PARAMS,
    ClientGone,
    fallback_encoding,
    headers_of,
    params_of,
    query_of,
    read_body,
    request_info,
)
from rivet_ray.gateway.raw import ACTION, raw_request, slim
from rivet_ray.gateway.responses import respond_error
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.protocol.caller import Caller
from rivet_ray.protocol.queries import ActorQuery
from rivet_ray.protocol.raw import RAW_PIECE, RawStart
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime import Tunnel
from rivet_ray.store import ActorRecord

log = logger_of_strangers("rivet_ray.gateway")

METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"})
MARKER = b"/actors/raw/http"


class RawHttp:
    """Admits the client, then relays."""

    def __init__(self, backend: Backend, admission: Admission, settings: GatewaySettings) -> None:
        self._backend = backend
        self._admission = admission
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in METHODS:
            await not_found(scope, receive, send)
            return
        headers = headers_of(scope)
        relay = Relay(self._backend, self._settings, scope, receive, send)
        try:
            query = query_of(headers)
            params = params_of(headers.get(PARAMS), self._settings.max_params_size)
            caller = await self._admission.admit(query, ACTION, params, request_info(scope))
            await relay.run(query, caller, headers)
        except (ClientGone, OSError):
            return  # The client left.
        except Exception as error:
            if relay.started:
                log.error("a raw response is broken off: %s", error, exc_info=error, extra=REPEATED)
            else:
                await respond_error(send, error, fallback_encoding(headers))


class Relay:
    """One request, from its admission to its end."""

    def __init__(
        self,
        backend: Backend,
        settings: GatewaySettings,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._backend = backend
        self._settings = settings
        self._scope = scope
        self._receive = receive
        self._send = send
        self._idle: asyncio.Timeout | None = None
        self.started = False
        """The response has begun."""

    async def run(self, query: ActorQuery, caller: Caller, headers: dict[bytes, bytes]) -> None:
        body, more = await self._first(headers)
        request = raw_request(self._scope, MARKER)

        async def reach(record: ActorRecord) -> None:
            tunnel = self._backend.calls.tunnel(
                record.id,
                request,
                slim(caller),
                body=body,
                more=more,
                timeout=self._settings.raw_start_timeout,
            )
            upload = asyncio.create_task(self._upload(tunnel, more))
            try:
                start = await tunnel.started()
                if start is not None:
                    await self._respond(tunnel, start)
            finally:
                tunnel.leave()
                upload.cancel()
                await asyncio.gather(upload, return_exceptions=True)

        await self._backend.directory.reach(query, reach)

    async def _first(self, headers: dict[bytes, bytes]) -> tuple[bytes, bool]:
        """The body, where it is a short one, and whether it is still to come."""
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) <= RAW_PIECE:
            timeout = self._settings.body_timeout
            return await read_body(self._receive, headers, RAW_PIECE, timeout), False
        has_none = not length and b"transfer-encoding" not in headers
        return b"", not (has_none and self._scope["http_version"].startswith("1"))

    # --- From the client ------------------------------------------------------

    async def _upload(self, tunnel: Tunnel, more: bool) -> None:
        """Hand the body over as the actor takes it, and notice when the client leaves."""
        try:
            while more:
                # First room, then reading: what is read cannot be put back.
                if not await tunnel.room():
                    return
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    tunnel.leave()
                    return
                more = message.get("more_body", False)
                await tunnel.give(message.get("body", b""), more=more)
                self._moved()
            while (await self._receive())["type"] != "http.disconnect":
                pass
            tunnel.leave()
        except Exception:
            log.exception("the body of a raw request cannot be read", extra=REPEATED)
            tunnel.leave()

    # --- To the client --------------------------------------------------------

    async def _respond(self, tunnel: Tunnel, start: RawStart) -> None:
        async with asyncio.timeout(None) as self._idle:
            self._moved()
            self.started = True
            head: Message = {
                "type": "http.response.start",
                "status": start.status,
                "headers": start.headers,
            }
            await self._send(head)
            while (piece := await tunnel.take()) is not None:
                await self._send(
                    {"type": "http.response.body", "body": piece.data, "more_body": piece.more}
                )
                if not piece.more:
                    return
                self._moved()
        if tunnel.failure is not None:
            raise tunnel.failure
        if tunnel.closing is not None:
            log.warning("a raw response is broken off: %s", tunnel.closing.reason, extra=REPEATED)

    def _moved(self) -> None:
        """Something has gone on; the exchange may be idle again for a while."""
        if self._idle is not None and not self._idle.expired():
            loop = asyncio.get_running_loop()
            self._idle.reschedule(loop.time() + self._settings.raw_idle_timeout)
