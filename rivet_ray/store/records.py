"""The plain values that go into a store and come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from rivet_ray.ids import Key, escape_key


class ActorType(NamedTuple):
    """What actors of one class have in common. Alarms, indexes and sizes are kept by it."""

    namespace: str
    name: str


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

    @property
    def type(self) -> ActorType:
        return ActorType(self.namespace, self.name)


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

    @property
    def type(self) -> ActorType:
        return ActorType(self.namespace, self.name)

    def __str__(self) -> str:
        """The actor as logs name it."""
        return f"<{self.name} {escape_key(self.key)!r} {self.id}>"


@dataclass(frozen=True, slots=True)
class Stamp:
    """The code that wrote a state."""

    state_version: int = 0
    """`state_version` of the actor's class; 0 where nothing was written yet."""
    fingerprint: str = ""
    """Names the shape of the class; other code has another one."""


UNWRITTEN = Stamp()


@dataclass(frozen=True, slots=True)
class Fence:
    """Proof of ownership: a write is accepted only with the latest of these."""

    epoch: int
    """Grows by one with each claim of the actor, over destroys too."""
    token: str
    """Random, so that two owners never share a fence even if epochs were lost."""


LEASE_KEPT = 86_400.0
"""Seconds for which a store keeps a lease that nobody writes, by its own time."""
TOMBSTONE_KEPT = 30 * 86_400.0
"""Seconds for which a store keeps what it knows of a destroyed actor, by its own time."""
TOMBSTONES = 8
"""Lives of one key whose destroys it knows at most: the last ones."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who has an actor, and what its state was last written by."""

    owner: str = ""
    """The incarnation of the host that claimed it last; empty where none said its own."""
    epoch: int = 0
    """Of the last claim."""
    stamp: Stamp = UNWRITTEN


@dataclass(frozen=True, slots=True)
class Claimant:
    """A host that claims actors, and what it can run. The default takes any actor."""

    incarnation: str = ""
    namespace: str | None = None
    """Actors of another namespace are FOREIGN; None for any."""
    versions: Mapping[str, int] | None = None
    """The state version of each actor type that it has. Others are FOREIGN, actors whose
    state was written with a higher version NEWER; None for any."""


class Refusal(Enum):
    """Why a claim was refused. Nothing has changed."""

    FOREIGN = "foreign"
    """The claimant does not run actors of that namespace or type."""
    NEWER = "newer"
    """The state was written by newer code than the claimant has."""
    OWNED = "owned"
    """Owner or epoch are not what the claimant expected."""


def refused(
    claimant: Claimant, actor: ActorRecord, now: Ownership, expected: Ownership | None
) -> Refusal | None:
    """Return why a claim is refused, for drivers that decide it in this process."""
    if claimant.namespace is not None and claimant.namespace != actor.namespace:
        return Refusal.FOREIGN
    if claimant.versions is not None:
        version = claimant.versions.get(actor.name)
        if version is None:
            return Refusal.FOREIGN
        if now.stamp.state_version > version:
            return Refusal.NEWER
    if expected is not None and (expected.owner, expected.epoch) != (now.owner, now.epoch):
        return Refusal.OWNED
    return None


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
    stamp: Stamp = UNWRITTEN
    """Of the code that wrote the snapshot."""
    entries: Mapping[int, bytes] = field(default_factory=dict[int, bytes])
    """The value that the actor has in each index of its type, but for index 0."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a store holds of a living actor at one moment, for those who only look."""

    record: ActorRecord
    ownership: Ownership
    """Who has it, and the code that wrote the parts."""
    sequence: int
    """That of the last commit that was accepted; 0 before the first."""
    parts: Mapping[str, bytes]
    """As that commit left them."""
    alarm: float | None
    entries: Mapping[int, bytes] = field(default_factory=dict[int, bytes])
    """The value that the actor has in each index of its type, but for index 0."""


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """An actor in an index of its type.

    Entries are in the order of value, key and id; values and ids compare as bytes, keys
    part by part in UTF-8.
    """

    value: bytes
    """Empty in index 0, whose order is that of the keys."""
    key: Key
    id: str


@dataclass(frozen=True, slots=True)
class TypeSize:
    """What a store holds of one actor type."""

    type: ActorType
    actors: int
    """Those that live."""
    bytes: int
    """Of their inputs and parts, without names and without what the store adds."""


@dataclass(frozen=True, slots=True)
class ActorSize:
    """What a store holds of one living actor."""

    id: str
    type: ActorType
    key: Key
    bytes: int
    """Of its input and parts, as in `TypeSize`."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One atomic change of one actor's snapshot.

    Parts that are neither in `put` nor in `delete` stay as they are; what is in both
    is put. `alarm` replaces the stored alarm (None removes it).
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

    A tombstone keeps the epoch for TOMBSTONE_KEPT seconds, so that a later actor of this
    key continues it.
    """
    stamp: Stamp | None = None
    """Replaces the stored one; None leaves it, which is right while the code is the same."""
    entries: Mapping[int, bytes | None] = field(default_factory=dict[int, bytes | None])
    """New values in indexes of the type, from index 1 on; None takes the actor out. What is
    not named stays; a destroy names each index that the actor is in."""
    type: ActorType = field(kw_only=True)
    """The actor's. A commit with another one is FENCED."""


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
