"""HTTP of uvicorn, where nobody who has not sent a request holds much, or for long.

httptools keeps a head as long as its client sends it, and uvicorn's first timeout begins
when the first request has been answered.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final, cast

from rivet_ray.errors import MessageTooLong, Outcome, Overloaded, RivetError
from rivet_ray.gateway.front import FIELD, Front, address_of, front_of
from rivet_ray.gateway.responses import OUTCOME, error_message
from rivet_ray.gateway.vanishing import HttpProtocol
from rivet_ray.protocol import v0
from rivet_ray.protocol.encodings import JSON

PIECE: Final = 8_192
"""Bytes that are parsed at once: the most that is beyond the bound of a head. A head that
is no longer does not count against the bound of all clients."""
PIPELINED: Final = 32
"""Requests that wait for one before them on the same connection; beyond, it is closed."""
MOST_PARTING: Final = 32
"""Clients without a place that are told so at the same time; others are cut off."""
LINGER: Final = 1.0
"""Seconds for a refused client to take the answer: with what it sends unread, the
system would close with a reset, which overtakes the answer."""


class BoundedHttpProtocol(HttpProtocol):
    """Bounds heads, trailers, silence, requests that wait, and the number of connections."""

    _front: Front

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._front = front_of(self.config)
        self._unread = 0
        """Bytes since the last one that had a meaning for the application."""
        self._held = 0
        """Bytes of a long head that count against the bound of all clients."""
        self._silence: asyncio.TimerHandle | None = None
        self._entered = False
        self._parting = False
        """The client is refused: what it still sends is thrown away."""
        self._told = False
        """It is one of those that are told that there is no place for them."""
        self._upgraded = False

    # --- Connections ------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._address = address_of(transport)
        if not self._front.admits(len(self.connections), self._address):
            self.transport = cast("asyncio.Transport", transport)
            self._turn_away()
            return
        super().connection_made(cast("asyncio.Transport", transport))
        self._entered = True
        self._front.entered(self, self._address)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._spoken()
        self._release()
        if self._entered and not self._upgraded:
            self._front.left(self._address)
        if self._told:
            self._front.parting -= 1
        super().connection_lost(exc)

    def _turn_away(self) -> None:
        """Answer without reading, or not at all if many are being answered so."""
        front = self._front
        if front.parting >= MOST_PARTING:
            self._parting = True
            self.transport.abort()
            return
        front.parting += 1
        self._told = True
        self._part(
            Overloaded("Too many connections. Try again later.", outcome=Outcome.NOT_STARTED)
        )

    def make_way(self) -> None:
        """See `rivet_ray.gateway.front.Silent`."""
        self.transport.abort()

    def handle_websocket_upgrade(self) -> None:
        self._upgraded = True
        self._spoken()
        self._release()
        super().handle_websocket_upgrade()

    # --- Silence ----------------------------------------------------------------

    def _await_request(self) -> None:
        """The client has to send the head of a request, until `head_timeout`."""
        if self._silence is None and not self._parting:
            self._silence = self.loop.call_later(self._front.head_timeout, self._end_silence)

    def _spoken(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        self._front.spoke(self)

    def _end_silence(self) -> None:
        self._silence = None
        self._front.statistics.silent_connections += 1
        self.transport.abort()

    # --- Sizes --------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._parting:
            return
        if len(data) <= PIECE:
            self._take(data)
        else:
            for start in range(0, len(data), PIECE):
                self._take(data[start : start + PIECE])
                if self._upgraded or self._parting or self.transport.is_closing():
                    return
        if self._upgraded or self._parting or self.transport.is_closing():
            return
        if not self._busy:
            self._await_request()

    def _take(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        if not self._unread or self._upgraded or self.transport.is_closing():
            return
        self._bound(self._unread + FIELD * len(self.headers or ()))

    def _bound(self, size: int) -> None:
        """Refuse a head that has become too long, and count one that is long."""
        if size > self._front.max_head_size:
            self._front.statistics.heads_too_long += 1
            error = MessageTooLong(
                "The address and headers of a request have at most "
                f"{self._front.max_head_size} bytes, with {FIELD} for each header.",
                outcome=Outcome.NOT_STARTED,
            )
            error.status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            if 2 * len(self.url) > self._front.max_head_size:
                error.status = HTTPStatus.REQUEST_URI_TOO_LONG
            self._part(error)
        elif size > PIECE and size > self._held:
            try:
                self._front.unread.take(size - self._held)
            except Overloaded as error:
                self._part(error)
            else:
                self._held = size

    def _release(self) -> None:
        if self._held:
            self._front.unread.give_back(self._held)
            self._held = 0

    def on_headers_complete(self) -> None:
        size = self._unread + FIELD * len(self.headers)
        self._unread = 0
        self._spoken()
        if self._parting or self.transport.is_closing():
            return
        if size > PIECE:
            self._bound(size)
            if self._parting:
                return
        super().on_headers_complete()
        if len(self.pipeline) > PIPELINED:
            self._front.statistics.connections_refused += 1
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        if not self._parting:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        if not self._parting:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._release()
        super().on_response_complete()

    @property
    def _busy(self) -> bool:
        """Whether a request waits for its answer."""
        cycle: Any = self.cycle  # None at first, though its type does not say so.
        return cycle is not None and not cycle.response_complete

    # --- Refusals -----------------------------------------------------------------

    def _part(self, error: RivetError) -> None:
        """Answer a client without having read what it wants, and close."""
        self._parting = True
        self._spoken()
        self._release()
        if not self._busy:
            self.transport.write(_answer(error))
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.loop.call_later(LINGER, self.transport.abort)
        else:
            # In the middle of a body, or behind a request that is not answered yet.
            self.transport.close()


def _answer(error: RivetError) -> bytes:
    message = error_message(error)
    body = v0.encode_error(JSON, message)
    status = HTTPStatus(error.status)
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "content-type: text/plain;charset=UTF-8",
        f"content-length: {len(body)}",
        f"{OUTCOME.decode()}: {message.outcome}",
        "connection: close",
        "",
        "",
    )
    return "\r\n".join(lines).encode() + body
