"""Faults to be found: each takes one mechanism away from the runtime of this process.

A checker that does not see them proves nothing (reliability.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rivet_ray.errors import Outcome
from rivet_ray.runtime import actions
from rivet_ray.runtime.gate import Gate
from rivet_ray.runtime.instance import Instance
from rivet_ray.runtime.keys import Keys
from rivet_ray.runtime.leaving import Leaving
from rivet_ray.runtime.schedule import ActorSchedule
from rivet_ray_drivers.redis import scripts

Put = Callable[[Any, str, Any], None]


def early_gate(put: Put) -> None:
    """What is held leaves at once."""

    def hold(gate: Gate, release: Callable[[Any], None], size: int = 0) -> None:
        release(None)

    put(Gate, "hold", hold)


def keys_forgotten(put: Put) -> None:
    """An actor that comes back knows no idempotency key."""
    put(Keys, "load", lambda keys, part, value: None)


def begun_forgotten(put: Put) -> None:
    """A commit in the middle of a keyed call does not say that the call has begun."""
    put(Keys, "before_commit", lambda keys: None)


def outcome_wrong(put: Put) -> None:
    """Every failed action says that it did not start."""
    original = actions.failure_of

    def failure_of(error: BaseException, outcome: Outcome | None, where: str) -> Any:
        return original(error, Outcome.NOT_STARTED, where)

    put(actions, "failure_of", failure_of)


def schedule_forgotten(put: Put) -> None:
    """An actor that comes back has an empty schedule."""
    put(ActorSchedule, "load", lambda schedule, part, value: None)


def schedule_kept(put: Put) -> None:
    """That an entry has run is not saved."""

    original = ActorSchedule._ended

    def ended(schedule: ActorSchedule, identity: str, entry: Any, error: Any) -> None:
        if error is None:
            schedule._entries.pop(identity, None)
        else:
            original(schedule, identity, entry, error)

    put(ActorSchedule, "_ended", ended)


def schedule_early(put: Put) -> None:
    """What is due within the next two seconds runs now."""

    def committed(instance: Instance, commit: Any) -> None:
        if commit.destroy:
            instance._destroyed()
            return
        instance._host.alarms.committed(instance.record.id, commit.alarm)
        for entry in instance.schedule._entries.values():
            if entry.due <= instance.clock.now() + 2:
                entry.due = instance.clock.now()
        instance.run_due()

    put(Instance, "committed", committed)


def destroy_forgotten(put: Put) -> None:
    """A destroyed actor only leaves memory."""

    def destroy(leaving: Leaving) -> None:
        instance = leaving._instance
        instance.touch()
        instance.host.sleep(instance)

    put(Leaving, "destroy", destroy)


def fence_off(put: Put) -> None:
    """Redis takes every write to an actor that lives, whoever it is from."""
    source = scripts.commit.source
    for check, gone in (
        (b"epoch ~= one.epoch or token ~= one.token", b"false"),
        (b"tonumber(one.sequence) - tonumber(sequence or 0)", b"1"),
    ):
        assert source.count(check) == 1
        source = source.replace(check, gone)
    put(scripts, "commit", scripts.Script(source))


FAULTS: dict[str, Callable[[Put], None]] = {
    fault.__name__: fault
    for fault in (
        early_gate,
        keys_forgotten,
        begun_forgotten,
        outcome_wrong,
        schedule_forgotten,
        schedule_kept,
        schedule_early,
        destroy_forgotten,
        fence_off,
    )
}


def plant(name: str, put: Put = setattr) -> None:
    """Put the fault of that name in place; pass monkeypatch.setattr to have it undone."""
    if name in FAULTS:
        FAULTS[name](put)
