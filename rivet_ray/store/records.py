"""The plain values that go into a store and come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from rivet_ray.ids import Key


@dataclass(frozen=True, slots=True)
class NewActor:
    """What `Store.create` writes. `input` is msgpack, None where none was given."""

    namespace: str
    name: str
    key: Key
    input: bytes | None = None
    region: str | None = None
    created_at: float = 0.0
    """Seconds since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class ActorRecord:
    """An actor in the directory."""

    id: str
    namespace: str
    name: str
    key: Key
    input: bytes | None = None
    region: str | None = None
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Fence:
    """Proof of ownership: a write is accepted only with the latest of these."""

    epoch: int
    """Grows by one with each claim of the actor, over destroys too."""
    token: str
    """Random, so that two owners never share a fence even if epochs were lost."""


LEASE_KEPT = 86_400.0
"""Seconds for which a store keeps a lease that nobody writes, by its own time."""


@dataclass(frozen=True, slots=True)
class HostLease:
    """A host's proof of life: a record that it rewrites, not a key that expires.

    Nobody trusts another machine's clock. Who wants to take over watches `beat`
    for the lease's length of its own time, and then marks the incarnation dead.
    """

    incarnation: str
    """Names one life of one host process; random, never used twice."""
    beat: int
    """Grows by one with each renewal."""
    address: str = ""
    """Where the host's link listens, `host:port`; empty where it does not."""
    dead: bool = False
    """Marked by a taker; its renewals are refused from then on."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a successful `Store.claim` gives."""

    record: ActorRecord
    fence: Fence
    sequence: int
    """The sequence of the last commit that was accepted; 0 before the first."""
    parts: Mapping[str, bytes]
    """The saved snapshot: named parts, each an opaque value of the runtime's."""
    alarm: float | None
    """When the actor wants to be woken, in seconds since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One atomic change of one actor's snapshot.

    Parts that are neither in `put` nor in `delete` stay as they are. `alarm`
    replaces the stored alarm (None removes it).
    """

    actor_id: str
    fence: Fence
    sequence: int
    """One more than the sequence of the owner's previous commit."""
    put: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    delete: frozenset[str] = frozenset()
    alarm: float | None = None
    destroy: bool = False
    """Remove the snapshot, the alarm and the directory entry in the same step.

    A tombstone keeps the epoch, so that a later actor of this key continues it.
    """


class CommitResult(Enum):
    """What a store did with a commit."""

    COMMITTED = "committed"
    """It is as durable as the store's name promises."""
    ALREADY_DONE = "already_done"
    """The same fence and sequence were committed before; nothing changed now."""
    FENCED = "fenced"
    """Somebody else owns the actor, or it was destroyed; nothing changed."""
    BEHIND = "behind"
    """The stored sequence is behind the owner's: the store lost data."""

    @property
    def durable(self) -> bool:
        return self in (CommitResult.COMMITTED, CommitResult.ALREADY_DONE)
