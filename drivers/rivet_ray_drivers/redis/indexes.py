"""Pages of an index of a type, put together from those of its shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rivet_ray.store import IndexEntry
from rivet_ray_drivers.file_system.packing import (
    END,
    KEY_END,
    key_range,
    pack,
    pack_key,
    pack_value,
    unpack,
    unpack_key,
    unpack_value,
)
from rivet_ray_drivers.redis.connection import Command
from rivet_ray_drivers.redis.identity import Identity
from rivet_ray_drivers.redis.records import as_bytes, as_list

LEAST: Final = 4
"""Entries that a shard is asked for at least. Most pages need no second question."""

Span = tuple[bytes, bytes]
"""From where to where members are, as ZRANGEBYLEX has it."""


def span_of(
    index: int, start: bytes, end: bytes | None, prefix: Sequence[str], after: IndexEntry | None
) -> Span:
    """The members that `Store.list_index` asks for."""
    if index == 0:
        lowest, highest = key_range(prefix)
        low, high = b"[" + lowest, b"(" + highest if prefix else b"+"
    else:
        low = b"[" + pack_value(start).removesuffix(END)
        high = b"+" if end is None else b"(" + pack_value(end).removesuffix(END)
    if after is not None:
        behind = b"(" + _member(index, after)
        low = behind if behind[1:] >= low[1:] else low
    return low, high


async def page(
    identity: Identity, keys: Sequence[bytes], index: int, span: Span, limit: int
) -> list[IndexEntry]:
    """The first entries of all shards; `keys` are those of the shards, in their order."""
    low, high = span
    found: list[bytes] = []
    positions = dict.fromkeys(range(len(keys)), low)
    while positions and limit > 0:
        wanted = max(LEAST, 2 * limit // len(keys))
        replies = await identity.read_all(
            [
                (
                    shard,
                    Command((b"ZRANGEBYLEX", keys[shard], position, high, b"LIMIT", 0, wanted)),
                )
                for shard, position in positions.items()
            ]
        )
        following: dict[int, bytes] = {}
        for shard, reply in zip(positions, replies, strict=True):
            members = [as_bytes(member) for member in as_list(reply)]
            found += members
            if len(members) == wanted:  # There may be more.
                following[shard] = members[-1]
        found = sorted(found)[:limit]
        last = found[-1] if len(found) == limit else None
        positions = {
            shard: b"(" + member
            for shard, member in following.items()
            if last is None or member < last
        }
    return [_entry(index, member) for member in found]


def _member(index: int, entry: IndexEntry) -> bytes:
    value = b"" if index == 0 else pack_value(entry.value)
    return value + pack_key(entry.key) + KEY_END + pack(entry.id)


def _entry(index: int, member: bytes) -> IndexEntry:
    value = b""
    if index != 0:
        packed, _, member = member.partition(END)
        value = unpack_value(packed)
    key, _, actor = member.rpartition(KEY_END)
    return IndexEntry(value, unpack_key(key), unpack(actor))
