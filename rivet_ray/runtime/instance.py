"""An instance: one actor, alive in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from rivet_ray.clock import Clock, Timer
from rivet_ray.definition import ActorDefinition, bind
from rivet_ray.definition.user_code import call, finish, settle
from rivet_ray.definition.user_tasks import cancel_tasks_of, own_task
from rivet_ray.errors import ActorStopped, InvalidStateType, Outcome, RivetError
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime.actions import Actions
from rivet_ray.runtime.checkpoint import Checkpoint
from rivet_ray.runtime.connections import Connections
from rivet_ray.runtime.context import Context
from rivet_ray.runtime.deadline import ended
from rivet_ray.runtime.disuse import Disuse, disuse_of, in_time
from rivet_ray.runtime.events import Events
from rivet_ray.runtime.exchanges import Exchanges
from rivet_ray.runtime.gate import COUNTED, OVERHEAD, Release
from rivet_ray.runtime.idleness import Idleness
from rivet_ray.runtime.keys import Keys
from rivet_ray.runtime.leaving import Leaving
from rivet_ray.runtime.ledger import Ledger
from rivet_ray.runtime.lifecycle import Move, State, after
from rivet_ray.runtime.memory import CREATED, Memory, ReadonlyBegin
from rivet_ray.runtime.schedule import ActorSchedule
from rivet_ray.runtime.turn import Turn, running
from rivet_ray.runtime.turnstile import Turnstile
from rivet_ray.runtime.unloadable import cannot_load
from rivet_ray.store import Claim, Commit, Stamp

if TYPE_CHECKING:
    from rivet_ray.runtime.host import Host

log = logger_of_strangers("rivet_ray.runtime")

NORMAL = 1000
INTERNAL = 1011


class Instance:
    """The runtime's half of a living actor; `actor` is the user's half."""

    __slots__ = (
        "_gone",
        "_host",
        "_save_timer",
        "_starting",
        "_tasks",
        "_touched",
        "actions",
        "actor",
        "blocking",
        "checkpoint",
        "connections",
        "context",
        "definition",
        "disuse",
        "events",
        "exchanges",
        "idleness",
        "keys",
        "leaving",
        "ledger",
        "memory",
        "record",
        "schedule",
        "state",
        "turnstile",
    )

    def __init__(self, host: Host, definition: ActorDefinition, claim: Claim) -> None:
        self._host = host
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._touched = False
        self._gone: asyncio.Future[None] | None = None
        self._save_timer: Timer | None = None
        self._starting: Turn | None = None
        self.definition = definition
        self.record = claim.record
        self.state = State.STARTING
        self.blocking: Turn | None = None
        """The hook of its start or stop that runs now: what comes waits for it."""
        self.ledger = Ledger()
        self.keys = Keys(self.ledger, host.settings.keys, host.budget)
        self.turnstile = Turnstile()
        self.context = Context(self)
        self.actor: Any = object.__new__(definition.actor)
        bind(self.actor, self.context)
        self.memory = Memory(self)
        self.schedule = ActorSchedule(self)
        self.connections = Connections(self)
        self.events = Events(self)
        self.idleness = Idleness(self)
        self.leaving = Leaving(self)
        self.actions = Actions(self)
        self.exchanges = Exchanges(self)
        self.disuse: Disuse | None = None
        """None for types that are never destroyed for disuse, and until it is loaded."""
        stamp = Stamp(definition.state_version, definition.fingerprint)
        self.checkpoint = Checkpoint(claim, self.memory.saved_in(claim), self, stamp)

    def __repr__(self) -> str:
        return str(self.record)

    @property
    def clock(self) -> Clock:
        return self._host.clock

    @property
    def host(self) -> Host:
        return self._host

    @property
    def action_timeout(self) -> float:
        """Seconds, for actions that do not set their own."""
        return self._host.settings.action_timeout

    @property
    def hook_timeout(self) -> float:
        """Seconds, for each hook of a connection."""
        return self._host.settings.hook_timeout

    # --- Writing ----------------------------------------------------------

    def touch(self) -> None:
        """Have the state looked at: something ran that may have changed it."""
        self._touched = True
        if self.memory.has_state and self.state is not State.STOPPED:
            self.idleness.used()
            self._host.checkpointer.touch(self)

    @property
    def holding(self) -> bool:
        """What is held waits for the destroy that is about to come, or it has left memory."""
        return self.leaving.destroy_ahead or self.state is State.STOPPED

    @property
    def destroying(self) -> bool:
        """The next write ends the actor."""
        return self.leaving.destroying

    def hold(self, release: Release, *, strict: bool = False, size: int = OVERHEAD) -> None:
        """Give something of so many bytes away as soon as what it reveals is durable.

        While the actor starts, everything waits for its first look. A relaxed
        actor waits for nothing but what is `strict`, a ledger entry, or its turn.
        """
        gate = self.checkpoint.gate
        if (
            self.definition.relaxed
            and not (strict or self.ledger or self.destroying or self.events.unsaved)
            and not self.checkpoint.carries_ledger
            and gate.empty
            and self.state is State.RUNNING
        ):
            release(None)
            self._touch_later()
            return
        gate.hold(release, size)
        if gate.uncounted > COUNTED:
            gate.count(self._host.budget_of(self.record.id))
        self.touch()

    def _touch_later(self) -> None:
        self._touched = True
        self.idleness.used()
        if self._save_timer is None:
            interval = self.definition.save_interval
            self._save_timer = self._host.clock.call_later(interval, self._save_now)

    def _save_now(self) -> None:
        self._save_timer = None
        self.touch()

    async def durable(self) -> None:
        """Wait until what the actor is now is durable. Raises what broke the gate."""
        self._host.home.require("A call of another actor")
        if self.leaving.in_last_hook or not self.memory.has_state:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def release(error: RivetError | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self.hold(release, strict=True)
        await done

    @property
    def clean(self) -> bool:
        """Whether memory certainly is what the store has."""
        return not (
            self._touched or self._tasks or self.checkpoint.in_flight or self.turnstile.open
        )

    @property
    def at_risk(self) -> bool:
        """Whether something waits for the store, or may have changed since it was asked."""
        return self._touched or self.checkpoint.in_flight or not self.checkpoint.gate.empty

    @property
    def busy(self) -> bool:
        """Whether something runs, waits, or is connected."""
        return bool(
            self._tasks
            or self.connections.attached
            or not self.checkpoint.gate.empty
            or self.checkpoint.in_flight
            or self._save_timer is not None
        )

    def readonly_begins(self) -> ReadonlyBegin:
        return self.memory.readonly_begins(self.clean)

    def readonly_ends(self, begin: ReadonlyBegin, *, plain: bool) -> None:
        self.memory.readonly_ends(begin, plain=plain, alone=self.turnstile.open <= 1)

    def check_state(self, turn: Turn, own: int, began_with: dict[str, bytes] | None = None) -> None:
        """At the end of an action: it fails if it left what cannot be saved.

        `own` is the number of open turns that are the action's own.
        """
        alone = self.turnstile.open <= own
        try:
            self.memory.check(alone=alone, began_with=began_with)
            if alone or own == 0:  # What a plain method found was checked before it.
                self.connections.saved.check()
        except InvalidStateType:
            turn.undone = True
            raise

    def check_connections(self) -> None:
        """Before a plain method, where others run: what it finds is not its own fault."""
        if self.connections.saved.may_have_changed:
            try:
                self.connections.saved.check()
            except InvalidStateType as error:
                self.undo(error)

    # --- Source: what the checkpoint asks for -------------------------------

    def split(self) -> dict[str, bytes]:
        return call(self, self.memory.split)

    def state_changed(self, parts: dict[str, bytes]) -> dict[str, bytes]:
        hooked = "on_state_change" in self.definition.hooks
        if not hooked or CREATED not in self.checkpoint.saved:
            return parts
        with running(Turn(self)):
            try:
                result = call(self, self.actor.on_state_change, self.actor.state)
                if asyncio.iscoroutine(result):
                    self.own(self._finish_state_change(result))
            except Exception:
                log.exception("%r: on_state_change failed", self, extra=REPEATED)
        try:
            return self.split()
        except InvalidStateType as error:
            log.error(
                "%r: on_state_change: %s; the field is as it was before",
                self,
                error,
                extra=REPEATED,
            )
            call(self, self.memory.restore)
            return self.split()

    async def _finish_state_change(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await finish(self, self.actor.on_state_change, work)
        except Exception:
            log.exception("%r: on_state_change failed", self, extra=REPEATED)

    def before_comparison(self) -> None:
        call(self, self.connections.record_changes)
        self.events.record()

    @property
    def unsaved(self) -> bool:
        return self.events.unsaved

    def before_commit(self, *, alone: bool) -> None:
        self.keys.before_commit()
        self.events.before_commit(alone=alone)

    def inspect(self, changed: Mapping[str, bytes]) -> Mapping[str, bytes]:
        call(self, self.memory.verify, changed)
        self.memory.warn_of_size(changed)
        return self.memory.outgoing(changed)

    def next_alarm(self) -> float | None:
        due = self.schedule.next_alarm()
        expiry = self.connections.next_expiry()
        if due is None or (expiry is not None and expiry < due):
            due = expiry
        if self.disuse is not None and (due is None or self.disuse.expiry < due):
            due = self.disuse.expiry
        return due

    # --- Saved: what the checkpointer asks for ------------------------------

    def undo(self, error: InvalidStateType) -> None:
        log.error("%r: %s; the field is as it was before", self, error, extra=REPEATED)
        call(self, self.memory.restore)
        self.turnstile.mark_undone()
        self.events.record()
        self.checkpoint.gate.refuse_held(error)

    def compared(self) -> None:
        self._touched = False
        call(self, self.memory.compared)

    def committed(self, commit: Commit) -> None:
        if commit.destroy:
            self._destroyed()
            return
        self._host.alarms.committed(self.record.id, commit.alarm)
        if commit.alarm is not None and commit.alarm <= self.clock.now():
            self.run_due()

    def give_up(self, error: RivetError) -> None:
        """Break the gate with `error` and leave memory at once."""
        self.leave(Move.BREAK)
        if not error.public:
            log.error("%r stops: %s", self, error, extra=REPEATED)
        self.checkpoint.gate.break_with(error)
        reason = error.code if error.public else "internal_error"
        # Behind the cancelled tasks, so that their callers hear of the outcome first.
        asyncio.get_running_loop().call_soon(self.connections.close_all, INTERNAL, reason)

    def _destroyed(self) -> None:
        self.leave(Move.BREAK)
        self.connections.close_all(NORMAL, "destroyed")
        gone = ActorStopped("The actor was destroyed.", outcome=Outcome.UNKNOWN)
        self.checkpoint.gate.break_with(gone)

    def abandon(self) -> None:
        """Leave memory without saving and without a word."""
        self.leave(Move.BREAK)

    def leave(self, move: Move) -> None:
        """Be gone from memory: everything of the instance that runs is stopped."""
        self.state = after(self.state, move)
        self.idleness.stop()
        self.schedule.stop()
        if self.disuse is not None:
            self.disuse.stop()
        self.context.close_clients()
        if self._save_timer is not None:
            self._save_timer.cancel()
        self.cancel_tasks()
        self._host.forget(self)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def cancel_tasks(self) -> None:
        """Cancel what runs for the actor, but for the task that asks for it."""
        current = asyncio.current_task()
        for task in tuple(self._tasks):
            if task is not current:
                task.cancel()

    async def wait_tasks(self, seconds: float) -> None:
        """Wait until nothing runs for the actor, at most so long."""
        await ended(self.clock, tuple(self._tasks), seconds)

    async def wait_gone(self) -> None:
        """Wait until the instance has left memory."""
        if self.state is not State.STOPPED:
            self._gone = self._gone or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._gone)

    # --- Life -------------------------------------------------------------

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that ends with the instance at the latest."""
        task = own_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    @contextmanager
    def block(self, turn: Turn) -> Generator[None]:
        """Run a hook that everything waits for which comes meanwhile."""
        self.blocking = turn
        try:
            with running(turn):
                yield
        finally:
            self.blocking = None
            self._host.waits.ended(turn)

    async def start(self, claim: Claim) -> None:
        """Load or create the state and run the hooks that come before any call.

        Raises what the hooks raise; nothing of the actor is saved then.
        """
        hooks, created = self.definition.hooks, CREATED in claim.parts
        turn = self._starting = Turn(self)
        with self.block(turn):
            if created:
                call(self, self._load, claim)
            else:
                self.memory.begin_again(claim.parts)
            self.disuse = disuse_of(self, claim.parts)
            if not created:
                await in_time(self, self._create)
            if "on_start" in hooks and self.memory.has_state:
                await in_time(self, partial(settle, self, self.actor.on_start))
        self._starting = None
        self.state = after(self.state, Move.STARTED)
        if self.leaving.destroy_if_asked():
            return
        changed = not created or self.memory.needs_migration(claim)
        if changed or hooks & {"on_start"} or self.ledger:
            self.touch()
        else:
            self.checkpoint.gate.open_held()
        self.idleness.watch()

    async def _create(self) -> None:
        """Make the first state. Raises what the hooks raise."""
        self.context.input = self.definition.decode("Input", self.record.input)
        hook = self.actor.create_state
        self.actor.state = await settle(self, hook, self.context.input)
        self.memory.has_state = True
        if "on_create" in self.definition.hooks:
            await settle(self, self.actor.on_create, self.context.input)
        call(self, self.memory.begins)

    def _load(self, claim: Claim) -> None:
        """Take over what is saved. Raises CannotLoad."""
        place = "input"
        try:
            if self.record.input is not None:
                self.context.input = self.definition.decode("Input", self.record.input)
            place = "state"
            self.memory.load(claim)
        except Exception as error:
            fault = cannot_load(self, place, error)
            self._host.unloadable.tell(self.record.id, fault)
            raise fault from error

    def undo_start(self) -> None:
        """The start has failed: nothing of it stays, tasks of the actor's code included."""
        turn, self._starting = self._starting, None
        self.leave(Move.BREAK)
        self.checkpoint.gate.break_with(ActorStopped("The actor could not start."))
        if turn is not None:
            cancel_tasks_of(turn)

    def run_due(self) -> None:
        """Run what the schedule has for now, and end connections that stayed away."""
        if self.state is State.RUNNING:
            self.schedule.run_due()
            self.connections.expire()
            if self.disuse is not None:
                self.disuse.run_due()
            upcoming = self.next_alarm()
            if upcoming is not None and upcoming > self.clock.now():
                self._host.alarms.committed(self.record.id, upcoming)
