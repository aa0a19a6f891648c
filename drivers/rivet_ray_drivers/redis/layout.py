"""Where things are: shards and the names of keys (see the package's docstring)."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from dataclasses import dataclass

from rivet_ray_drivers.file_system.packing import pack

FORMAT = 2
"""The format of every record."""
SHARDS = 1024
ACTOR_ID = re.compile(r"[0-9a-f]{16}(?:-([2-9]|[1-9][0-9]{1,14}))?", re.ASCII)
FIRST_IDS = [f"{4 * shard:03x}" for shard in range(SHARDS)]
"""The ids of a shard are those from its entry here up to the next one's."""


@dataclass(frozen=True, slots=True)
class ActorName:
    """An id, taken apart: all generations of a key have the same digits."""

    id: str
    generation: int = 1

    @property
    def digits(self) -> str:
        return self.id[:16]

    @property
    def shard(self) -> int:
        return int(self.id[:3], 16) >> 2


def actor_name(actor_id: str) -> ActorName | None:
    """None for a text that no actor has as its id."""
    match = ACTOR_ID.fullmatch(actor_id)
    return ActorName(actor_id, int(match[1] or 1)) if match else None


def first_shard(after: str | None) -> int:
    """The first shard that can hold ids behind `after`, which may be any text."""
    return max(0, bisect_right(FIRST_IDS, after or "") - 1)


class Layout:
    """The names of keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        self._shards = [f"{prefix}{{rr:{shard}}}:".encode() for shard in range(SHARDS)]
        self.identities = [shard + b"s" for shard in self._shards]
        self.alarm_types = [shard + b"w" for shard in self._shards]
        self.earliest_alarms = f"{prefix}:w".encode()
        self.ids = [shard + b"n" for shard in self._shards]
        self.sizes = [shard + b"k" for shard in self._shards]
        self.leases = [shard + b"l" for shard in self._shards]

    def actor(self, name: ActorName) -> bytes:
        return b"%sa:%s" % (self._shards[name.shard], name.digits.encode())

    def alarms(self, shard: int, packed_type: bytes) -> bytes:
        return b"%sw:%s" % (self._shards[shard], packed_type)

    def index(self, shard: int, number: int, packed_type: bytes) -> bytes:
        return b"%si:%d:%s" % (self._shards[shard], number, packed_type)

    @property
    def probe(self) -> bytes:
        """What is written to see whether writes get through; nobody reads it."""
        return b"%sprobe" % self._shards[0]

    def lease(self, incarnation: str) -> tuple[int, bytes]:
        """The shard of a lease, and its key."""
        packed = pack(incarnation)
        shard = int.from_bytes(hashlib.sha256(packed).digest()[:2], "big") % SHARDS
        return shard, b"%sl:%s" % (self._shards[shard], packed)
