"""The way to a primary that sentinels watch over, and to its successor after a failover.

The sentinels are asked at opening and after each failure that a failover would
explain: a connection lost or refused, silence, a primary that is a replica now or
has no replicas left. Nothing is sent twice for that: the batch that failed fails,
the next one goes to whoever is the primary then. While there are batches, they are
asked every second too: a deposed primary that nobody has told yet goes on taking
writes, all of which will be lost.

All sentinels are asked at once and the one that has seen the latest failover is
believed, since one that is cut off from the others still names the old primary.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import cast

from redis import exceptions

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray_drivers.redis.connection import Command, Node, RedisConnection, Reply
from rivet_ray_drivers.redis.failures import failure_of
from rivet_ray_drivers.redis.location import Address, Location

log = logging.getLogger("rivet_ray.drivers.redis")

CHECK_EVERY = 1.0
SENTINEL_TIMEOUT = 1.0
"""Seconds for a sentinel, or a primary that it names, to answer."""

Named = tuple[int, Address]
"""The number of the failover that a sentinel last heard of, and the primary since."""


class SentinelConnection(RedisConnection):
    """A bounded pool of connections to the primary of the day, on one event loop."""

    def __init__(self, place: Location) -> None:
        super().__init__(place)
        self._sentinels = [Node(place.sentinel(address)) for address in place.addresses]
        self._retired: list[Node] = []
        self._certain = False
        self._asking = asyncio.Lock()
        self._checked_at = 0.0
        self._check: asyncio.Task[None] | None = None

    async def open(self) -> None:
        with self._admitted():
            await self._find_primary()
        await super().open()

    async def _replies(self, commands: Sequence[Command]) -> list[Reply]:
        if not self._certain:
            await self._find_primary()
        self._check_now_and_then()
        node = self._node
        try:
            replies = await super()._replies(commands)
        except StoreUnavailable:
            self._doubt(node)
            raise
        if any(map(_is_deposed, replies)):
            self._doubt(node)
        return replies

    def _check_now_and_then(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._checked_at > CHECK_EVERY and not self._closing:
            self._checked_at = loop.time()
            if self._check is None or self._check.done():
                self._check = loop.create_task(self._check_primary())

    async def _check_primary(self) -> None:
        node = self._node
        try:
            named = await self._ask_sentinels()
        except StoreError as error:
            log.warning("the sentinels cannot be asked: %s", error)
            return
        if named != (node.place.host, node.place.port):
            self._doubt(node)

    def _doubt(self, node: Node) -> None:
        if node is self._node:
            self._certain = False

    async def _find_primary(self) -> None:
        async with self._asking:
            if self._certain:
                return
            primary = self.place.at(await self._ask_sentinels())
            if primary != self._node.place:
                log.warning("the primary of %s is %s", self.place, primary)
                self._retired.append(self._node)
                self._node = Node(primary)
            await self._see_that_it_is_primary(self._node)
            self._certain = True
            self._checked_at = asyncio.get_running_loop().time()
            await self._disconnect_retired()

    async def _ask_sentinels(self) -> Address:
        """The primary as the sentinel names it that knows the latest failover."""
        answers = await asyncio.gather(*map(self._ask_sentinel, self._sentinels))
        named = [answer for answer in answers if not isinstance(answer, StoreError)]
        if named:
            return max(named)[1]
        raise next(answer for answer in answers if isinstance(answer, StoreError))

    async def _ask_sentinel(self, sentinel: Node) -> Named | StoreError:
        try:
            (reply,) = await self._exchange(
                sentinel, [(b"SENTINEL", b"MASTER", self.place.service)], SENTINEL_TIMEOUT
            )
        except StoreError as error:
            return error
        if isinstance(reply, Exception):
            if "No such master" in str(reply):
                return StoreError(
                    f"The sentinel at {sentinel.place} knows no service {self.place.service!r}."
                )
            return failure_of(reply, sentinel.place)
        flat = cast("list[bytes]", reply)
        said = dict(zip(flat[::2], flat[1::2], strict=True))
        return int(said[b"config-epoch"]), (said[b"ip"].decode(), int(said[b"port"]))

    async def _see_that_it_is_primary(self, node: Node) -> None:
        (reply,) = await self._exchange(node, [(b"ROLE",)], SENTINEL_TIMEOUT)
        if isinstance(reply, Exception):
            raise failure_of(reply, node.place) from reply
        if not isinstance(reply, list) or cast("list[Reply]", reply)[0] != b"master":
            raise StoreUnavailable(
                f"Redis at {node.place} is named by its sentinels, and no primary yet."
            )

    async def _disconnect_retired(self) -> None:
        while self._retired:
            await self._retired.pop().disconnect()

    async def _disconnect(self) -> None:
        if self._check is not None:
            self._check.cancel()
            await asyncio.wait([self._check])
        await self._disconnect_retired()
        for node in (self._node, *self._sentinels):
            await node.disconnect()


def _is_deposed(reply: Reply) -> bool:
    return isinstance(reply, (exceptions.ReadOnlyError, exceptions.MasterDownError)) or (
        isinstance(reply, exceptions.ResponseError) and str(reply).startswith("NOREPLICAS")
    )
