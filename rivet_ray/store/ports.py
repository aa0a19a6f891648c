"""The store port: every promise that a driver makes to the runtime.

`rivet_ray.testing.conformance` turns each sentence below into a test; a driver
is right when that suite passes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from rivet_ray.errors import StoreError
from rivet_ray.store.records import (
    ActorRecord,
    ActorSize,
    ActorType,
    Claim,
    Claimant,
    Commit,
    CommitResult,
    HostLease,
    IndexEntry,
    NewActor,
    Ownership,
    Refusal,
    Snapshot,
    TypeSize,
)

ANYBODY = Claimant()


class Store(Protocol):
    """Directory, ownership and snapshots of actors.

    Every method may raise `StoreUnavailable`; whether a write happened is then
    unknown, except as told below. Cancelling a call leaves its effect unknown
    in the same way.

    A store whose data can go away or become older while it is open (another
    process holds them) notices that before it uses them: every method may raise
    `StoreLostData`, and has changed nothing then. It says so in the log, once.
    """

    async def find(self, namespace: str, name: str, key: Sequence[str]) -> ActorRecord | None:
        """The living actor of that name and key, or None."""
        ...

    async def find_by_id(self, actor_id: str) -> ActorRecord | None:
        """The living actor of that id in any namespace, or None."""
        ...

    async def create(self, actor: NewActor) -> tuple[ActorRecord, bool]:
        """The actor of that name and key, and whether this call created it.

        Of any number of concurrent calls exactly one creates. The id is
        `ids.actor_id`, with a higher generation after each destroy.
        """
        ...

    async def list_actors(
        self,
        namespace: str,
        name: str | None = None,
        prefix: Sequence[str] = (),
        *,
        after: str | None = None,
        limit: int = 100,
    ) -> list[ActorRecord]:
        """Living actors in the order of their ids, at most `limit`.

        `prefix` compares whole key parts. `after` is the last id of the
        previous page.
        """
        ...

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
        """Entries of the living actors of a type, in the order of `IndexEntry`.

        Each as of its actor's last commit; a page over shards is no snapshot. Values
        are those from `start` up to `end`, which is not included; keys those with
        `prefix`, which compares whole parts and is for index 0 alone. `after` is the
        last entry of the previous page.
        """
        ...

    async def sizes(self) -> list[TypeSize]:
        """Each actor type of which the store holds actors, in the order of the types.

        Costs a look at counters, not at actors, on a store that hosts share.
        """
        ...

    async def list_sizes(
        self, namespace: str | None = None, *, after: str | None = None, limit: int = 100
    ) -> list[ActorSize]:
        """Sizes of living actors in the order of their ids, at most `limit`.

        Of all namespaces, or of one. `after` is the last id of the previous page. Costs
        as much as a page of `list_actors`; no input and no part leaves the store.
        """
        ...

    async def claim(
        self,
        actor_id: str,
        token: str,
        claimant: Claimant = ANYBODY,
        *,
        expected: Ownership | None = None,
    ) -> Claim | Refusal | None:
        """Take ownership: the epoch grows by one and `token` becomes the owner's.

        From then on every commit with an older fence is FENCED. None when the
        actor does not live. The snapshot returned is the one that the last
        accepted commit left.

        What the claimant cannot run is refused, and so is an actor whose owner or
        epoch is not the `expected` one; the comparison and the claim are one step.
        A refused claim changes nothing.
        """
        ...

    async def find_ownership(self, actor_id: str) -> Ownership | None:
        """Who has an actor now; None when it does not live. Changes nothing."""
        ...

    async def read(self, actor_id: str) -> Snapshot | None:
        """What the last accepted commit left of an actor; None when it does not live.

        All of it is of one moment. Changes nothing: it takes no epoch and fences nobody, so
        it may be done while the actor runs. It is for those who look; who wants to write
        claims, since what was read may be old by the time that it is used.
        """
        ...

    async def commit(self, commits: Sequence[Commit]) -> Sequence[CommitResult | StoreError]:
        """Apply each commit atomically, in order, with one result for each.

        A commit is applied when its fence is the stored one and its sequence
        the stored sequence + 1. A commit that repeats the stored sequence
        under the same fence is ALREADY_DONE. Commits of different actors are
        independent of one another.

        Where something failed for some of them, these have the error in place
        of a result: StoreUnavailable where it is unknown what became of the
        commit, so that it may be repeated, as for those of a server that is away
        while others answer; StoreError where it cannot be stored as it is. An
        error that is raised holds for all, and says that there are no others.
        """
        ...

    # --- Hosts ------------------------------------------------------------

    async def renew_lease(self, incarnation: str, beat: int, address: str = "") -> bool:
        """Write a host's lease. False when the incarnation is dead; nothing changes then.

        Beat 1 alone creates it. An incarnation is dead if it is marked so, or if it has
        no lease at a later beat: the lease was ended, or was swept because nobody had
        renewed or marked it for LEASE_KEPT seconds. So sweeping brings nobody back.

        A beat that is not above the stored one changes nothing and is True: it
        is a repetition.
        """
        ...

    async def find_lease(self, incarnation: str) -> HostLease | None:
        """A host's lease, dead or not, or None where it was never written or was ended."""
        ...

    async def list_hosts(self, limit: int = 1000) -> list[HostLease]:
        """The leases that `find_lease` gives, dead or not, in the order of incarnations.

        At most `limit`; of more, those that were written last. Costs a look at an index of
        leases, not at all that the store holds.
        """
        ...

    async def mark_dead(self, incarnation: str, beat: int) -> bool:
        """Mark an incarnation dead if its beat still is `beat`, or if it is dead already.

        False when it has beaten since, or has no lease.
        """
        ...

    async def end_lease(self, incarnation: str) -> None:
        """The host has released everything and goes: its lease is removed."""
        ...

    # --- Alarms -----------------------------------------------------------

    async def alarms_due(
        self, now: float, limit: int = 100, *, types: Collection[ActorType] | None = None
    ) -> list[tuple[float, str]]:
        """(alarm, actor id) of the living actors due at `now`, earliest first.

        With `types`, of no others; what they cost does not grow with the number of
        other actors that are due.

        A store on several servers leaves out those of a server that does not
        answer. `next_alarm` then raises, so that one looks again soon.
        """
        ...

    async def next_alarm(
        self, after: float | None = None, *, types: Collection[ActorType] | None = None
    ) -> float | None:
        """The earliest alarm of any living actor, in seconds since the epoch.

        With `after`: the earliest that is later than that. With `types`, of no others.
        """
        ...

    async def close(self) -> None:
        """Finish writes under way and let go of files and sockets."""
        ...
