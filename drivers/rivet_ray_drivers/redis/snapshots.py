"""All fields of an actor, as Redis gives them, as values of the port."""

from __future__ import annotations

from collections.abc import Sequence

from rivet_ray.store import Claim, Fence, Ownership, Refusal, Snapshot
from rivet_ray_drivers.file_system.packing import unpack, unpack_value
from rivet_ray_drivers.redis.connection import Reply
from rivet_ray_drivers.redis.records import (
    OWNERSHIP,
    PART,
    RECORD,
    as_bytes,
    as_list,
    damaged,
    ownership_of,
    record_of,
)

ENTRY = b"i:"


def claim_of(reply: Sequence[Reply], token: str) -> Claim | Refusal | None:
    """What the claim script gave."""
    if not reply:
        return None
    if isinstance(reply[0], bytes):
        return Refusal(reply[0].decode())
    found = _snapshot(reply[0])
    if found is None:
        raise damaged("an actor")
    return Claim(
        record=found.record,
        fence=Fence(found.ownership.epoch, token),
        sequence=found.sequence,
        parts=found.parts,
        alarm=found.alarm,
        stamp=found.ownership.stamp,
        entries=found.entries,
    )


def snapshot_of(actor_id: str, reply: Reply) -> Snapshot | None:
    """What HGETALL gave; None if another life of the actor's key, or none, is there."""
    found = _snapshot(reply)
    return found if found is not None and found.record.id == actor_id else None


def _snapshot(reply: Reply) -> Snapshot | None:
    names_and_values = as_list(reply)
    found = dict(zip(names_and_values[::2], names_and_values[1::2], strict=True))
    record = record_of([found.get(name) for name in RECORD])
    if record is None:
        return None
    ownership = ownership_of(record.id, [found.get(name) for name in OWNERSHIP])
    alarm = found.get(b"alarm")
    try:
        return Snapshot(
            record=record,
            ownership=Ownership() if ownership is None else ownership,
            sequence=int(as_bytes(found.get(b"sequence", b"0"))),
            parts={
                unpack(name[len(PART) :]): as_bytes(value)
                for name, value in found.items()
                if isinstance(name, bytes) and name.startswith(PART)
            },
            alarm=None if alarm is None else float(as_bytes(alarm)),
            entries={
                int(name[len(ENTRY) :]): unpack_value(as_bytes(value))
                for name, value in found.items()
                if isinstance(name, bytes) and name.startswith(ENTRY)
            },
        )
    except ValueError as error:
        raise damaged(f"actor {record.id}") from error
