"""Back-pressure on raw requests and sockets: two bounds, one for each thing that fills.

* A **window** for each exchange and direction: bytes that the sender has given
  and the reader has not taken. A reader that is slow slows its writer. What
  the output gate holds is in the window too, so a store that hangs stops the
  writers of its actors and fills nobody's memory.
* A **lane** for each session and direction: bytes that have not come out of the
  link. Beyond it pieces wait at the sender, in order, and not in the link's
  buffer, which is everybody's. They are let go when they arrive, not when they
  are taken: a client that does not read holds up nobody else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from rivet_ray.protocol.caller import Message
from rivet_ray.protocol.raw import RAW_PIECE, RAW_WINDOW, RawData

LANE = 4 * 1024 * 1024
"""Bytes of all raw exchanges of a session that may be in the link."""
GRANT = RAW_WINDOW // 4
"""Bytes that are taken before the writer hears of it."""
ARRIVED = LANE // 16

MessageT = TypeVar("MessageT", bound=Message)


class Lane(Generic[MessageT]):
    """What a session sends for raw exchanges, in order; `RawData` is paid for."""

    __slots__ = ("_queue", "_send", "_under_way")

    def __init__(self, send: Callable[[MessageT], None]) -> None:
        self._send = send
        self._queue: deque[MessageT] = deque()
        self._under_way = 0

    def put(self, message: MessageT) -> None:
        """Send a message, or keep it behind those that wait."""
        if self._queue or (self._under_way >= LANE and isinstance(message, RawData)):
            self._queue.append(message)
        else:
            self._pass(message)

    def arrived(self, size: int) -> None:
        """The other end has received `size` bytes."""
        self._under_way -= size
        queue = self._queue
        while queue and (self._under_way < LANE or not isinstance(queue[0], RawData)):
            self._pass(queue.popleft())

    def _pass(self, message: MessageT) -> None:
        if isinstance(message, RawData):
            self._under_way += message.cost
        self._send(message)


class Arrivals:
    """Counts what comes out of a lane, and says so now and then."""

    __slots__ = ("_size", "_tell")

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell
        self._size = 0

    def count(self, size: int) -> None:
        self._size += size
        if self._size >= ARRIVED:
            size, self._size = self._size, 0
            self._tell(size)


class Inflow:
    """Pieces that wait for their one reader."""

    __slots__ = ("_ended", "_grant", "_pieces", "_taken", "_wake")

    def __init__(self, grant: Callable[[int], None]) -> None:
        """`grant` tells the writer that so many bytes have been taken."""
        self._grant = grant
        self._pieces: deque[RawData] = deque()
        self._taken = 0
        self._ended = False
        self._wake: asyncio.Future[None] | None = None

    def put(self, piece: RawData) -> None:
        self._pieces.append(piece)
        self._notify()

    def end(self) -> None:
        """Nothing comes any more; what is here may still be taken."""
        self._ended = True
        self._notify()

    async def take(self) -> RawData | None:
        """The next piece; None when there is no more."""
        while not self._pieces:
            if self._ended:
                return None
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        piece = self._pieces.popleft()
        self._taken += piece.cost
        if self._taken >= GRANT and not self._ended:
            size, self._taken = self._taken, 0
            self._grant(size)
        return piece

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class Outflow:
    """A window: what its one writer may give."""

    __slots__ = ("_credit", "_ended", "_wake")

    def __init__(self, credit: int) -> None:
        self._credit = credit
        self._ended = False
        self._wake: asyncio.Future[None] | None = None

    def grant(self, size: int) -> None:
        self._credit += size
        self._notify()

    def end(self) -> None:
        """Nobody reads any more."""
        self._ended = True
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def room(self) -> bool:
        """Wait until a piece may be given, whatever its size; False if nobody reads."""
        while self._credit <= 0 and not self._ended:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return not self._ended

    def given(self, piece: RawData) -> None:
        """A piece is on its way."""
        self._credit -= piece.cost


def pieces(data: bytes) -> list[bytes]:
    """Cut into what one message carries; one empty piece where there is nothing."""
    if len(data) <= RAW_PIECE:
        return [data]
    return [data[at : at + RAW_PIECE] for at in range(0, len(data), RAW_PIECE)]
