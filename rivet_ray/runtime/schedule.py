"""The schedule of an instance; see `rivet_ray.definition.Schedule`."""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from rivet_ray.clock import Timer
from rivet_ray.definition import Action, ActionDefinition, ActorDefinition, Scheduled
from rivet_ray.definition.user_code import call, described
from rivet_ray.errors import ActionNotFound, InvalidArgument
from rivet_ray.protocol import values
from rivet_ray.runtime.alarms import RESOLUTION
from rivet_ray.runtime.lifecycle import State
from rivet_ray.runtime.turn import Turn, current_turn

if TYPE_CHECKING:
    from rivet_ray.runtime.instance import Instance

log = logging.getLogger("rivet_ray.runtime")

PART = "schedule/"
MAX_ATTEMPTS = 10
FIRST_RETRY = 1.0
LONGEST_RETRY = 300.0
LONGEST_WAIT = 3600.0
LOOK_AGAIN = 300.0
"""Seconds after which an entry that this code cannot run is looked at again."""
INTERRUPTED = "Interrupted: the process ended, or lost its store, while the action ran"
LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


class Entry(msgspec.Struct, omit_defaults=True):
    """One entry, as it is saved."""

    action: str
    arguments: bytes
    due: float
    """Seconds since the Unix epoch."""
    attempt: int = 0
    error: str | None = None
    failed: bool = False
    again: float | None = None
    """While an attempt is under way: when the next one is due if nobody hears of its end."""
    unfit: bool = False
    """The code that looked last has no such action, or its parameters are others. It counts as
    failed until other code comes; `again` is when to look."""

    @property
    def wakes(self) -> float:
        """When it is to be looked at next."""
        return self.due if self.again is None else self.again

    @property
    def over(self) -> bool:
        """Nothing becomes of it any more."""
        return self.failed and not self.unfit

    def set_aside(self, why: str, now: float) -> None:
        """This code cannot run it: keep it for code that can."""
        self.failed = self.unfit = True
        self.error, self.again = why, now + LOOK_AGAIN

    def take_up(self) -> None:
        """This code can run it again."""
        self.failed = self.unfit = False
        self.again = None

    def begin(self, now: float) -> None:
        """Another attempt, which is on record before the action runs."""
        self.attempt += 1
        self.again = self._following(now)

    def cut_off(self) -> None:
        """Its attempt was ended in good order, and is repeated at the next start."""
        self.again = None

    def fail(self, error: str, now: float) -> None:
        """Its attempt has failed; there may be another one."""
        self.error = error
        self.failed = self.attempt >= MAX_ATTEMPTS
        if not self.failed:
            self.due = self._following(now)
        self.again = None

    def interrupted(self) -> bool:
        """Whether the attempt on record never ended; it has failed then."""
        if self.again is None or self.unfit:
            return False
        self.due, self.again = self.again, None
        self.error = INTERRUPTED
        self.failed = self.attempt >= MAX_ATTEMPTS
        return True

    def _following(self, now: float) -> float:
        wait: float = min(FIRST_RETRY * 2.0 ** (self.attempt - 1), LONGEST_RETRY)
        return now + wait


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def entry_of(saved: bytes) -> Entry:
    """An entry of a snapshot. Raises msgspec.DecodeError."""
    return _decoder.decode(saved)


def misfit_of(of: ActorDefinition, owner: object, entry: Entry) -> str | None:
    """Why the code of a class cannot run an entry that other code has made, or None."""
    definition = of.actions.get(entry.action)
    if definition is None:
        return f"this code has no action {entry.action!r}"
    try:
        call(owner, definition.arguments.decode, entry.arguments)
    except InvalidArgument as error:
        return f"its arguments do not fit this code: {error}"
    except Exception:
        return None  # An attempt fails with it, and may not the next time.
    return None


