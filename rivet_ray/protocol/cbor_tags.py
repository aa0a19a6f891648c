"""The CBOR tags of JavaScript's values, as cbor-x writes them, read as plain values."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

import cbor2

from rivet_ray.protocol.faults import DecodeFault

_T = TypeVar("_T")


def _of(kind: type[_T], value: Any, tag: int) -> _T:
    if not isinstance(value, kind):
        raise DecodeFault(f"tag {tag} needs {kind.__name__}, not {type(value).__name__}")
    return value


def _same(kind: type[Any], tag: int) -> Callable[[Any, bool], Any]:
    """The reader of a tag that only says how JavaScript calls what it holds."""

    def read(value: Any, immutable: bool) -> Any:
        return _of(kind, value, tag)

    return read


def _bignum(tag: int) -> Callable[[Any, bool], int]:
    def read(value: Any, immutable: bool) -> int:
        digits = _of(bytes, value, tag).lstrip(b"\0")
        number = int.from_bytes(digits[:9], "big")  # nine are enough to be too many
        number = number if tag == 2 else -1 - number
        if not -(2**63) <= number < 2**64:
            raise DecodeFault("an integer outside -2**63..2**64-1 cannot be read")
        return number

    return read


def _typed_array(tag: int, form: str) -> Callable[[Any, bool], list[int] | list[float]]:
    item = struct.calcsize(form)
    order, letter = form[0], form[1]

    def read(value: Any, immutable: bool) -> list[int] | list[float]:
        data = _of(bytes, value, tag)
        if len(data) % item:
            raise DecodeFault(f"a typed array of tag {tag} has {item} bytes an element")
        return list(struct.unpack(f"{order}{len(data) // item}{letter}", data))

    return read


def _object(value: Any, immutable: bool) -> dict[str, Any]:
    """A RegExp, as its source and flags, or an Error, as its name, message and cause."""
    members = cast("list[Any]", _of(list, value, 27))
    if not 2 <= len(members) <= 3 or not isinstance(members[0], str):
        raise DecodeFault("tag 27 holds neither a RegExp nor an Error")
    if members[0] == "RegExp":
        return dict(zip(("source", "flags"), members[1:], strict=False))
    return dict(zip(("name", "message", "cause"), members, strict=False))


def _refuse(tag: int) -> Callable[[Any, bool], NoReturn]:
    def read(value: Any, immutable: bool) -> NoReturn:
        raise DecodeFault(f"tag {tag} cannot be read")

    return read


def refuse_tag(tag: cbor2.CBORTag, immutable: bool) -> NoReturn:
    raise DecodeFault(f"tag {tag.tag} cannot be read")


_TYPED_ARRAYS = {
    # RFC 8746. 68 is uint8 clamped; 76 is not assigned; 83 and 87 are float128.
    **{65: ">H", 66: ">I", 67: ">Q", 68: ">B", 69: "<H", 70: "<I", 71: "<Q", 72: ">b"},
    **{73: ">h", 74: ">i", 75: ">q", 77: "<h", 78: "<i", 79: "<q"},
    **{80: ">e", 81: ">f", 82: ">d", 84: "<e", 85: "<f", 86: "<d"},
}

_REFUSED = (
    # What cbor2 would read by itself: numbers whose value takes unbounded work (4, 5,
    # 30), shared and repeated values (25, 28, 29, 256), and types of other worlds.
    *(4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100),
    *(256, 260, 261, 1004, 43000, 55799),
)

TAGS: dict[int, Callable[[Any, bool], Any]] = {
    # Tags 0 and 1, dates, are left to cbor2: it makes them dates with a time zone.
    **{2: _bignum(2), 3: _bignum(3), 64: _same(bytes, 64)},
    **{tag: _typed_array(tag, form) for tag, form in _TYPED_ARRAYS.items()},
    27: _object,
    **{258: _same(list, 258), 259: _same(dict, 259)},
    **{tag: _refuse(tag) for tag in _REFUSED},
}
