"""Which store this is, so that one that lost its data is not taken for it (ADR 27).

Every shard carries the random name of its store, and a number that grows with
each creation, claim and beat of a host in it. An open store remembers both as it
last saw them. Each script that touches a shard compares first, in the same step,
and replies with the new number; what only reads asks for them behind what it has
read. So a shard that is gone, is another store's, or is older than what we have
seen is noticed before anything is answered from it or written to it. Commits
have a number of their own for each actor, and are not counted twice.

Commands travel on several connections, so replies come in any order. What a reply
proves depends on when its command ran, and all that is known of that is that it was
after the command was sent: each reply is held against what was known *then* (`Known`),
never against what other replies have told meanwhile.

On a cluster a node may be away while others answer. Its shards are looked at when
they are first used, and what one node has lost is refused in its shards alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from rivet_ray.errors import StoreError, StoreLostData, StoreUnavailable
from rivet_ray_drivers.redis import scripts
from rivet_ray_drivers.redis.connection import Argument, Command, RedisConnection, Reply, run
from rivet_ray_drivers.redis.failures import LOSSES, lost_data, wrong_format
from rivet_ray_drivers.redis.layout import SHARDS, Layout
from rivet_ray_drivers.redis.location import Durability
from rivet_ray_drivers.redis.records import FORMAT, as_bytes, as_list, as_number

log = logging.getLogger("rivet_ray.store")

COMPLETE = b"complete"
"""A field of the first shard: its store had its name in all shards once."""
ACCEPTS_OLDER = (Durability.EVERYSEC, Durability.NONE)
"""Who demands no more than these has said that the last moments may be lost."""
FIELDS = (b"v", b"store", b"changes", COMPLETE)

Call = tuple[int, Sequence[bytes], Sequence[Argument]]
"""A shard, and the keys and arguments of a guarded script behind those of the guard."""


class Shard(NamedTuple):
    """What a shard says of itself."""

    store: bytes | None
    changes: int
    complete: bool


class Known(NamedTuple):
    """What was known of a shard when a command was sent to it."""

    changes: int
    nameless: bool
    """It may have had no name."""
    complete: bool
    """All had a name once."""
    losses: int
    """How many losses had been noticed."""


class Identity:
    """What one open store has seen of its shards."""

    def __init__(self, connection: RedisConnection, layout: Layout) -> None:
        self._connection = connection
        self._keys = layout.identities
        self._store = b""
        """Empty as long as there is no store."""
        self._complete = False
        self._seen = [0] * SHARDS
        self._unread: set[int] = set()
        """Shards whose node was away when they were looked at."""
        self._nameless: set[int] = set()
        """Shards that had no name when they were looked at."""
        self._unreached: set[int] = set()
        """Those of them whose node was away when they were given one."""
        self._naming = asyncio.Lock()
        self._lost: set[int] = set()
        """Shards that were not ours when they were last asked."""
        self._older: dict[int, StoreError] = {}
        """Shards that are refused for good: they may overtake what we have seen of them."""
        self._losses = 0
        """Counted when one is noticed: what was sent before it tells nothing of the time after."""

    @property
    def name(self) -> str:
        """The store's name; empty as long as there is none."""
        return self._store.decode("ascii", "replace")

    @property
    def lost_shards(self) -> int:
        """How many shards of a store that had them all had none of it when they were looked at."""
        return len(self._nameless) if self._complete else 0

    # --- Opening --------------------------------------------------------------

    async def open(self) -> None:
        """Learn which store this is, and change nothing. Raises StoreError."""
        found = await self._looks(range(SHARDS))
        names = {shard.store for shard in found.values() if shard.store is not None}
        if len(names) > 1:
            raise StoreError(
                f"Redis at {self._connection.place} holds parts of {len(names)} stores under"
                " one prefix: restore it from one backup, or use another prefix."
            )
        self._store = names.pop() if names else b""
        self._unread = set(range(SHARDS)) - found.keys()
        self._learn(found, complete=False)
        if self.lost_shards:
            # They had names when the first one said so, but may have been looked at before.
            self._learn(await self._looks(self._nameless), complete=True)

    async def _looks(self, shards: Iterable[int]) -> dict[int, Shard]:
        """The shards as they are, without those whose node is away. Raises when all are."""
        shards = list(shards)
        replies = await self._connection.answers([self._look(shard) for shard in shards])
        failures = [reply for reply in replies if isinstance(reply, StoreError)]
        for failure in failures:
            if len(failures) == len(replies) or not isinstance(failure, StoreUnavailable):
                raise failure
        return {
            shard: _shard_of(reply)
            for shard, reply in zip(shards, replies, strict=True)
            if not isinstance(reply, StoreError)
        }

    def _look(self, shard: int) -> Command:
        return Command((b"HMGET", self._keys[shard], *FIELDS))

    def _learn(self, found: Mapping[int, Shard], complete: bool) -> None:
        """Take shards as they are: nothing has been seen of them before.

        `complete` says whether all were known to have had a name when these were looked at.
        """
        for number, shard in found.items():
            self._unread.discard(number)
            self._seen[number] = max(self._seen[number], shard.changes)
            if number == 0:
                self._complete = self._complete or shard.complete
            if shard.store is None:
                self._nameless.add(number)
            else:
                self._nameless.discard(number)
                self._store = self._store or shard.store
        if complete and not self._nameless.isdisjoint(found):
            # Whoever saw them before refuses them; a process that starts accepts what is left.
            log.error(
                "Redis at %s has lost the data of %d of %d shards of store %s: they are empty now",
                self._connection.place,
                self.lost_shards,
                SHARDS,
                self.name,
            )

    # --- Beginning ------------------------------------------------------------

    async def _prepare(self, shards: Collection[int]) -> dict[int, StoreError]:
        """Before a change in these shards; gives those that cannot have one now, and why."""
        if self._unread and (unread := self._unread.intersection(shards)):
            # Where these do not answer, neither do they to what is sent next.
            complete = self._complete
            with contextlib.suppress(StoreUnavailable):
                found = await self._looks(unread)
                # Another operation may have learnt of some meanwhile, and given them a name.
                unread = found.keys() & self._unread
                self._learn({number: found[number] for number in unread}, complete)
        if (
            self._nameless - self._unreached
            or not self._unreached.isdisjoint(shards)
            or not (self._complete or self._unread or self._nameless)
        ):
            return {**self._older, **await self._give_names()}
        return self._older

    async def _give_names(self) -> dict[int, StoreError]:
        """All shards get the store's name that have none; gives those that could not get it."""
        async with self._naming:
            if not self._store:
                self._store = await self._begin(secrets.token_hex(8).encode())
            failures: dict[int, StoreError] = {}
            nameless = list(self._nameless)
            if nameless:
                known = [self._known(number) for number in nameless]
                replies = await self._connection.answers(
                    [run(scripts.begin, (self._keys[n],), self._store) for n in nameless]
                )
                for number, known_of, reply in zip(nameless, known, replies, strict=True):
                    if isinstance(reply, StoreError):
                        failures[number] = reply
                    elif as_bytes(reply) != self._store:
                        other = lost_data(self._connection.place, "other")
                        failures[number] = self._noticed(number, known_of, other)
                    else:
                        self._nameless.discard(number)
            self._unreached = set(failures)
            if not (self._complete or self._unread or self._nameless):
                command = Command((b"HSET", self._keys[0], COMPLETE, b"1"))
                (marked,) = await self._connection.answers([command])
                self._complete = not isinstance(marked, StoreError)
            return failures

    async def _begin(self, name: bytes) -> bytes:
        """The store's name, ours where no other process was faster."""
        chosen = as_bytes(await self._connection.do(run(scripts.begin, (self._keys[0],), name)))
        if chosen == name:
            log.warning(
                "Redis at %s held no store under the prefix %r: store %s begins there",
                self._connection.place,
                self._connection.place.prefix,
                name.decode(),
            )
        return chosen

    # --- Use ------------------------------------------------------------------

    async def do(
        self, script: scripts.Script, shard: int, keys: Sequence[bytes], *arguments: Argument
    ) -> list[Reply]:
        """The reply of a guarded script, without the changes it begins with."""
        refused = await self._prepare((shard,))
        if shard in refused:
            raise refused[shard]
        known = self._known(shard)
        reply: Reply | StoreError
        try:
            reply = await self._connection.do(self._guarded(script, (shard, keys, arguments)))
        except StoreLostData as error:
            reply = error
        taken = self._taken(shard, known, reply)
        if isinstance(taken, StoreError):
            raise taken
        return taken

    async def answers(
        self, script: scripts.Script, calls: Sequence[Call]
    ) -> list[list[Reply] | StoreError]:
        """The same for several shards, in one round trip.

        A failure of one is in its place; what holds for all is raised.
        """
        refused = await self._prepare([shard for shard, _, _ in calls])
        sent = [call for call in calls if call[0] not in refused]
        known = [self._known(shard) for shard, _, _ in sent]
        commands = [self._guarded(script, call) for call in sent]
        replies = zip(known, await self._connection.answers(commands) if sent else (), strict=True)
        return [
            refused[shard] if shard in refused else self._taken(shard, *next(replies))
            for shard, _, _ in calls
        ]

    def _guarded(self, script: scripts.Script, call: Call) -> Command:
        shard, keys, arguments = call
        return run(script, (self._keys[shard], *keys), self._store, self._seen[shard], *arguments)

    def _known(self, shard: int) -> Known:
        nameless = shard in self._nameless or shard in self._unread
        return Known(self._seen[shard], nameless, self._complete, self._losses)

    def _taken(
        self, shard: int, known: Known, reply: Reply | StoreError
    ) -> list[Reply] | StoreError:
        if isinstance(reply, StoreLostData):
            return self._noticed(shard, known, reply)
        if isinstance(reply, StoreError):
            return reply
        changes, *rest = as_list(reply)
        self._saw(shard, known, as_number(changes))
        return rest

    async def read(self, shard: int, command: Command) -> Reply:
        """The reply of a command that reads of one shard, if that still is ours."""
        (reply,) = await self.read_all([(shard, command)])
        return reply

    async def read_all(self, commands: Sequence[tuple[int, Command]]) -> list[Reply]:
        """The same for several shards. Raises what any of them failed with."""
        for shard, _ in commands:
            if shard in self._older:
                raise self._older[shard]
        known = [self._known(shard) for shard, _ in commands]
        replies = await self._connection.batch(
            [part for shard, command in commands for part in (command, self._look(shard))]
        )
        for (shard, _), known_of, reply in zip(commands, known, replies[1::2], strict=True):
            await self._compare(shard, known_of, _shard_of(reply))
        return replies[::2]

    async def _compare(self, number: int, known: Known, shard: Shard) -> None:
        if not self._store and shard.store is not None:
            async with self._naming:
                if not self._store:
                    await self.open()  # Another process has begun it.
        if number in self._unread:
            self._learn({number: shard}, known.complete)
        if shard.store is None and known.nameless:
            return
        how = None
        if shard.store != self._store:
            how = "empty" if shard.store is None else "other"
        elif shard.changes < known.changes:
            how = "older"
        if how is not None:
            raise self._noticed(number, known, lost_data(self._connection.place, how))
        self._saw(number, known, shard.changes)

    def _saw(self, shard: int, known: Known, changes: int) -> None:
        if known.losses != self._losses:
            return  # It ran before a loss, perhaps, and says nothing of what is there now.
        if changes > self._seen[shard]:
            self._seen[shard] = changes
        if self._lost:
            self._lost.discard(shard)
            if not self._lost:
                log.warning("Redis at %s holds our data again", self._connection.place)

    def _noticed(self, shard: int, known: Known, error: StoreLostData) -> StoreError:
        """What to raise; said in the log once."""
        older = error.metadata == {"data": "older"}
        if older and self._connection.place.durability in ACCEPTS_OLDER:
            return self._accept_older(shard, known)
        if not self._lost:
            log.critical("%s", error)
        if shard not in self._lost:
            self._losses += 1
            self._lost.add(shard)
        if older:
            self._older.update(dict.fromkeys(self._on_the_server_of(shard), error))
        return error

    def _accept_older(self, shard: int, known: Known) -> StoreUnavailable:
        """Nothing was done, and may be tried again: each actor has its fence besides."""
        place = self._connection.place
        what = f"Redis at {place} {LOSSES['older']}"
        if known.losses == self._losses:  # else it may have been accepted since
            said = "" if place.durability is None else place.durability.value
            log.critical("%s; goes on, as ?durability=%s in its URL accepts", what, said)
            self._losses += 1
            for number in self._on_the_server_of(shard):
                self._seen[number] = 0
        return StoreUnavailable(f"{what}; try again.")

    def _on_the_server_of(self, shard: int) -> list[int]:
        """The shards that share a server, and so what becomes of its data."""
        servers = [self._connection.server_of(key) for key in self._keys]
        return [number for number, server in enumerate(servers) if server == servers[shard]]


def _shard_of(reply: Reply) -> Shard:
    version, name, changes, complete = as_list(reply)
    if version not in (None, FORMAT):
        raise wrong_format(as_bytes(version).decode("ascii", "replace"))
    if name is None:
        return Shard(None, 0, complete=False)
    return Shard(as_bytes(name), int(as_bytes(changes)), complete is not None)
