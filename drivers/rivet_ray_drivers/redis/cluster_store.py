"""The store port on a cluster, where no step spans two shards.

Claims, creates, commits and leases concern one shard each and are what they are
on one server. What spans shards is put together here, from one round trip to
each node at once.

A cluster has no index over the shards' earliest alarms: it would be written in a
step of its own, before or after the shard's, and so be late after a crash. All
shards are asked for their types' first alarms instead, and only those sets are read
further that can hold one of the earliest due. For 1,024 shards that is less than 1 ms of
Redis's time, shared by the nodes, however many alarms there are.

A node that is down takes the alarms of its shards with it and no others:
`alarms_due` gives what the other nodes have, and `next_alarm`, whose answer
would hold until then, fails.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray.store import ActorType
from rivet_ray_drivers.file_system.packing import pack, pack_type
from rivet_ray_drivers.redis import records, scripts
from rivet_ray_drivers.redis import store as on_one_server
from rivet_ray_drivers.redis.cluster import ClusterConnection
from rivet_ray_drivers.redis.connection import Command, Reply, run
from rivet_ray_drivers.redis.layout import SHARDS, first_shard
from rivet_ray_drivers.redis.store import RedisStore

WIDEST_LIST = 256
"""Shards that are asked for actors at once."""


class ClusterStore(RedisStore):
    """See `rivet_ray.store.Store`; use it on the event loop that opened it."""

    def __init__(self, connection: ClusterConnection) -> None:
        super().__init__(connection)
        self._cluster = connection
        self._index = None

    async def _page(
        self,
        fields: Sequence[bytes],
        wanted: tuple[bytes, bytes],
        after: str | None,
        limit: int,
    ) -> list[Reply]:
        position = b"-" if after is None else b"(" + pack(after)
        shard = first_shard(after)
        width = 1
        found: list[Reply] = []
        while len(found) < limit and shard < SHARDS:
            # Many shards are asked only where few actors are to be found in each.
            replies = await self._identity.read_all(
                [
                    (
                        number,
                        run(
                            scripts.list_actors,
                            (self._layout.ids[number],),
                            position,
                            limit - len(found),
                            on_one_server.LIST_BUDGET,
                            *wanted,
                            b"1",
                            *fields,
                        ),
                    )
                    for number in range(shard, min(shard + width, SHARDS))
                ]
            )
            for reply in replies:
                rows, following, last = records.as_list(reply)
                found += records.as_list(rows)
                position = records.as_bytes(last)
                if following == 1:  # there is more in this shard
                    break
                shard += 1
            width = min(4 * width, WIDEST_LIST)
        return found[: max(limit, 0)]

    # --- Alarms ---------------------------------------------------------------

    async def alarms_due(
        self, now: float, limit: int = 100, *, types: Collection[ActorType] | None = None
    ) -> list[tuple[float, str]]:
        if limit <= 0:
            return []
        latest = records.time(now)
        # Of sets in the order of their first alarms, those behind the first `limit`
        # hold none of the `limit` earliest; nor does anything later than these firsts.
        sets = await self._answered(
            [(b"ZRANGEBYSCORE", key, b"-inf", latest, b"WITHSCORES") for key in self._types]
        )
        due = self._wanted(sets, types)[:limit]
        if not due:
            return []
        if len(due) == limit:
            latest = records.time(due[-1][0])
        found = await self._answered(
            [(b"ZRANGEBYSCORE", key, b"-inf", latest, *_first(limit)) for _, key in due]
        )
        alarms = [alarm for reply in found for alarm in records.members_of(reply)]
        return sorted((time, actor.decode()) for time, actor in alarms)[:limit]

    async def next_alarm(
        self, after: float | None = None, *, types: Collection[ActorType] | None = None
    ) -> float | None:
        replies = await self._cluster.batch(
            [Command((b"ZRANGE", key, 0, -1, b"WITHSCORES")) for key in self._types]
        )
        sets = self._wanted(replies, types)
        later = [first for first, _ in sets if after is None or first > after]
        begun = [key for first, key in sets if after is not None and first <= after]
        if after is not None and begun:
            start = b"(" + records.time(after)
            replies = await self._cluster.batch(
                [Command((b"ZRANGEBYSCORE", key, start, b"+inf", *_first(1))) for key in begun]
            )
            later += [alarm for reply in replies for alarm, _ in records.members_of(reply)]
        return min(later, default=None)

    @property
    def _types(self) -> list[bytes]:
        """What names the sets of alarms of each shard."""
        return self._layout.alarm_types

    def _wanted(
        self, replies: Sequence[Reply], types: Collection[ActorType] | None
    ) -> list[tuple[float, bytes]]:
        """The first alarm and the key of each set that those replies of all shards name."""
        wanted = None if types is None else set(map(pack_type, types))
        return sorted(
            (first, self._layout.alarms(shard, packed))
            for shard, reply in enumerate(replies)
            for first, packed in records.members_of(reply)
            if wanted is None or packed in wanted
        )

    async def _answered(self, commands: Sequence[tuple[bytes | str | int, ...]]) -> list[Reply]:
        """The replies; an empty one of a shard whose node is down, while others answer."""
        replies = await self._cluster.answers([Command(command) for command in commands])
        failures = [reply for reply in replies if isinstance(reply, StoreError)]
        for failure in failures:
            if len(failures) == len(replies) or not isinstance(failure, StoreUnavailable):
                raise failure
        return [[] if isinstance(reply, StoreError) else reply for reply in replies]


def _first(count: int) -> tuple[bytes | str | int, ...]:
    return (b"WITHSCORES", b"LIMIT", 0, count)
