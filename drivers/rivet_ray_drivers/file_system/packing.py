"""Text and keys as the bytes that the tables hold.

Text is kept as bytes because SQLite's text can hold neither lone surrogates,
which JavaScript callers may send, nor zeros. The order of the bytes is the
order of the strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rivet_ray.ids import Key
from rivet_ray.store import ActorType

END = b"\x00\x01"
AFTER_END = b"\x00\x02"
KEY_END = b"\x00\x00"
"""Behind a key and before an id, so that the key sorts before those that it begins."""


def pack(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def unpack(packed: bytes) -> str:
    return packed.decode("utf-8", "surrogatepass")


def pack_key(key: Sequence[str]) -> bytes:
    """Each part with its zeros doubled up as 00 FF and 00 01 behind it.

    So a packed key starts with a packed prefix exactly when its first parts
    are the prefix.
    """
    return b"".join(pack(part).replace(b"\x00", b"\x00\xff") + END for part in key)


def unpack_key(packed: bytes) -> Key:
    parts = packed.split(END)[:-1]
    return tuple(unpack(part.replace(b"\x00\xff", b"\x00")) for part in parts)


@lru_cache(maxsize=1024)
def pack_type(type: ActorType) -> bytes:
    """A type as a list of texts; each commit needs it, of few types."""
    return pack_key(type)


def pack_value(value: bytes) -> bytes:
    """A value of an index, so that it sorts as it does and its end can be seen."""
    return value.replace(b"\x00", b"\x00\xff") + END


def unpack_value(packed: bytes) -> bytes:
    return packed.removesuffix(END).replace(b"\x00\xff", b"\x00")


def key_range(prefix: Sequence[str]) -> tuple[bytes, bytes]:
    """From where (inclusive) to where (exclusive) keys with that prefix are."""
    packed = pack_key(prefix)
    return (packed, packed.removesuffix(END) + AFTER_END) if packed else (b"", b"\xff")
