"""The structure of CBOR, read without building its values.

For messages whose values cannot be read: what they are about can still be told. The
work is bounded, and nothing recurses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MAX_ITEMS = 16_384
"""How many items are looked at before a message is given up."""

BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = 2, 3, 4, 5, 6, 7
OPEN_LENGTH = -1
"""Instead of a length: until a break."""
_BREAK = 31
_ONE_BYTE = 24
_LEAST_IN_TWO = 32
"""Simple values below it fit into the first byte, and may not be written in two."""
_RESERVED = (28, 29, 30)
_NEVER_OPEN = (0, 1, TAG)
_ITEMS, _KEYS, _VALUE = -1, -2, -3
"""What is missing of a container of open length: items, or a key, or the value of one."""
_AFTER = {_ITEMS: _ITEMS, _KEYS: _VALUE, _VALUE: _KEYS}


class Unscannable(Exception):
    """The bytes are not CBOR, or too many items."""


class Head(NamedTuple):
    """The start of an item."""

    major: int
    argument: int
    """A value, a length, or -1 for an open length."""
    low: int
    """The five bits that say how the argument is written."""


class Scanner:
    """A place in the bytes, which moves over whole items."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self._left = MAX_ITEMS

    def head(self) -> Head:
        """Move over the head of an item. Raises Unscannable."""
        self._left -= 1
        if self._left < 0 or self.at >= len(self.data):
            raise Unscannable
        major, low = divmod(self.data[self.at], 32)
        self.at += 1
        if low < 24:
            return Head(major, low, low)
        if low in _RESERVED or (low == _BREAK and major in _NEVER_OPEN):
            raise Unscannable
        if low == _BREAK:
            return Head(major, OPEN_LENGTH, low)
        argument = int.from_bytes(self.take(1 << (low - 24)), "big")
        if major == SIMPLE and low == _ONE_BYTE and argument < _LEAST_IN_TWO:
            raise Unscannable
        return Head(major, argument, low)

    def take(self, size: int) -> bytes:
        """Move over so many bytes. Raises Unscannable."""
        if size > len(self.data) - self.at:
            raise Unscannable
        self.at += size
        return self.data[self.at - size : self.at]

    def skip(self) -> None:
        """Move over one item with all that is in it. Raises Unscannable."""
        missing = [1]
        while missing:
            if missing[-1] == 0:
                missing.pop()
                continue
            major, argument, low = self.head()
            if major == SIMPLE and low == _BREAK:
                if missing.pop() not in (_ITEMS, _KEYS):
                    raise Unscannable
                continue
            missing[-1] = _AFTER.get(missing[-1], missing[-1] - 1)
            if major == TAG:
                missing.append(1)
            elif argument == OPEN_LENGTH and major in (ARRAY, MAP):
                missing.append(_ITEMS if major == ARRAY else _KEYS)
            elif major in (ARRAY, MAP):
                missing.append(argument * (major - 3))
            elif major in (BYTES, TEXT):
                if argument == OPEN_LENGTH:
                    self._skip_chunks(major)
                else:
                    self.take(argument)

    def _skip_chunks(self, kind: int) -> None:
        """Move over the rest of a string of open length. Raises Unscannable."""
        while True:
            major, size, low = self.head()
            if major == SIMPLE and low == _BREAK:
                return
            if major != kind or size == OPEN_LENGTH:
                raise Unscannable
            self.take(size)

    def members(self) -> Iterator[bytes]:
        """The keys of a map, at each of which the value is to be moved over.

        Raises Unscannable, also for a key that is not a plain text.
        """
        major, count, _ = self.head()
        if major != MAP:
            raise Unscannable
        while count != 0:
            major, size, low = self.head()
            if count == OPEN_LENGTH and major == SIMPLE and low == _BREAK:
                return
            if major != TEXT or size == OPEN_LENGTH:
                raise Unscannable
            yield self.take(size)
            count = max(count - 1, OPEN_LENGTH)