class ActorSchedule:
    """The entries of one actor, and the running of those that are due."""

    __slots__ = ("_entries", "_instance", "_running", "_timer", "_watching")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._entries: dict[str, Entry] = {}
        self._running: dict[str, None] = {}
        self._timer: Timer | None = None
        self._watching = False

    def load(self, part: str, value: bytes) -> None:
        """Take over an entry from the snapshot."""
        identity = part.removeprefix(PART)
        entry = self._entries[identity] = entry_of(value)
        if entry.unfit and self._misfit(entry) is None:
            entry.take_up()
            self._instance.ledger.put(part, _encoder.encode(entry))
        if entry.interrupted() and entry.failed:
            log.error(
                "%r: scheduled %s was interrupted in attempt %d, its last; it does not run again",
                self._instance,
                entry.action,
                entry.attempt,
            )
            self._instance.ledger.put(part, _encoder.encode(entry))
            self._forget_failed()

    # --- For the actor ------------------------------------------------------

    def after(self, delay: timedelta | float, action: Any, /, *args: Any, **kwargs: Any) -> str:
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay / 1000
        if not seconds >= 0:
            raise ValueError(f"A delay cannot be negative, and {delay!r} is.")
        return self._add(self._instance.clock.now() + seconds, action, args, kwargs)

    def at(self, when: datetime, action: Any, /, *args: Any, **kwargs: Any) -> str:
        if when.utcoffset() is None:
            raise ValueError(
                "schedule.at needs a datetime with a time zone, "
                "such as datetime.now(UTC) + timedelta(hours=1)."
            )
        return self._add(when.timestamp(), action, args, kwargs)

    def _add(self, due: float, action: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        self._instance.host.home.require("self.schedule")
        definition = self._definition(action)
        if due > LATEST:
            raise ValueError("A schedule ends with the year 9999, and this is later.")
        try:
            given = definition.arguments.positional(args, kwargs)
        except TypeError as error:
            raise InvalidArgument("arguments", str(error)) from error
        arguments = definition.arguments.kept(given)
        identity = str(uuid.uuid4())
        self._entries[identity] = Entry(definition.name, arguments, due)
        self._save(identity)
        return identity

    def _definition(self, action: Any) -> ActionDefinition:
        name = action.name if isinstance(action, Action) else action
        definition = self._instance.definition.actions.get(name)
        if definition is None:
            raise ActionNotFound(f"{self._instance.record.name} has no action {name!r}.")
        return definition

    def cancel(self, schedule_id: str) -> bool:
        self._instance.host.home.require("self.schedule")
        if self._entries.pop(schedule_id, None) is None:
            return False
        self._instance.ledger.delete(PART + schedule_id)
        self._instance.touch()
        return True

    def list(self) -> list[Scheduled]:
        self._instance.host.home.require("self.schedule")
        entries = sorted(
            self._entries.items(), key=lambda item: (item[1].failed, item[1].due, item[0])
        )
        return [self._shown(identity, entry) for identity, entry in entries]

    @property
    def current(self) -> Scheduled | None:
        turn = current_turn.get()
        if turn is None or turn.instance is not self._instance or turn.schedule_id is None:
            return None
        entry = self._entries.get(turn.schedule_id)
        return None if entry is None else self._shown(turn.schedule_id, entry)

    @staticmethod
    def _shown(identity: str, entry: Entry) -> Scheduled:
        return Scheduled(
            id=identity,
            action=entry.action,
            args=tuple(values.decode(entry.arguments)),
            due=datetime.fromtimestamp(entry.due, UTC),
            attempt=entry.attempt,
            error=entry.error,
            failed=entry.failed,
        )

    def _save(self, identity: str) -> None:
        self._instance.ledger.put(PART + identity, _encoder.encode(self._entries[identity]))
        if self._running:
            self._watch_soon()
        self._instance.touch()

    # --- For the runtime ------------------------------------------------------

    def next_alarm(self) -> float | None:
        """When the next entry is due, those that run now included."""
        return min(
            (entry.wakes for entry in self._entries.values() if not entry.over), default=None
        )

    def run_due(self) -> None:
        """Start everything that is due, in the order of time."""
        now = self._instance.clock.now() + RESOLUTION
        due = sorted(
            (entry.due, identity)
            for identity, entry in self._entries.items()
            if entry.wakes <= now and not entry.over and identity not in self._running
        )
        for _, identity in due:
            if not self._fits(identity, now):
                continue
            self._running[identity] = None
            if self._instance.disuse is not None:
                self._instance.disuse.used()
            self._instance.own(self._run(identity))
        self._watch_soon()

    def _misfit(self, entry: Entry) -> str | None:
        """Why this code cannot run an entry that other code has made, or None."""
        return misfit_of(self._instance.definition, self._instance, entry)

    def _fits(self, identity: str, now: float) -> bool:
        """Whether an entry that is due can run here. One that cannot is kept, and visible."""
        entry = self._entries[identity]
        why = self._misfit(entry)
        if why is None:
            if entry.unfit:
                entry.take_up()
            return True
        if not entry.unfit:
            log.error(
                "%r: scheduled %s cannot run: %s; it is kept, and runs once the code fits",
                self._instance,
                entry.action,
                why,
            )
        entry.set_aside(values.sendable(why), now)
        self._save(identity)
        return False

    def _watch_soon(self) -> None:
        """Once for all changes of a tick, since there may be thousands of entries."""
        if not self._watching:
            asyncio.get_running_loop().call_soon(self._watch)
            self._watching = True

    def _watch(self) -> None:
        """While an entry runs, its time is the actor's alarm: look after the others here."""
        self._watching = False
        if self._instance.state is State.STOPPED:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._running:
            return
        waiting = [
            entry.wakes
            for identity, entry in self._entries.items()
            if identity not in self._running and not entry.over
        ]
        if waiting:
            clock = self._instance.clock
            wait = min(max(min(waiting) - clock.now(), 0.0), LONGEST_WAIT)
            self._timer = clock.call_later(wait, self._instance.run_due)

    def stop(self) -> None:
        """Start nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    async def _run(self, identity: str) -> None:
        instance, entry = self._instance, self._entries.get(identity)
        try:
            if entry is None:
                return
            entry.begin(instance.clock.now())
            self._save(identity)
            # C6: a run after a crash knows that it is not the first one, and so does the
            # runtime: what ends its process each time does not run for ever.
            await instance.durable()
            if identity not in self._entries:
                return
            turn = Turn(instance)
            turn.schedule_id = identity
            definition = instance.definition.actions[entry.action]
            error = await instance.actions.run_scheduled(turn, definition, entry.arguments)
            self._ended(identity, entry, error)
        except asyncio.CancelledError:
            if entry and instance.state is State.STOPPING and identity in self._entries:
                entry.cut_off()
                self._save(identity)
            raise
        finally:
            self._running.pop(identity, None)
            self._watch_soon()
            instance.touch()

    def _ended(self, identity: str, entry: Entry, error: BaseException | None) -> None:
        """In the same stretch of code as the end of the action: one commit for both."""
        if identity not in self._entries:
            return
        if error is None:
            del self._entries[identity]
            self._instance.ledger.delete(PART + identity)
            return
        text = values.sendable(described(error))
        entry.fail(text, self._instance.clock.now())
        self._save(identity)
        if entry.failed:
            self._forget_failed()

    def _forget_failed(self) -> None:
        """Keep the newest of those that have failed for good, as many as the host's settings say.

        Each is saved and loaded with its actor, and nobody has to cancel it.
        """
        host = self._instance.host
        failed = sorted(
            (entry.due, identity) for identity, entry in self._entries.items() if entry.over
        )
        for _, identity in failed[: len(failed) - host.settings.failed_entries]:
            entry = self._entries.pop(identity)
            self._instance.ledger.delete(PART + identity)
            host.forgotten_entries += 1
            log.warning(
                "%r: scheduled %s, which failed in all its attempts, is forgotten, since newer"
                " ones have failed (%d on this host): %s",
                self._instance,
                entry.action,
                host.forgotten_entries,
                entry.error,
            )
