"""Values of the port as arguments of our scripts, and their replies as values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import cast

from rivet_ray.errors import StoreError
from rivet_ray.ids import actor_id
from rivet_ray.store import (
    UNWRITTEN,
    ActorRecord,
    ActorSize,
    ActorType,
    Claimant,
    Commit,
    CommitResult,
    HostLease,
    NewActor,
    Ownership,
    Stamp,
    TypeSize,
)
from rivet_ray_drivers.file_system.packing import (
    pack,
    pack_key,
    pack_type,
    pack_value,
    unpack,
    unpack_key,
)
from rivet_ray_drivers.redis.connection import Argument, Reply
from rivet_ray_drivers.redis.failures import wrong_format
from rivet_ray_drivers.redis.layout import FORMAT as NUMBER
from rivet_ray_drivers.redis.layout import ActorName, Layout, actor_name

FORMAT = b"%d" % NUMBER
RECORD = (b"v", b"generation", b"created", b"place", b"input", b"region")
"""The fields of an actor's hash that its record is made of, in the scripts' order."""
SIZE = (b"v", b"generation", b"place", b"size")
OWNERSHIP = (b"v", b"generation", b"created", b"owner", b"epoch", b"version", b"code")
LEASE = (b"v", b"beat", b"address", b"dead")
PART = b"p:"
ACTORS = b"n:"
BYTES = b"b:"
"""Before a type, in the sizes of a shard."""
LARGEST = 2**53
"""Lua's numbers are exact below this."""

RESULTS = {result.value.encode(): result for result in CommitResult}

# --- Arguments ---------------------------------------------------------------


def number(value: int) -> bytes:
    if not 0 <= value < LARGEST:
        raise StoreError(f"{value} is no epoch, sequence or beat: these are below 2**53.")
    return b"%d" % value


def time(value: float) -> bytes:
    """Seconds to the last bit: the shortest text that gives the same number again."""
    if math.isnan(value):
        raise StoreError("An alarm must be a number of seconds, and was NaN.")
    return repr(float(value)).encode()


def place_of(namespace: str, name: str, key: Sequence[str]) -> bytes:
    return pack_key([namespace, name, *key])


def creation(actor: NewActor, digits: str) -> list[Argument]:
    """The arguments of `create`; what is None gets no field."""
    packed = pack_type(actor.type)
    size = len(actor.input) if isinstance(actor.input, bytes) else 0  # or it is refused
    arguments: list[Argument] = [digits, packed, pack_key(actor.key), size]
    arguments += [b"created", repr(float(actor.created_at))]
    arguments += [b"place", place_of(actor.namespace, actor.name, actor.key)]
    if actor.input is not None:
        arguments += [b"input", actor.input]
    if actor.region is not None:
        arguments += [b"region", pack(actor.region)]
    return arguments


def commits_of_shard(
    layout: Layout,
    shard: int,
    commits: Sequence[tuple[ActorName, Commit]],
    index: bytes | None,
) -> tuple[list[bytes], list[Argument]]:
    """The keys and arguments of the commit script; all the actors are of that shard.

    `index` is the key of the earliest alarms, where there is one.
    """
    keys = [layout.alarm_types[shard], layout.sizes[shard], layout.ids[shard]]
    arguments: list[Argument] = []
    for name, commit in commits:
        packed = pack_type(commit.type)
        entries = entries_of(commit)
        deleted = commit.delete - commit.put.keys() if commit.delete else ()
        keys += (layout.actor(name), layout.alarms(shard, packed))
        keys += (layout.index(shard, entry, packed) for entry in entries)
        arguments += (
            name.id,
            name.generation,
            packed,
            number(commit.fence.epoch),
            pack(commit.fence.token),
            number(commit.sequence),
            b"" if commit.alarm is None else time(commit.alarm),
            b"1" if commit.destroy else b"",
            len(entries),
            len(deleted),
            2 * len(commit.put) + (0 if commit.stamp is None else 4),
        )
        for entry, value in entries.items():
            arguments += (entry, b"-" if value is None else b"+" + pack_value(value))
        arguments += (PART + pack(part) for part in deleted)
        for part, value in commit.put.items():
            arguments += (PART + pack(part), value)
        if commit.stamp is not None:
            arguments += (b"version", number(commit.stamp.state_version))
            arguments += (b"code", pack(commit.stamp.fingerprint))
    if index is not None:
        keys.append(index)
    return keys, arguments


def entries_of(commit: Commit) -> dict[int, bytes | None]:
    """The entries that a commit changes; a destroy takes the actor out of index 0 too."""
    if any(not 0 < entry < LARGEST for entry in commit.entries):
        raise StoreError("A commit changes entries of index 1 and above alone.")
    return {0: None, **commit.entries} if commit.destroy else dict(commit.entries)


def selection(namespace: str, name: str | None, prefix: Sequence[str]) -> tuple[bytes, bytes]:
    """What a packed place must start with, and what the key in it must start with."""
    if name is None:
        return pack_key([namespace]), pack_key(prefix)
    return place_of(namespace, name, prefix), b""


# --- Replies -----------------------------------------------------------------


def results_of(reply: Reply) -> list[CommitResult]:
    return [RESULTS[as_bytes(result)] for result in as_list(reply)]


def created_record(actor: NewActor, generation: int) -> ActorRecord:
    """The record of an actor that was created just now."""
    return ActorRecord(
        id=actor_id(actor.namespace, actor.name, actor.key, generation),
        namespace=actor.namespace,
        name=actor.name,
        key=actor.key,
        input=actor.input,
        region=actor.region,
        created_at=actor.created_at,
    )


