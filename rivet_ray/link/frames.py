"""Bytes to frames and back; nothing here does I/O.

A frame is its length in four bytes, big-endian, and as many bytes of msgpack.
After the handshake each frame is a batch: an array of messages of the port and
of `Beat`s, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from rivet_ray.link.faults import LinkGarbled
from rivet_ray.protocol.caller import Message
from rivet_ray.protocol.port import ToGateway, ToHost

HEADER = 4

FieldT = TypeVar("FieldT", int, str, bytes)
MessageT = TypeVar("MessageT", bound=Message)


class Beat(Message, frozen=True, tag="beat"):
    """A sign of life. One that asks is answered by one that does not."""

    asks: bool


class TooLong(ValueError):
    """A message that no frame can hold."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something in a batch that is not a message of the port, though its frame is whole."""

    kind: str
    """The tag of the message that it was meant to be."""
    fields: Sequence[msgspec.Raw]
    fault: Exception

    def number(self) -> int | None:
        """The first field, if it is a number: most messages begin with that of their call."""
        return self._field(0, int)

    def name(self, at: int = 0) -> str | None:
        """A field, if it is a text: some messages begin with the id of their connection."""
        return self._field(at, str)

    def data(self, at: int) -> bytes | None:
        """A field, if it is bytes."""
        return self._field(at, bytes)

    def _field(self, at: int, kind: type[FieldT]) -> FieldT | None:
        try:
            return msgspec.msgpack.decode(self.fields[at], type=kind)
        except (IndexError, ValueError):
            return None


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
    messages: Sequence[Message],
    limit: int,
    unsendable: Callable[[Message, Exception], Sequence[Message]],
) -> list[bytearray]:
    """Messages as frames, in order, as few as `limit` allows.

    A message that cannot be encoded, or that alone is longer than `limit`, is
    handed to `unsendable` with the reason, and what that returns goes in its place.
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
        instead = unsendable(messages[0], fault)
        return encode_batch(instead, limit, unsendable) if instead else []
    middle = len(messages) // 2
    return [
        *encode_batch(messages[:middle], limit, unsendable),
        *encode_batch(messages[middle:], limit, unsendable),
    ]


def decode_to_host(payload: bytes) -> Sequence[ToHost | Beat | Unreadable]:
    """A batch from a gateway. Raises LinkGarbled if it is not even a batch."""
    batch: Sequence[ToHost | Beat | Unreadable]
    try:
        batch = _to_host.decode(payload)
    except (ValueError, RecursionError):
        batch = _one_by_one(payload, _one_to_host)
    return batch


def decode_to_gateway(payload: bytes) -> Sequence[ToGateway | Beat | Unreadable]:
    """A batch from a host. Raises LinkGarbled if it is not even a batch."""
    batch: Sequence[ToGateway | Beat | Unreadable]
    try:
        batch = _to_gateway.decode(payload)
    except (ValueError, RecursionError):
        batch = _one_by_one(payload, _one_to_gateway)
    return batch


def _one_by_one(
    payload: bytes, decoder: msgspec.msgpack.Decoder[MessageT]
) -> list[MessageT | Unreadable]:
    """A batch in which something cannot be read: the messages around it still can."""
    try:
        return [_one(item, decoder) for item in _items.decode(payload)]
    except (ValueError, RecursionError) as fault:
        raise LinkGarbled(f"A frame that cannot be read: {fault}") from fault


def _one(item: msgspec.Raw, decoder: msgspec.msgpack.Decoder[MessageT]) -> MessageT | Unreadable:
    try:
        return decoder.decode(item)
    except (ValueError, RecursionError) as fault:
        # Raises if it is not even an array that begins with a tag.
        tag, *fields = _items.decode(item)
        return Unreadable(_tag.decode(tag), fields, fault)


_encoder = msgspec.msgpack.Encoder()
_to_host = msgspec.msgpack.Decoder(list[ToHost | Beat])
_to_gateway = msgspec.msgpack.Decoder(list[ToGateway | Beat])
_one_to_host: msgspec.msgpack.Decoder[ToHost | Beat] = msgspec.msgpack.Decoder(ToHost | Beat)
_one_to_gateway: msgspec.msgpack.Decoder[ToGateway | Beat] = msgspec.msgpack.Decoder(
    ToGateway | Beat
)
_items = msgspec.msgpack.Decoder(list[msgspec.Raw])
_tag = msgspec.msgpack.Decoder(str)
