"""The store port over scripts in one Redis server."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import nlargest

from rivet_ray import ids
from rivet_ray.errors import StoreError
from rivet_ray.store import (
    ANYBODY,
    ActorRecord,
    ActorSize,
    ActorType,
    Claim,
    Claimant,
    Commit,
    CommitResult,
    Finding,
    HostLease,
    IndexEntry,
    NewActor,
    Ownership,
    Refusal,
    Snapshot,
    TypeSize,
)
from rivet_ray_drivers.file_system.packing import pack, pack_type
from rivet_ray_drivers.redis import examination, indexes, records, scripts, snapshots
from rivet_ray_drivers.redis.connection import (
    Argument,
    Command,
    Node,
    RedisConnection,
    Reply,
    Statistics,
    run,
)
from rivet_ray_drivers.redis.identity import Identity
from rivet_ray_drivers.redis.layout import (
    SHARDS,
    ActorName,
    Layout,
    actor_name,
    first_shard,
)

LIST_BUDGET = 500
"""Actors and shards that one call of the listing script looks at: 1 to 2 ms of Redis's time."""


class RedisStore:
    """See `rivet_ray.store.Store`; use it on the event loop that opened it."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._layout = Layout(connection.place.prefix)
        self._index: bytes | None = self._layout.earliest_alarms
        """None where there is no index over the shards' alarms."""
        self._identity = Identity(connection, self._layout)

    async def open(self) -> None:
        """Connect, learn which store this is, and build what is derived.

        Raises StoreError for a Redis that cannot be used, StoreUnavailable for a silent one.
        """
        await self._connection.open()
        await self._identity.open()
        if self._index is not None:
            await self.index_alarms()  # it is derived, and may come from a partial copy
        if self._connection.place.durability is not None:
            await examination.warn_of_durability(self._connection)

    def statistics(self) -> Statistics:
        return self._connection.statistics()

    # --- Directory ------------------------------------------------------------

    async def find(self, namespace: str, name: str, key: Sequence[str]) -> ActorRecord | None:
        record = await self._find(_named(namespace, name, key))
        same = record and (record.namespace, record.name, record.key) == (
            namespace,
            name,
            tuple(key),
        )
        return record if same else None

    async def find_by_id(self, actor_id: str) -> ActorRecord | None:
        name = actor_name(actor_id)
        record = await self._find(name) if name else None
        return record if record and record.id == actor_id else None

    async def _find(self, name: ActorName) -> ActorRecord | None:
        """The living actor of any generation."""
        command = Command((b"HMGET", self._layout.actor(name), *records.RECORD))
        return records.record_of(await self._identity.read(name.shard, command))

    async def create(self, actor: NewActor) -> tuple[ActorRecord, bool]:
        name = _named(actor.namespace, actor.name, actor.key)
        created, found = await self._identity.do(
            scripts.create,
            name.shard,
            (
                self._layout.actor(name),
                self._layout.ids[name.shard],
                self._layout.sizes[name.shard],
                self._layout.index(name.shard, 0, pack_type(actor.type)),
            ),
            *records.creation(actor, name.id),
        )
        if created:
            return records.created_record(actor, records.as_number(found)), True
        record = records.record_of(found)
        if record is None:
            raise records.damaged(f"actor {name.id}")
        if (record.namespace, record.name, record.key) != (actor.namespace, actor.name, actor.key):
            raise StoreError(f"The key of the new actor has the id of another one, {record.id}.")
        return record, False

    async def list_actors(
        self,
        namespace: str,
        name: str | None = None,
        prefix: Sequence[str] = (),
        *,
        after: str | None = None,
        limit: int = 100,
    ) -> list[ActorRecord]:
        wanted = records.selection(namespace, name, prefix)
        rows = await self._page(records.RECORD, wanted, after, limit)
        return [record for row in rows if (record := records.record_of(row))]

    async def list_sizes(
        self, namespace: str | None = None, *, after: str | None = None, limit: int = 100
    ) -> list[ActorSize]:
        wanted = (b"", b"") if namespace is None else records.selection(namespace, None, ())
        return [
            records.size_of(row) for row in await self._page(records.SIZE, wanted, after, limit)
        ]

    async def _page(
        self,
        fields: Sequence[bytes],
        wanted: tuple[bytes, bytes],
        after: str | None,
        limit: int,
    ) -> list[Reply]:
        """Those fields of living actors in the order of their ids; `wanted` selects them."""
        position = b"-" if after is None else b"(" + pack(after)
        shard = first_shard(after)
        found: list[Reply] = []
        while len(found) < limit and shard < SHARDS:
            reply = await self._identity.read(
                shard,
                run(
                    scripts.list_actors,
                    self._layout.ids[shard:],
                    position,
                    limit - len(found),
                    LIST_BUDGET,
                    *wanted,
                    b"",
                    *fields,
                ),
            )
            rows, following, last = records.as_list(reply)
            found += records.as_list(rows)
            shard += records.as_number(following) - 1  # Lua counts from 1
            position = records.as_bytes(last)
        return found

    async def list_index(
        self,
        type: ActorType,
        index: int = 0,
        *,
        start: bytes = b"",
        end: bytes | None = None,
        prefix: Sequence[str] = (),
        after: IndexEntry | None = None,
        limit: int = 100,
    ) -> list[IndexEntry]:
        packed = pack_type(type)
        keys = [self._layout.index(shard, index, packed) for shard in range(SHARDS)]
        span = indexes.span_of(index, start, end, prefix, after)
        return await indexes.page(self._identity, keys, index, span, limit)

    async def sizes(self) -> list[TypeSize]:
        commands = [Command((b"HGETALL", key)) for key in self._layout.sizes]
        return records.sizes_of(await self._identity.read_all(list(enumerate(commands))))

    # --- Ownership ------------------------------------------------------------

    async def claim(
        self,
        actor_id: str,
        token: str,
        claimant: Claimant = ANYBODY,
        *,
        expected: Ownership | None = None,
    ) -> Claim | Refusal | None:
        name = actor_name(actor_id)
        if name is None:
            return None
        reply = await self._identity.do(
            scripts.claim,
            name.shard,
            (self._layout.actor(name),),
            name.generation,
            pack(token),
            *records.claimant_of(claimant, expected),
        )
        return snapshots.claim_of(reply, token)

    async def find_ownership(self, actor_id: str) -> Ownership | None:
        name = actor_name(actor_id)
        if name is None:
            return None
        command = Command((b"HMGET", self._layout.actor(name), *records.OWNERSHIP))
        return records.ownership_of(actor_id, await self._identity.read(name.shard, command))

    async def read(self, actor_id: str) -> Snapshot | None:
        name = actor_name(actor_id)
        if name is None:
            return None
        command = Command((b"HGETALL", self._layout.actor(name)))
        return snapshots.snapshot_of(actor_id, await self._identity.read(name.shard, command))

    async def commit(self, commits: Sequence[Commit]) -> list[CommitResult | StoreError]:
        """As the port says, in one round trip; one script call for each shard."""
        results: list[CommitResult | StoreError] = [CommitResult.FENCED] * len(commits)
        shards: dict[int, list[tuple[int, ActorName, Commit]]] = {}
        for number, commit in enumerate(commits):
            name = actor_name(commit.actor_id)
            if name is not None:  # otherwise no actor ever had it
                shards.setdefault(name.shard, []).append((number, name, commit))
        if not shards:
            return results
        calls: list[tuple[int, list[bytes], list[Argument]]] = []
        for shard, group in shards.items():
            pairs = [(name, commit) for _, name, commit in group]
            keys, arguments = records.commits_of_shard(self._layout, shard, pairs, self._index)
            calls.append((shard, keys, arguments))
        replies = await self._identity.answers(scripts.commit, calls)
        for group, reply in zip(shards.values(), replies, strict=True):
            found: Sequence[CommitResult | StoreError]
            if isinstance(reply, StoreError):
                found = [reply] * len(group)
            else:
                found = records.results_of(reply[0])
            for (number, _, _), result in zip(group, found, strict=True):
                results[number] = result
        return results

    # --- Hosts ----------------------------------------------------------------

    async def renew_lease(self, incarnation: str, beat: int, address: str = "") -> bool:
        return await self._compare_and_set(
            scripts.renew, incarnation, records.number(beat), pack(address)
        )

    async def find_lease(self, incarnation: str) -> HostLease | None:
        found = await self._leases([incarnation])
        return found[0] if found else None

    async def mark_dead(self, incarnation: str, beat: int) -> bool:
        return await self._compare_and_set(scripts.mark_dead, incarnation, records.number(beat))

    async def list_hosts(self, limit: int = 1000) -> list[HostLease]:
        """As the port says. An index may name leases that are gone; these are left out."""
        if limit <= 0:
            return []
        replies = await self._identity.read_all(
            [
                (shard, Command((b"ZREVRANGE", key, 0, limit - 1, b"WITHSCORES")))
                for shard, key in enumerate(self._layout.leases)
            ]
        )
        written = [one for reply in replies for one in records.members_of(reply)]
        latest = [records.incarnation_of(packed) for _, packed in nlargest(limit, written)]
        return await self._leases(sorted(latest))

    async def _leases(self, incarnations: Sequence[str]) -> list[HostLease]:
        """Those of them that have one."""
        if not incarnations:
            return []
        places = map(self._layout.lease, incarnations)
        replies = await self._identity.read_all(
            [(shard, Command((b"HMGET", key, *records.LEASE))) for shard, key in places]
        )
        found = map(records.lease_of, incarnations, replies)
        return [lease for lease in found if lease is not None]

    async def end_lease(self, incarnation: str) -> None:
        shard, lease = self._layout.lease(incarnation)
        await self._connection.batch(
            [
                Command((b"DEL", lease)),
                Command((b"ZREM", self._layout.leases[shard], pack(incarnation))),
            ]
        )

    async def _compare_and_set(
        self, script: scripts.Script, incarnation: str, *arguments: bytes
    ) -> bool:
        shard, lease = self._layout.lease(incarnation)
        keys = (lease, self._layout.leases[shard])
        return await self._identity.do(script, shard, keys, pack(incarnation), *arguments) == [1]

    # --- Alarms ---------------------------------------------------------------

    async def alarms_due(
        self, now: float, limit: int = 100, *, types: Collection[ActorType] | None = None
    ) -> list[tuple[float, str]]:
        if limit <= 0:
            return []
        due = await self._look(scripts.alarms, records.time(now), limit, types)
        return sorted(records.alarms_of(due))[:limit]

    async def next_alarm(
        self, after: float | None = None, *, types: Collection[ActorType] | None = None
    ) -> float | None:
        start = b"-inf" if after is None else records.time(after)
        found = await self._look(scripts.next_alarm, start, b"", types)
        return None if found is None else float(records.as_bytes(found))

    async def _look(
        self,
        script: scripts.Script,
        time: bytes,
        limit: Argument,
        types: Collection[ActorType] | None,
    ) -> Reply:
        # Where no type is asked for, one that no actor can have stands for none.
        wanted = () if types is None else (b"", *map(pack_type, types))
        return await self._connection.do(
            run(script, [self._layout.earliest_alarms], time, limit, *wanted)
        )

    async def index_alarms(self) -> int:
        """Build the index of the earliest alarms anew, from what the shards hold."""
        keys = [self._layout.earliest_alarms, *self._layout.alarm_types]
        return records.as_number(await self._connection.do(run(scripts.index, keys)))

    async def now(self) -> float:
        """See `rivet_ray.store.Timekeeper`. Servers that do not answer are left out."""

        async def time_of(node: Node) -> float:
            (reply,) = await self._connection.answers_of(node, [Command((b"TIME",))])
            if isinstance(reply, StoreError):
                raise reply
            return records.time_of(reply)

        told = await self._connection.of_each(time_of)
        return min(time for _, time in told if not isinstance(time, StoreError))

    async def probe(self) -> None:
        """Of a cluster this tries one node: others may be away, with their own actors only."""
        await self._connection.do(Command((b"SET", self._layout.probe, b"", b"EX", b"60")))

    async def examine(self) -> list[Finding]:
        return await examination.examine(self._connection, self._identity)

    async def close(self) -> None:
        await self._connection.close()


def _named(namespace: str, name: str, key: Sequence[str]) -> ActorName:
    """Any generation of that key: they differ in nothing that this is used for."""
    return ActorName(ids.actor_id(namespace, name, key))
