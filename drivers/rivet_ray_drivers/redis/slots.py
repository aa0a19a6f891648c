"""Which node of a cluster owns which of its 16,384 hash slots."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any, cast

from redis import exceptions

from rivet_ray_drivers.redis.location import Address

SLOTS = 16_384


def slot_of(key: bytes) -> int:
    """By the hash tag of the key, which is between its first braces, where it has one."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


class SlotMap:
    """The owner of each slot, as far as we were told. What is wrong in it costs a redirection."""

    def __init__(self) -> None:
        self._owners: list[Address | None] = [None] * SLOTS

    def owner(self, slot: int) -> Address | None:
        return self._owners[slot]

    def moved(self, slot: int, owner: Address) -> None:
        self._owners[slot] = owner

    def nodes(self) -> list[Address]:
        """All that own a slot."""
        return list(dict.fromkeys(owner for owner in self._owners if owner is not None))

    def read(self, reply: object, asked: Address) -> bool:
        """Take over what CLUSTER SLOTS gave; False, and nothing changes, where it names no owner.

        A node that does not know its own name leaves it out: then it is the one `asked`.
        """
        owners: list[Address | None] = [None] * SLOTS
        for first, last, primary, *_ in cast("list[list[object]]", reply):
            host, port, *_ = cast("Sequence[object]", primary)
            owner = _address(cast("bytes | None", host), cast("int", port), asked)
            begin, end = cast("int", first), cast("int", last) + 1
            owners[begin:end] = [owner] * (end - begin)
        if not any(owners):
            return False
        self._owners = owners
        return True


def _address(host: bytes | None, port: int, asked: Address) -> Address:
    name = host.decode() if host else ""
    return (asked[0] if name in ("", "?") else name), port


def redirected(error: exceptions.AskError, asked: Address) -> Address:
    """Where the node `asked` sends us; MOVED is a kind of ASK to redis-py."""
    host, port = cast("Address", cast("Any", error).node_addr)
    return (asked[0] if host in ("", "?") else host), port
