"""What of a snapshot this code cannot load, found without an actor.

It reads what a start reads, with the same codecs and in the same order, and runs what a
start runs of the user's code before the first hook: the types themselves, and `migrate`.
Nothing is kept of it.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import msgspec

from rivet_ray.definition import ActorDefinition
from rivet_ray.definition.user_code import call, described
from rivet_ray.errors import InvalidParams, RivetError
from rivet_ray.runtime import connection, events, keys, schedule
from rivet_ray.runtime.memory import CREATED, fields_in, needs_migration
from rivet_ray.runtime.migration import does_not_fit, migrated
from rivet_ray.runtime.unloadable import why_not
from rivet_ray.store import ActorRecord, Snapshot


class Part(str, Enum):
    """What does not fit, and so what becomes of it."""

    ACTOR = "actor"
    """It cannot start; its callers get an error. Nothing of it is changed."""
    SCHEDULE = "schedule"
    """An entry cannot run, and is kept."""
    CONNECTION = "connection"
    """Its client has to connect again."""


class Misfit(NamedTuple):
    part: Part
    why: str
    """Begins with the path in what is saved."""


class _Owner:
    """Names the actor as an instance does, where code of the user's fails."""

    __slots__ = ("_record",)

    def __init__(self, record: ActorRecord) -> None:
        self._record = record

    def __repr__(self) -> str:
        return str(self._record)


def misfits_of(definition: ActorDefinition, snapshot: Snapshot) -> list[Misfit]:
    """Everything that a start with this code would refuse or set aside."""
    found: list[Misfit] = []
    version = snapshot.ownership.stamp.state_version
    if version > definition.state_version:
        why = f"saved with state_version {version}, and the code has {definition.state_version}"
        return [Misfit(Part.ACTOR, why)]
    place = "input"
    try:
        new = CREATED not in snapshot.parts
        if new or snapshot.record.input is not None:
            definition.decode("Input", snapshot.record.input)
        place = "state"
        if not new:
            owner = _Owner(snapshot.record)
            call(owner, _load_state, definition, snapshot, owner)
            call(owner, _load_others, definition, snapshot, owner, found)
    except Exception as error:
        found.insert(0, Misfit(Part.ACTOR, why_not(place, error)))
    return found


def _load_state(definition: ActorDefinition, snapshot: Snapshot, owner: _Owner) -> None:
    """As `Memory.load`. Raises what that raises."""
    stamp, codec = snapshot.ownership.stamp, definition.state
    fields = fields_in(snapshot.parts)
    migrates = needs_migration(definition, stamp, snapshot.parts)
    if migrates:
        fields = migrated(definition.actor, owner, fields, stamp.state_version)
    try:
        state = codec.join({name: value for name, value in fields.items() if codec.knows(name)})
        if migrates:
            codec.verify(state, codec.split(state))
    except Exception as error:
        if migrates:
            raise does_not_fit(stamp.state_version, error) from error
        raise


def _load_others(
    definition: ActorDefinition, snapshot: Snapshot, owner: _Owner, found: list[Misfit]
) -> None:
    for name, value in snapshot.parts.items():
        if name.startswith(schedule.PART):
            entry = schedule.entry_of(value)
            why = None if entry.over else schedule.misfit_of(definition, owner, entry)
            if why is not None:
                text = f"{name}: scheduled {entry.action} cannot run: {why}"
                found.append(Misfit(Part.SCHEDULE, text))
        elif name.startswith(connection.PART):
            why = _misfit_of_connection(definition, value)
            if why is not None:
                found.append(Misfit(Part.CONNECTION, f"{name}: {why}"))
        elif name.startswith(keys.PART):
            keys.entry_of(value)
        else:
            events.check_part(name, value)


def _misfit_of_connection(definition: ActorDefinition, saved: bytes) -> str | None:
    try:
        record = connection.record_of(saved)
        definition.decode("Params", record.params, InvalidParams)
        definition.decode("Auth", record.auth)
        definition.conn_state.encode(connection.state_in(record, definition))
    except (RivetError, msgspec.DecodeError) as error:
        return str(error) if error.__cause__ is None else described_cause(error)
    return None


def described_cause(error: Exception) -> str:
    """Its text; of code of the user's that failed, what it failed with."""
    cause = error.__cause__
    if cause is None or isinstance(cause, msgspec.ValidationError):
        return str(error)
    return f"{error}: {described(cause)}"
