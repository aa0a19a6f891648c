"""The values that bytes are, well-formed or not, for `gateway_oracle`.

Written from RFC 8259 and RFC 8949, with nothing of ours and no library of ours.
"""

from __future__ import annotations

import json
import re
import struct
from contextlib import suppress
from typing import Any

DOUBLES = 2**53
"""Up to it each integer is a double."""
MOST_DEPTH = 90
"""From here on a reader may refuse."""
SHORT, MOST_WEIGHT, WEIGHT_OF_NAME = 16_384, 250_000, 4
"""What is longer is weighed before it is read, and no more than that (ADR 47)."""


class Odd:
    """Stands for a value that a reader may refuse: of the other encoding, or too much."""


ODD = Odd()
DEEP = Odd()
"""Odd because of how deep it is nested."""


class Malformed(ValueError):
    """No reader takes it."""


class NoText(Malformed):
    """Malformed only because texts in it are not UTF-8."""

    def __init__(self, instead: Any) -> None:
        super().__init__("not UTF-8")
        self.instead = instead
        """The value, with the empty text in place of each."""


def read(encoding: str, data: bytes) -> Any:
    """The value that the bytes are, with ODD in it. Raises Malformed."""
    return read_json(data) if encoding == "json" else _read_cbor(data)


def read_json(data: bytes) -> Any:
    def number(text: str) -> Any:
        if len(text) > 4_000:
            return ODD
        value = float(text) if set(text) & set(".eE") else int(text)
        return value if abs(value) < 2**63 else ODD

    def refuse(text: str) -> Any:
        raise Malformed(text)

    try:
        value = json.loads(
            data.decode(errors="replace"),  # as JavaScript reads a body
            parse_constant=refuse,
            parse_int=number,
            parse_float=number,
            object_pairs_hook=_members,
        )
        return _checked(value)
    except RecursionError:
        return ODD
    except ValueError as error:
        raise Malformed(str(error)) from error


