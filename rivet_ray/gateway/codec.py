"""Reading what clients send and writing what they get, so that long messages hold up nobody.

Turning bytes into objects, and back, is work of the interpreter that nothing else in the
process can interrupt, in this thread or another, while one call into C lasts. What is
short is done at once. What is long is weighed first (`rivet_ray.protocol.weighing`),
refused if it would take too long in one call, and otherwise read in a thread of its own,
one message after the other: between two calls into C the event loop has its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from rivet_ray.errors import MessageTooLong, RivetError
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.gateway.statistics import GatewayStatistics
from rivet_ray.protocol.encodings import DecodeFault, Encoding

SHORT: Final = 16_384
"""Bytes of a message that is read at once. At worst it holds 16,384 items of CBOR or 5,461
of JSON, which take 10 ms."""
BOUNDED: Final = 65_536
"""Bytes of a message that takes 50 ms at worst, whatever it holds."""
_CONTAINERS: Final = 2_048
"""Lists and objects of an answer that is written at once: as CBOR each takes 3 µs."""
_NO_CONTAINER: Final = bytes(
    byte for byte in range(256) if not (0x80 <= byte < 0xA0 or 0xDC <= byte < 0xE0)
)
"""What no list or object of msgpack begins with; a text may hold the other bytes too."""
_Data = TypeVar("_Data", bytes, bytes | str)
_T = TypeVar("_T")


class Codec:
    """The messages of one gateway."""

    def __init__(self, settings: GatewaySettings, statistics: GatewayStatistics) -> None:
        self._most = settings.max_body_items
        self._statistics = statistics
        self._thread: ThreadPoolExecutor | None = None

    async def read(
        self,
        read: Callable[[Encoding, _Data], _T],
        encoding: Encoding,
        data: _Data,
        fault: type[RivetError],
        *,
        status: int = 413,
    ) -> _T:
        """Return what `read` makes of a message from outside.

        Raises what it raises, MessageTooLong with that status for too many values, and
        `fault` for what shows that it cannot be read while it is weighed.
        """
        if len(data) <= SHORT:
            return read(encoding, data)
        return await self._run(self._read_long, read, encoding, data, fault, status)

    def _read_long(
        self,
        read: Callable[[Encoding, _Data], _T],
        encoding: Encoding,
        data: _Data,
        fault: type[RivetError],
        status: int,
    ) -> _T:
        try:
            weight = encoding.weigh(data, self._most)
        except DecodeFault as error:
            if len(data) <= BOUNDED:
                return read(encoding, data)
            raise fault(f"The message cannot be read: {error}") from error
        if weight > self._most:
            self._statistics.too_many_items += 1
            heavy = MessageTooLong(
                f"The message holds too many values: they count for more than {self._most}. "
                "Send them in several messages, or as bytes."
            )
            heavy.status = status
            raise heavy
        return read(encoding, data)

    async def write(
        self,
        write: Callable[[Encoding, bytes | None], bytes],
        encoding: Encoding,
        output: bytes | None,
    ) -> bytes:
        """Return what `write` makes of an action's output, which is msgpack."""
        if output is None or (len(output) <= SHORT and _is_flat(output)):
            return write(encoding, output)
        return await self._run(write, encoding, output)

    async def _run(self, function: Callable[..., _T], *arguments: object) -> _T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="rivet-ray-codec")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)

    def close(self) -> None:
        """End the thread, once it has nothing left to do. It is started again if it is needed."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None


def _is_flat(output: bytes) -> bool:
    return len(output) <= _CONTAINERS or len(output.translate(None, _NO_CONTAINER)) <= _CONTAINERS
