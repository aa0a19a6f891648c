"""The store port on a cluster, where no step spans two shards.

Claims, creates, commits and leases concern one shard each and are what they are
on one server. What spans shards is put together here, from one round trip to
each node at once.

A cluster has no index over the shards' earliest alarms: it would be written in a
step of its own, before or after the shard's, and so be late after a crash. All
shards are asked for their first alarm instead, and only those are read further
that can hold one of the earliest due. For 1,024 shards that is less than 1 ms of
Redis's time, shared by the nodes, however many alarms there are.

A node that is down takes the alarms of its shards with it and no others:
`alarms_due` gives what the other nodes have, and `next_alarm`, whose answer
would hold until then, fails.
"""

from __future__ import annotations

from collections.abc import Sequence

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray.store import ActorRecord
from rivet_ray_drivers.file_system.packing import pack
from rivet_ray_drivers.redis import records, scripts
from rivet_ray_drivers.redis import store as on_one_server
from rivet_ray_drivers.redis.cluster import ClusterConnection
from rivet_ray_drivers.redis.connection import Command, run
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

    async def list_actors(
        self,
        namespace: str,
        name: str | None = None,
        prefix: Sequence[str] = (),
        *,
        after: str | None = None,
        limit: int = 100,
    ) -> list[ActorRecord]:
        start, key_start = records.selection(namespace, name, prefix)
        position = b"-" if after is None else b"(" + pack(after)
        shard = first_shard(after)
        width = 1
        found: list[ActorRecord] = []
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
                            start,
                            key_start,
                            b"1",
                        ),
                    )
                    for number in range(shard, min(shard + width, SHARDS))
                ]
            )
            for reply in replies:
                rows, following, last = records.as_list(reply)
                found += filter(None, map(records.record_of, records.as_list(rows)))
                position = records.as_bytes(last)
                if following == 1:  # there is more in this shard
                    break
                shard += 1
            width = min(4 * width, WIDEST_LIST)
        return found[:limit]

    # --- Alarms ---------------------------------------------------------------

    async def alarms_due(self, now: float, limit: int = 100) -> list[tuple[float, str]]:
        if limit <= 0:
            return []
        latest = records.time(now)
        firsts = await self._of_shards(
            [(b"ZRANGEBYSCORE", alarms, b"-inf", latest, *_first(1)) for alarms in self._alarms]
        )
        # Of shards in the order of their first alarms, those behind the first `limit`
        # hold none of the `limit` earliest; nor does anything later than these firsts.
        due = sorted((first[0], shard) for shard, first in enumerate(firsts) if first)[:limit]
        if not due:
            return []
        if len(due) == limit:
            latest = records.time(due[-1][0][0])
        found = await self._of_shards(
            [
                (b"ZRANGEBYSCORE", self._alarms[shard], b"-inf", latest, *_first(limit))
                for _, shard in due
            ]
        )
        return sorted(alarm for alarms in found for alarm in alarms)[:limit]

    async def next_alarm(self, after: float | None = None) -> float | None:
        start = b"-inf" if after is None else b"(" + records.time(after)
        replies = await self._cluster.batch(
            [
                Command((b"ZRANGEBYSCORE", alarms, start, b"+inf", *_first(1)))
                for alarms in self._alarms
            ]
        )
        return min(
            (alarm for reply in replies for alarm, _ in records.members_of(reply)), default=None
        )

    @property
    def _alarms(self) -> list[bytes]:
        return self._layout.alarms

    async def _of_shards(
        self, commands: Sequence[tuple[bytes | str | int, ...]]
    ) -> list[list[tuple[float, str]]]:
        """The alarms in each reply; none of a shard whose node is down, while others answer."""
        replies = await self._cluster.answers([Command(command) for command in commands])
        failures = [reply for reply in replies if isinstance(reply, StoreError)]
        for failure in failures:
            if len(failures) == len(replies) or not isinstance(failure, StoreUnavailable):
                raise failure
        return [
            [] if isinstance(reply, StoreError) else records.members_of(reply) for reply in replies
        ]


def _first(count: int) -> tuple[bytes | str | int, ...]:
    return (b"WITHSCORES", b"LIMIT", 0, count)
