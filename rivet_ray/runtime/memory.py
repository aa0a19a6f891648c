"""The state of an instance between its turns and the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rivet_ray.definition import ActorDefinition
from rivet_ray.definition.state import NOTHING_KNOWN, Known
from rivet_ray.definition.unknown import Unknown, handed_on, unknown_in
from rivet_ray.errors import InvalidStateType, ReadonlyViolated
from rivet_ray.protocol import values
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime import connection, keys, schedule
from rivet_ray.runtime.disuse import PART as DISUSE
from rivet_ray.runtime.migration import does_not_fit, migrated
from rivet_ray.store import Claim, Stamp

if TYPE_CHECKING:
    from rivet_ray.runtime.instance import Instance

log = logger_of_strangers("rivet_ray.runtime")

CREATED = "created"
"""The part that says that `create_state` and `on_create` have run."""
FIELD = "state/"
"""The prefix of the parts that hold the state's fields."""
CHECKED = 4_096
"""Bytes up to which a field is looked at whenever an action ends.

Larger ones are looked at once for all actions of a tick, and a value in them that
cannot be saved fails all of these.
"""


@dataclass(frozen=True, slots=True)
class ReadonlyBegin:
    """What a readonly action must leave as it was."""

    parts: dict[str, bytes] | None
    begun: int
    """How many actions that may change the state had begun by then."""
    alone: bool
    """No other action was in the midst of something."""
    clean: bool
    """The parts are what the store has: the answer may leave at once."""