def _members(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """The last of a name counts, but where there are two a reader may refuse either."""
    found = dict(pairs)
    if len(found) < len(pairs):
        found[""] = ODD
    return found


def _checked(value: Any, depth: int = 0) -> Any:
    if depth > MOST_DEPTH:
        return DEEP
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return [_checked(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_text(name): _checked(item, depth + 1) for name, item in value.items()}
    return value


def _text(text: str) -> Any:
    """JavaScript takes half of a surrogate pair, and bytes that are not UTF-8 as U+FFFD."""
    odd = any("\ud800" <= letter <= "\udfff" or letter == "\ufffd" for letter in text)
    return ODD if odd else text


_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_CONSTANTS = {20: False, 21: True, 22: None, 23: ODD}


class _CBOR:
    """RFC 8949, well-formed or not."""

    BREAK = object()

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.is_text = True
        """Whether all texts so far are UTF-8."""
        self.large = False
        """Whether it holds an integer beyond 2^53, perhaps inside of a tag."""
        self.members = 0
        """How many members the maps so far are to have, whether they come or not."""

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise Malformed("truncated")
        self.at += size
        return self.data[self.at - size : self.at]

    def item(self, depth: int, *, may_break: bool = False) -> Any:
        first = self.take(1)[0]
        major, low = first >> 5, first & 31
        if first == 0xFF:
            if may_break:
                return self.BREAK
            raise Malformed("a break that ends nothing")
        if low in (28, 29, 30) or (low == 31 and major in (0, 1, 6)):
            raise Malformed("reserved")
        if major == 7:
            return self._simple(low)
        size = None
        if low != 31:
            size = low if low < 24 else int.from_bytes(self.take(1 << (low - 24)), "big")
        if major == 6:
            self.large = True
            self.item(depth + 1)
            return ODD
        value = self._value(major, size, depth)
        return DEEP if depth > MOST_DEPTH else value

    def _simple(self, low: int) -> Any:
        if low in _CONSTANTS:
            return _CONSTANTS[low]
        if low in _FLOATS:
            (value,) = struct.unpack(_FLOATS[low], self.take(1 << (low - 24)))
            return value if abs(value) < 2**63 else ODD
        if low == 24 and self.take(1)[0] < 32:
            raise Malformed("a simple value in two bytes that needs one")
        return ODD

    def _value(self, major: int, size: int | None, depth: int) -> Any:
        match major:
            case 0 | 1:
                assert size is not None
                self.large |= size >= DOUBLES
                return ODD if size >= 2**63 else (size if major == 0 else -1 - size)
            case 2 | 3:
                return self._string(major, size)
            case 4:
                return [value for (value,) in self._items(size, depth, 1)]
            case _:
                self.members += size or 0
                pairs = self._items(size, depth, 2)
                return _members(
                    [(name if isinstance(name, str) else ODD, value) for name, value in pairs]
                )

    def _string(self, major: int, size: int | None) -> Any:
        if size is not None:
            parts = [self.take(size)]
        else:
            parts = []
            while (first := self.take(1)[0]) != 0xFF:
                if first >> 5 != major or first & 31 > 27:
                    raise Malformed("a chunk of another kind")
                low = first & 31
                length = low if low < 24 else int.from_bytes(self.take(1 << (low - 24)), "big")
                parts.append(self.take(length))
        if major == 2:
            return ODD
        try:
            text = "".join(part.decode("utf-8", "surrogatepass") for part in parts)
        except UnicodeDecodeError:
            self.is_text = False
            return ""
        # Half of a pair, as JavaScript has it, may be taken as U+FFFD.
        return ODD if any("\ud800" <= letter <= "\udfff" for letter in text) else text

    def _items(self, size: int | None, depth: int, width: int) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        while size is None or len(found) < size:
            first = self.item(depth + 1, may_break=size is None)
            if first is self.BREAK:
                break
            found.append((first, *(self.item(depth + 1) for _ in range(width - 1))))
        return found


def _read_cbor(data: bytes) -> Any:
    reader = _CBOR(data)
    try:
        value = reader.item(0)
    except RecursionError:
        return ODD
    if reader.at != len(data):
        raise Malformed("bytes follow")
    if not reader.is_text:
        raise NoText(value)
    return value


def is_heavy(encoding: str, data: bytes) -> bool:
    """Whether it may be refused for its weight before anybody sees that it is malformed."""
    if encoding == "json" or len(data) <= SHORT:
        return False
    reader = _CBOR(data)
    with suppress(Malformed, RecursionError):
        while reader.at < len(data):
            reader.item(0)
    return WEIGHT_OF_NAME * reader.members > MOST_WEIGHT


def holds_large(encoding: str, data: bytes) -> bool:
    """Whether what repeats it may hold an integer beyond 2^53 (ADR 48)."""
    if encoding == "json":
        return re.search(rb"\d{16}", data) is not None
    reader = _CBOR(data)
    with suppress(Malformed, RecursionError):
        reader.item(0)
    return reader.large


def is_inexact(value: Any) -> bool:
    """Whether it holds an integer that no double is (ADR 48)."""
    if isinstance(value, dict):
        return any(map(is_inexact, value.values()))
    if isinstance(value, list):
        return any(map(is_inexact, value))
    return isinstance(value, int) and abs(value) > DOUBLES and int(float(value)) != value


def is_odd(value: Any) -> bool:
    """Whether a reader may refuse the value for something inside it."""
    if isinstance(value, dict):
        return any(is_odd(name) or is_odd(item) for name, item in value.items())
    return any(map(is_odd, value)) if isinstance(value, list) else isinstance(value, Odd)


def is_deep(value: Any) -> bool:
    """Whether an answer that repeats the value may be nested too deep for clients to read."""
    if isinstance(value, dict):
        return any(map(is_deep, value.values()))
    return any(map(is_deep, value)) if isinstance(value, list) else value is DEEP
