"""A connection over a WebSocket, or over an event stream where none gets through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from rivet_ray.client.transport import Closing, ConnectionTransport
from rivet_ray.client.websocket import WebSocketConnection
from rivet_ray.errors import Outcome, RequestFailed
from rivet_ray.protocol.v0 import Arrived, Init, ToServer

PATIENCE = 5.0
"""Seconds for the handshake of a WebSocket, which something on the way may swallow.

The server answers it before it looks at the actor, which may take long to start.
"""


class EitherConnection:
    """Implements ConnectionTransport.

    What the server itself refuses is not tried again on the other transport.
    """

    def __init__(
        self,
        socket: WebSocketConnection,
        stream: Callable[[], ConnectionTransport],
        fell_back: Callable[[], None],
    ) -> None:
        """`fell_back` is called when a stream opened where there was no handshake."""
        self._socket = socket
        self._way: ConnectionTransport = socket
        self._stream = stream
        self._fell_back = fell_back

    @property
    def closing(self) -> Closing:
        return self._way.closing

    async def open(self) -> Init:
        upgraded = False
        try:
            await self._upgrade()
            upgraded = True
            return await self._socket.open()
        except RequestFailed as error:
            unreachable = error
        stream = self._stream()
        try:
            init = await stream.open()
        except RequestFailed:
            raise unreachable from None
        self._way = stream
        if not upgraded:
            self._fell_back()
        return init

    async def _upgrade(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._socket.upgrade()
        except TimeoutError as error:
            raise RequestFailed(
                f"No WebSocket was open within {PATIENCE:g} s.", outcome=Outcome.NOT_STARTED
            ) from error

    async def send(self, message: ToServer) -> None:
        await self._way.send(message)

    def __aiter__(self) -> AsyncIterator[Arrived]:
        return self._way.__aiter__()

    async def leave(self) -> None:
        await self._way.leave()

    async def close(self) -> None:
        await self._way.close()
