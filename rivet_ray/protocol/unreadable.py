"""Which call a message is, where its arguments cannot be read.

Then that call alone fails, and its connection goes on.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any

import msgspec

from rivet_ray.protocol.cbor_scan import ARRAY, TEXT, Scanner, Unscannable
from rivet_ray.protocol.encodings import Encoding
from rivet_ray.protocol.half_pairs import whole_json

MAX_ACTION_ID = 2**53  # as far as JavaScript counts

_FLOAT64 = 0xFB


class _Call(msgspec.Struct, gc=False):
    i: Annotated[int, msgspec.Meta(ge=0, le=MAX_ACTION_ID)]
    n: str
    a: msgspec.Raw


class _Body(msgspec.Struct, gc=False):
    ar: _Call
    sr: Any = None


class _Message(msgspec.Struct, gc=False):
    b: _Body


_message = msgspec.json.Decoder(_Message)


def call_of(encoding: Encoding, data: bytes | str) -> int | None:
    """The number of the call, or None where it is not one, or not even that can be read."""
    if encoding.binary:
        return None if isinstance(data, str) else _in_cbor(data)
    return _in_json(data)


def _in_json(data: bytes | str) -> int | None:
    try:
        body = _message.decode(whole_json(data) or data).b
    except (ValueError, RecursionError):
        return None
    is_array = bytes(body.ar.a).lstrip()[:1] == b"["
    return body.ar.i if body.sr is None and is_array else None


def _in_cbor(data: bytes) -> int | None:
    scanner = Scanner(data)
    found: int | None = None
    try:
        for name in scanner.members():
            if name == b"b":
                found = _body(scanner)
            else:
                scanner.skip()
    except Unscannable:
        return None
    return found if scanner.at == len(data) else None


def _body(scanner: Scanner) -> int | None:
    found: int | None = None
    for name in scanner.members():
        if name == b"ar":
            found = _call(scanner)
        elif name == b"sr":
            raise Unscannable
        else:
            scanner.skip()
    return found


def _call(scanner: Scanner) -> int | None:
    number: int | None = None
    named = listed = False
    for name in scanner.members():
        start = scanner.at
        first = scanner.data[start : start + 1]
        major = first[0] // 32 if first else -1
        scanner.skip()
        if name == b"i":
            number = number_of(scanner.data[start : scanner.at])
        elif name == b"n":
            named = major == TEXT
        elif name == b"a":
            listed = major == ARRAY
    return number if named and listed else None


def number_of(item: bytes) -> int | None:
    """Return the number of a call that an item of CBOR is, or None."""
    if item[0] == _FLOAT64:
        (value,) = struct.unpack(">d", item[1:])
        number = int(value) if value.is_integer() else -1
    else:
        major, number, _ = Scanner(item).head()
        if major != 0:
            return None
    return number if 0 <= number <= MAX_ACTION_ID else None
