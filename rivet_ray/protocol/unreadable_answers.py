"""Whose message of a server it is, where its value cannot be read.

Then one call fails, or one event is missing, and the connection stays.
"""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

import msgspec

from rivet_ray.protocol.cbor_scan import ARRAY, OPEN_LENGTH, TEXT, Scanner, Unscannable
from rivet_ray.protocol.encodings import Encoding
from rivet_ray.protocol.half_pairs import whole_json
from rivet_ray.protocol.unreadable import MAX_ACTION_ID, number_of

PREFIX = 4_096
"""How many bytes at the start of a message say whose it is, if the rest is not looked at."""

_ID = Annotated[int, msgspec.Meta(ge=0, le=MAX_ACTION_ID)]


class Subject(NamedTuple):
    """What a message is about: a call, or an event."""

    call: int | None = None
    answered: bool = False
    """The call has returned; otherwise it has failed."""
    event: str | None = None
    sequence: int | None = None


class _Answer(msgspec.Struct, gc=False):
    i: _ID


class _Failure(msgspec.Struct, gc=False):
    ai: _ID


class _Event(msgspec.Struct, gc=False):
    n: str
    a: msgspec.Raw
    s: int | None = None


class _Body(msgspec.Struct, gc=False):
    ar: _Answer | None = None
    e: _Failure | None = None
    ev: _Event | None = None
    i: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct, gc=False):
    b: _Body


_message = msgspec.json.Decoder(_Message)
_START = re.compile(rb'\s*\{\s*"b"\s*:\s*\{\s*"ar"\s*:\s*\{\s*"i"\s*:\s*(\d{1,16})\s*[,}]')


def subject_of(encoding: Encoding, data: bytes | str) -> Subject | None:
    """Return whose message it is, or None if not even that can be read.

    The start of an answer is enough, so `data` may be cut off.
    """
    if encoding.binary:
        return None if isinstance(data, str) else _in_cbor(data)
    return _in_json(data)


def _in_json(data: bytes | str) -> Subject | None:
    try:
        body = _message.decode(whole_json(data) or data).b
    except (ValueError, RecursionError):
        start = data[:PREFIX]
        found = _START.match(start.encode(errors="replace") if isinstance(start, str) else start)
        number = MAX_ACTION_ID + 1 if found is None else int(found[1])
        return Subject(number, answered=True) if number <= MAX_ACTION_ID else None
    if bytes(body.i):
        return None
    match (body.ar, body.e, body.ev):
        case (_Answer(i=number), None, None):
            return Subject(number, answered=True)
        case (None, _Failure(ai=number), None):
            return Subject(number)
        case (None, None, _Event(n=name, s=sequence)) if bytes(body.ev.a).startswith(b"["):
            return Subject(event=name, sequence=sequence)
        case _:
            return None


def _in_cbor(data: bytes) -> Subject | None:
    kinds: dict[bytes, dict[bytes, bytes]] = {}
    try:
        _scan(Scanner(data), kinds)
    except Unscannable:
        if [*kinds] != [b"ar"]:
            return None
    if len(kinds) != 1:
        return None
    ((kind, items),) = kinds.items()
    if kind == b"ev":
        name = _text(items.get(b"n", b""))
        listed = items.get(b"a", b"\0")[0] // 32 == ARRAY
        sequence = number_of(items[b"s"]) if b"s" in items else None
        return Subject(event=name, sequence=sequence) if name is not None and listed else None
    answered = kind == b"ar"
    item = items.get(b"i" if answered else b"ai")
    number = None if item is None else number_of(item)
    return None if number is None else Subject(number, answered)


def _scan(scanner: Scanner, kinds: dict[bytes, dict[bytes, bytes]]) -> None:
    """Note the start of what is said of each kind of message, as far as it can be read."""
    for name in scanner.members():
        if name != b"b":
            scanner.skip()
            continue
        for kind in scanner.members():
            if kind not in _KINDS:
                scanner.skip()
                continue
            items = kinds[kind] = dict[bytes, bytes]()
            if kind == b"i":
                scanner.skip()
                continue
            for member in scanner.members():
                start = scanner.at
                scanner.skip()
                if member in _MEMBERS:
                    items[member] = scanner.data[start : min(scanner.at, start + PREFIX)]


_KINDS = (b"i", b"e", b"ar", b"ev")
_MEMBERS = (b"i", b"ai", b"n", b"a", b"s")


def _text(item: bytes) -> str | None:
    scanner = Scanner(item)
    try:
        major, size, _ = scanner.head()
        if major != TEXT or size == OPEN_LENGTH:
            return None
        return scanner.take(size).decode(errors="replace")
    except Unscannable:
        return None
