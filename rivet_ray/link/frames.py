"""Bytes to frames and back; nothing here does I/O.

A frame is its length in four bytes, big-endian, and as many bytes of msgpack.
After the handshake each frame is a batch: an array of messages of the port and
of `Beat`s, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from rivet_ray.link.faults import LinkGarbled
from rivet_ray.protocol.caller import Message
from rivet_ray.protocol.port import ToGateway, ToHost

HEADER = 4


class Beat(Message, frozen=True, tag="beat"):
    """A sign of life. One that asks is answered by one that does not."""

    asks: bool


class TooLong(ValueError):
    """A message that no frame can hold."""


class FrameReader:
    """Cuts a stream of bytes into the payloads of frames.

    `limit` may be changed between frames. No more is kept than a frame of that
    length and what was fed last.
    """

    __slots__ = ("_buffer", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The next payload, or None until more is fed.

        Raises LinkGarbled for a longer frame than `limit`, as soon as its length is there.
        """
        buffer = self._buffer
        if len(buffer) < HEADER:
            return None
        end = HEADER + int.from_bytes(buffer[:HEADER], "big")
        if end - HEADER > self.limit:
            raise LinkGarbled(f"A frame of {end - HEADER} bytes; {self.limit} is the limit.")
        if len(buffer) < end:
            return None
        payload = bytes(memoryview(buffer)[HEADER:end])
        del buffer[:end]
        return payload


def frame(payload: bytes) -> bytes:
    """One payload as a frame."""
    return len(payload).to_bytes(HEADER, "big") + payload


def encode_batch(
    messages: Sequence[Message], limit: int, unsendable: Callable[[Message, Exception], None]
) -> list[bytearray]:
    """Messages as frames, in order, as few as `limit` allows.

    A message that cannot be encoded, or that alone is longer than `limit`, is
    left out and handed to `unsendable` with the reason.
    """
    encoded = bytearray()
    fault: Exception
    try:
        _encoder.encode_into(messages, encoded, HEADER)
        size = len(encoded) - HEADER
        if size <= limit:
            encoded[:HEADER] = size.to_bytes(HEADER, "big")
            return [encoded]
        fault = TooLong(f"{size} bytes; {limit} is the limit")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        fault = error
    if len(messages) == 1:
        unsendable(messages[0], fault)
        return []
    middle = len(messages) // 2
    return [
        *encode_batch(messages[:middle], limit, unsendable),
        *encode_batch(messages[middle:], limit, unsendable),
    ]


def decode_to_host(payload: bytes) -> list[ToHost | Beat]:
    """A batch from a gateway. Raises LinkGarbled."""
    try:
        batch: list[ToHost | Beat] = _to_host.decode(payload)
    except (ValueError, RecursionError) as fault:
        raise LinkGarbled(f"A frame that cannot be read: {fault}") from fault
    return batch


def decode_to_gateway(payload: bytes) -> list[ToGateway | Beat]:
    """A batch from a host. Raises LinkGarbled."""
    try:
        batch: list[ToGateway | Beat] = _to_gateway.decode(payload)
    except (ValueError, RecursionError) as fault:
        raise LinkGarbled(f"A frame that cannot be read: {fault}") from fault
    return batch


_encoder = msgspec.msgpack.Encoder()
_to_host = msgspec.msgpack.Decoder(list[ToHost | Beat])
_to_gateway = msgspec.msgpack.Decoder(list[ToGateway | Beat])