def record_of(reply: Reply) -> ActorRecord | None:
    """The record in a reply of the fields RECORD, None where no actor lives."""
    version, generation, created, place, given, region = as_list(reply)
    if version not in (None, FORMAT):
        raise wrong_format(as_bytes(version).decode("ascii", "replace"))
    if version is None or created is None:
        return None
    try:
        namespace, name, *key = unpack_key(as_bytes(place))
        return ActorRecord(
            id=actor_id(namespace, name, key, int(as_bytes(generation))),
            namespace=namespace,
            name=name,
            key=tuple(key),
            input=None if given is None else as_bytes(given),
            region=None if region is None else unpack(as_bytes(region)),
            created_at=float(as_bytes(created)),
        )
    except ValueError as error:
        raise damaged("an actor") from error


def size_of(reply: Reply) -> ActorSize:
    """The size in a reply of the fields SIZE, of an actor that lives."""
    version, generation, place, size = as_list(reply)
    if version != FORMAT:
        raise wrong_format(as_bytes(version).decode("ascii", "replace"))
    try:
        namespace, name, *key = unpack_key(as_bytes(place))
        identity = actor_id(namespace, name, key, int(as_bytes(generation)))
        return ActorSize(identity, ActorType(namespace, name), tuple(key), int(as_bytes(size)))
    except ValueError as error:
        raise damaged("an actor") from error


def claimant_of(claimant: Claimant, expected: Ownership | None) -> list[Argument]:
    """What the claim script compares."""
    arguments: list[Argument] = [pack(claimant.incarnation), b"" if expected is None else b"1"]
    arguments += [b"", 0] if expected is None else [pack(expected.owner), number(expected.epoch)]
    namespace, versions = claimant.namespace, claimant.versions
    arguments.append(b"" if namespace is None else pack_key([namespace]))
    arguments.append(b"" if versions is None else b"1")
    for name, version in (versions or {}).items():
        arguments += (pack_key([name]), number(version))
    return arguments


def ownership_of(actor_id: str, reply: Reply) -> Ownership | None:
    """The ownership in a reply of the fields OWNERSHIP."""
    version, generation, created, owner, epoch, state_version, code = as_list(reply)
    if version not in (None, FORMAT):
        raise wrong_format(as_bytes(version).decode("ascii", "replace"))
    name = actor_name(actor_id)
    if version is None or created is None or name is None:
        return None
    try:
        if int(as_bytes(generation)) != name.generation:
            return None
        return Ownership(
            "" if owner is None else unpack(as_bytes(owner)),
            0 if epoch is None else int(as_bytes(epoch)),
            stamp_of(state_version, code),
        )
    except ValueError as error:
        raise damaged(f"actor {actor_id}") from error


def stamp_of(state_version: Reply, code: Reply) -> Stamp:
    if state_version is None or code is None:
        return UNWRITTEN
    return Stamp(int(as_bytes(state_version)), unpack(as_bytes(code)))


def alarms_of(reply: Reply) -> list[tuple[float, str]]:
    """What the alarms script gave."""
    flat = [as_bytes(text) for text in as_list(reply)]
    return [
        (float(alarm), identity.decode())
        for alarm, identity in zip(flat[::2], flat[1::2], strict=True)
    ]


def members_of(reply: Reply) -> list[tuple[float, bytes]]:
    """Members with their scores, as Redis itself gives them."""
    flat = as_list(reply)
    return [
        (float(as_bytes(score)), as_bytes(member))
        for member, score in zip(flat[::2], flat[1::2], strict=True)
    ]


def sizes_of(replies: Sequence[Reply]) -> list[TypeSize]:
    """The sizes of all shards together."""
    actors: Counter[bytes] = Counter()
    total: Counter[bytes] = Counter()
    for reply in replies:
        flat = [as_bytes(text) for text in as_list(reply)]
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            counted = actors if name.startswith(ACTORS) else total
            counted[name[len(ACTORS) :]] += int(value)
    return [
        TypeSize(ActorType(*unpack_key(packed)), actors[packed], total[packed])
        for packed in sorted(actors)
        if actors[packed]
    ]


def time_of(reply: Reply) -> float:
    """Seconds since the Unix epoch, from what TIME gave."""
    seconds, microseconds = map(as_bytes, as_list(reply))
    return int(seconds) + int(microseconds) / 1e6


def lease_of(incarnation: str, reply: Reply) -> HostLease | None:
    """The lease in a reply of the fields LEASE."""
    version, beat, address, dead = as_list(reply)
    if version is None:
        return None
    if version != FORMAT:
        raise wrong_format(as_bytes(version).decode("ascii", "replace"))
    try:
        return HostLease(
            incarnation, int(as_bytes(beat)), unpack(as_bytes(address)), dead is not None
        )
    except ValueError as error:
        raise damaged(f"the lease of {incarnation}") from error


def incarnation_of(member: bytes) -> str:
    """The incarnation that an index of leases names."""
    try:
        return unpack(member)
    except ValueError as error:
        raise damaged("its hosts") from error


def damaged(what: str) -> StoreError:
    return StoreError(f"What Redis holds of {what} cannot be read: it was not written by us.")


def as_list(reply: Reply) -> list[Reply]:
    if not isinstance(reply, list):
        raise damaged("an actor or a lease")
    return cast("list[Reply]", reply)


def as_bytes(reply: Reply) -> bytes:
    if not isinstance(reply, bytes):
        raise damaged("an actor or a lease")
    return reply


def as_number(reply: Reply) -> int:
    if not isinstance(reply, int):
        raise damaged("an actor or a lease")
    return reply
