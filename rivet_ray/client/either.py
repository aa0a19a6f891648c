"""A connection over a WebSocket, or over an event stream where none gets through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from rivet_ray.client.transport import Closing, ConnectionTransport
from rivet_ray.errors import Outcome, RequestFailed
from rivet_ray.protocol.v0 import Init, ToClient, ToServer

PATIENCE = 5.0
"""Seconds for a WebSocket to open; something on the way may swallow it without a word."""


class EitherConnection:
    """Implements ConnectionTransport.

    What the server itself refuses is not tried again on the other transport.
    """

    def __init__(
        self,
        socket: ConnectionTransport,
        stream: Callable[[], ConnectionTransport],
        fell_back: Callable[[], None],
    ) -> None:
        """`fell_back` is called when a stream opened where no WebSocket did."""
        self._way = socket
        self._stream = stream
        self._fell_back = fell_back

    @property
    def closing(self) -> Closing:
        return self._way.closing

    async def open(self) -> Init:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._way.open()
        except TimeoutError:
            unreachable = RequestFailed(
                f"No WebSocket was open within {PATIENCE:g} s.", outcome=Outcome.NOT_STARTED
            )
        except RequestFailed as error:
            unreachable = error
        stream = self._stream()
        try:
            init = await stream.open()
        except RequestFailed:
            raise unreachable from None
        self._way = stream
        self._fell_back()
        return init

    async def send(self, message: ToServer) -> None:
        await self._way.send(message)

    def __aiter__(self) -> AsyncIterator[ToClient]:
        return self._way.__aiter__()

    async def leave(self) -> None:
        await self._way.leave()

    async def close(self) -> None:
        await self._way.close()