def fields_in(parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """The parts of a snapshot that are the state's, by the names of their fields."""
    return {
        name.removeprefix(FIELD): value for name, value in parts.items() if name.startswith(FIELD)
    }


def needs_migration(definition: ActorDefinition, stamp: Stamp, parts: Mapping[str, bytes]) -> bool:
    """Whether older code has saved these parts, and the class says how to read that."""
    older = stamp.state_version < definition.state_version
    return older and CREATED in parts and "migrate" in definition.hooks


class Memory:
    """Takes the state apart, puts it together, and goes back where it must."""

    __slots__ = (
        "_good",
        "_instance",
        "_known",
        "_large",
        "_unknown",
        "_warned",
        "created",
        "has_state",
    )

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._good: dict[str, bytes] | None = None
        self._large: frozenset[str] = frozenset()
        self._known: Known = NOTHING_KNOWN
        self._warned: set[str] | None = None
        self._unknown: dict[str, Unknown] | None = None
        self.has_state = False
        """There is something to save; not so while `create_state` runs."""
        self.created = False
        """`on_create` has run to its end. A save before does not count as creation:
        after a crash in between, creation begins again."""

    def saved_in(self, claim: Claim) -> dict[str, bytes]:
        """The parts of the state that this code knows, among all parts of a snapshot.

        Newer code may have saved fields that this class lacks. Nothing here compares,
        writes or deletes them, so they are there when that code is back.
        """
        knows = self._instance.definition.state.knows
        return {
            name: value
            for name, value in claim.parts.items()
            if (name.startswith(FIELD) and knows(name.removeprefix(FIELD))) or name == CREATED
        }

    def load(self, claim: Claim) -> None:
        """Take over a snapshot: the state and everything beside it."""
        instance, parts = self._instance, claim.parts
        self.created = self.has_state = True
        if self.needs_migration(claim):
            self._migrate(claim)
        else:
            self._load_state(parts)
        for name, value in parts.items():
            if name.startswith(schedule.PART):
                instance.schedule.load(name, value)
            elif name.startswith(keys.PART):
                instance.keys.load(name, value)
            elif name.startswith(connection.PART):
                instance.connections.load(name, value)
        instance.keys.loaded()
        instance.events.load(parts)

    def needs_migration(self, claim: Claim) -> bool:
        """Whether older code has saved the state, and this class says how to read that."""
        return needs_migration(self._instance.definition, claim.stamp, claim.parts)

    def _migrate(self, claim: Claim) -> None:
        """Load the state by way of `migrate`. What differs is saved with the next commit."""
        instance = self._instance
        version = claim.stamp.state_version
        fields = migrated(instance.definition.actor, instance, fields_in(claim.parts), version)
        parts = {FIELD + name: value for name, value in fields.items()}
        try:
            self._load_state(
                parts,
                {name: value for name, value in parts.items() if claim.parts.get(name) is value},
            )
            self.begins()
        except Exception as error:
            raise does_not_fit(version, error) from error

    def _load_state(
        self, parts: Mapping[str, bytes], saved: Mapping[str, bytes] | None = None
    ) -> None:
        """`saved` are those parts that the store has as they are; all, if it is not given."""
        knows = self._instance.definition.state.knows
        self._join({name: value for name, value in fields_in(parts).items() if knows(name)})
        self._find_unknown(parts if saved is None else saved)

    def _join(self, fields: Mapping[str, bytes]) -> None:
        self._instance.actor.state = self._instance.definition.state.join(fields)

    def _find_unknown(self, parts: Mapping[str, bytes]) -> None:
        """Remember what newer code has saved inside the fields that this class knows."""
        try:
            own = self.split()
        except InvalidStateType:
            return  # It is told at the end of the first action.
        for name, known in own.items():
            saved = parts.get(name)
            if saved is None or saved == known:
                continue
            unknown = unknown_in(values.decode(saved), values.decode(known))
            if unknown is not None:
                self._unknown = {**(self._unknown or {}), name: unknown}
                self._instance.checkpoint.saved[name] = known

    def outgoing(self, changed: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """These parts as they are written: with what this code does not know of them."""
        if self._unknown is None or not self._unknown.keys() & changed.keys():
            return changed
        written = dict(changed)
        for name in self._unknown.keys() & changed.keys():
            whole = handed_on(self._unknown[name], values.decode(changed[name]))
            written[name] = values.encode(whole)
            found = unknown_in(whole, values.decode(changed[name]))
            if found is None:
                del self._unknown[name]
            else:
                self._unknown[name] = found
        return written

    def begins(self) -> None:
        """The hooks of creation have run: what they left is the state to go back to.

        Raises InvalidStateType.
        """
        parts = self.split()
        self.verify(parts)
        self.created = True
        self._good = {**parts, CREATED: values.NULL}

    def split(self) -> dict[str, bytes]:
        """The state's parts as they are now. Raises InvalidStateType."""
        fields = self._instance.definition.state.split(
            self._instance.actor.state, known=self._known
        )
        parts = {FIELD + name: value for name, value in fields.items()}
        if self.created:
            parts[CREATED] = values.NULL
        return parts

    def compared(self) -> None:
        """The state was just taken apart whole."""
        self._good = None
        large = {
            name.removeprefix(FIELD): value
            for name, value in self._instance.checkpoint.saved.items()
            if len(value) > CHECKED
        }
        if large or self._large:
            self._large = frozenset(large)
            state = self._instance.definition.state
            self._known = state.unchanging(self._instance.actor.state, large)

    def check(self, *, alone: bool, began_with: dict[str, bytes] | None = None) -> None:
        """At the end of an action: raise InvalidStateType if it left what cannot be saved.

        `alone` tells that no other action is in the midst of something. Where one
        is, `began_with` has to say what a plain method found; without it the
        checkpoint finds the fault, and nobody knows whose it was.
        """
        if not alone and began_with is None:
            return
        state = self._instance.definition.state
        before = self._known_good() if began_with is None else began_with
        try:
            fields = state.split(self._instance.actor.state, self._large)
            changed = {
                name: data for name, data in fields.items() if before.get(FIELD + name) != data
            }
            if changed:
                state.verify(self._instance.actor.state, changed)
        except InvalidStateType:
            self.restore(before)
            raise
        if changed and alone:
            self._good = {**before, **{FIELD + name: data for name, data in changed.items()}}

    def _known_good(self) -> dict[str, bytes]:
        return self._instance.checkpoint.saved if self._good is None else self._good

    def verify(self, changed: Mapping[str, bytes]) -> None:
        """Raise InvalidStateType if something would not be read back as it is."""
        fields = fields_in(changed)
        if fields:
            self._instance.definition.state.verify(self._instance.actor.state, fields)

    def restore(self, before: dict[str, bytes] | None = None) -> None:
        """Put the fields that cannot be saved back to what they were; leave the others."""
        state, actor = self._instance.definition.state, self._instance.actor
        parts = self._known_good() if before is None else {**self._large_now(), **before}
        actor.state = state.mend(actor.state, state.faults(actor.state), fields_in(parts))

    def _large_now(self) -> dict[str, bytes]:
        """The large fields as they are, or as they were last if they cannot be encoded."""
        known = self._known_good()
        found = {FIELD + name: known[FIELD + name] for name in self._large if FIELD + name in known}
        state = self._instance.definition.state
        now = state.some(self._instance.actor.state, self._large)
        return found | {FIELD + name: data for name, data in now.items()}

    def readonly_begins(self, clean: bool) -> ReadonlyBegin:
        """Nothing of the runtime may have run, and still a task of the actor's own has."""
        instance = self._instance
        begun, alone = instance.actions.begun, instance.turnstile.open <= 1
        parts = self.snapshot()
        known = clean and parts == instance.checkpoint.saved
        return ReadonlyBegin(parts, begun, alone, known)

    def snapshot(self) -> dict[str, bytes] | None:
        """The state's parts as they are now, or None where somebody has spoilt one."""
        try:
            return self.split()
        except InvalidStateType:
            return None

    def small_snapshot(self) -> dict[str, bytes] | None:
        """The parts that `check` will look at, as they are now, for a plain method.

        None where somebody has spoilt one. Large fields are left out: what a call finds
        must not cost about the size of the whole state.
        """
        instance = self._instance
        try:
            fields = instance.definition.state.split(instance.actor.state, self._large)
        except InvalidStateType:
            return None
        return {FIELD + name: value for name, value in fields.items()}

    def readonly_ends(self, begin: ReadonlyBegin, *, plain: bool, alone: bool) -> None:
        """Raise ReadonlyViolated if a readonly action has changed the state.

        What a plain method changed is undone. At an `await` others may have run,
        tasks of the actor's own among them, and their changes must not go: then
        nothing is undone, and where other actions ran nothing is said either.
        """
        alone = alone and begin.alone and begin.begun == self._instance.actions.begun
        if begin.parts is None or (not plain and not alone):
            return
        try:
            if self.split() == begin.parts:
                return
        except InvalidStateType:
            pass  # It has changed, and into something worse.
        if not plain:
            raise ReadonlyViolated("a readonly action changed the state")
        self._join(fields_in(begin.parts))
        raise ReadonlyViolated("a readonly action changed the state; the change is undone")

    def begin_again(self, parts: Mapping[str, bytes]) -> None:
        """Creation was cut off after a save: what it had scheduled then is not kept.

        When it expires stays, since nobody has used it yet.
        """
        for name in parts:
            if not name.startswith(FIELD) and name != DISUSE:
                self._instance.ledger.delete(name)

    def warn_of_size(self, changed: Mapping[str, bytes]) -> None:
        """Name a field that is too large to be compared and written at each change."""
        limit = self._instance.host.settings.large_field
        for name, value in changed.items():
            if len(value) > limit and (self._warned is None or name not in self._warned):
                self._warned = {*(self._warned or ()), name}
                log.warning(
                    "%r: state.%s has %d bytes and is encoded whole at each change; "
                    "fields above %d bytes slow every actor of the host down",
                    self._instance,
                    name.removeprefix(FIELD) or "(whole)",
                    len(value),
                    limit,
                    extra=REPEATED,
                )
