"""Messages as server-sent events, and back: what an `EventSource` receives.

A message is the data of one event without a name: the JSON text itself, or the
base64 of what is binary. How a connection ended is an event of ours, `close`,
which clients that do not know it pass over.

Nothing here does I/O.
"""

from __future__ import annotations

import base64
import binascii
import re
import sys
from typing import NamedTuple

import msgspec

from rivet_ray.protocol.encodings import DecodeFault, Encoding

CONTENT_TYPE = "text/event-stream"
MESSAGE = "message"
"""What an event without a name is called."""
ERROR = "error"
"""The event that carries the bare code of an error where the encoding is unknown."""
CLOSE = "close"
KEEP_ALIVE_HEADER = "X-RivetKit-Keep-Alive"
"""Ours, on the answer: at least every so many seconds something comes, if only a comment."""


class Ended(msgspec.Struct, frozen=True):
    """How a connection ended: a WebSocket close code and its reason."""

    code: int
    reason: str


class ServerSentEvent(NamedTuple):
    """One event of a stream."""

    name: str
    data: str
    cut: bool = False
    """It was too long: `data` is its start."""


# --- Server side --------------------------------------------------------------


def message_event(encoding: Encoding, message: bytes) -> bytes:
    """The event that carries a message, which has no line breaks where it is text."""
    data = base64.b64encode(message) if encoding.binary else message
    return b"data: %b\n\n" % data


def error_event(code: str) -> bytes:
    """The bare code of an error, for a client whose encoding is unknown."""
    return b"event: error\ndata: %b\n\n" % code.encode()


def close_event(code: int, reason: str) -> bytes:
    """How the connection ended. The end of the stream follows."""
    return b"event: close\ndata: %b\n\n" % msgspec.json.encode(Ended(code, reason))


# --- Client side --------------------------------------------------------------


def message_of(encoding: Encoding, event: ServerSentEvent) -> bytes | str:
    """The frame that an event carries, as a WebSocket would have. Raises DecodeFault."""
    if not encoding.binary:
        return event.data
    try:
        return base64.b64decode(event.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeFault(f"the event is not base64: {error}") from error


def ended_of(event: ServerSentEvent) -> Ended:
    """What a `close` event says. Raises DecodeFault."""
    try:
        return _ended.decode(event.data)
    except msgspec.DecodeError as error:
        raise DecodeFault(f"the end of the stream cannot be read: {error}") from error


_ended = msgspec.json.Decoder(Ended)
_LINE_END = re.compile(rb"\r\n|\n|\r")
START = 4_096
"""How many bytes are kept of the data of an event that is too long."""
_LINE = 16
"""Bytes that a line takes beside its text."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventStreamReader:
    """Cuts a stream of bytes into events, as the standard for event streams says.

    Lines end with LF, CR or both. Comments are dropped; so is an event without
    data, and one that the end of the stream cut off. Of an event with more than
    `longest` bytes only the start is kept.
    """

    __slots__ = (
        "_begun",
        "_cut",
        "_data",
        "_longest",
        "_name",
        "_rest",
        "_size",
        "_skip_line_feed",
        "_skipping",
    )

    def __init__(self, longest: int | None = None) -> None:
        self._longest = sys.maxsize if longest is None else longest
        self._size = 0
        self._cut = False
        self._skipping = False
        """The start of this line has been taken, and the rest of it is dropped."""
        self._rest = bytearray()
        self._skip_line_feed = False
        self._begun = False
        self._name = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that are complete with these bytes."""
        if self._skip_line_feed and data:
            # The CR before it has ended its line already.
            self._skip_line_feed = False
            data = data.removeprefix(b"\n")
        self._skip_line_feed = data.endswith(b"\r")
        searched = len(self._rest)
        self._rest += data
        found: list[ServerSentEvent] = []
        start = 0
        for end in _LINE_END.finditer(self._rest, searched):
            if self._skipping:
                self._skipping = False
            else:
                self._take(bytes(self._rest[start : end.start()]), found)
            start = end.end()
        del self._rest[:start]
        if self._skipping:
            self._rest.clear()
        elif len(self._rest) > max(START, self._longest - self._size):
            self._skipping = True
            self._take(bytes(self._rest[: START + len(b"data: ")]), found, cut=True)
            self._rest.clear()
        return found

    def _take(self, line: bytes, found: list[ServerSentEvent], *, cut: bool = False) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            if self._data:
                data = "\n".join(self._data)
                found.append(ServerSentEvent(self._name or MESSAGE, data, self._cut))
            self._name, self._data, self._size, self._cut = "", [], 0, False
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data" and not self._cut:
            self._size += len(value) + _LINE
            self._cut = cut or self._size > self._longest
            kept = value[:START] if self._cut else value
            self._data.append(kept.decode(errors="replace"))
        elif field == b"event":
            self._name = value.decode(errors="replace")
