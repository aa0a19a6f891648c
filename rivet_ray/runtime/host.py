"""A host: the place where actors live, in any topology."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from rivet_ray import ids
from rivet_ray.budget import Budget
from rivet_ray.clock import Clock, Timer
from rivet_ray.definition import ActorDefinition
from rivet_ray.definition.user_code import contained
from rivet_ray.definition.user_tasks import guard_tasks, own_task
from rivet_ray.errors import (
    ActionTimedOut,
    CallCycle,
    Outcome,
    Overloaded,
    ServerStopping,
)
from rivet_ray.protocol.port import ToGateway
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime.alarms import Alarms, NotHere, TooNewHere
from rivet_ray.runtime.checkpointer import Checkpointer, lose, unconfirmed
from rivet_ray.runtime.deadline import CANCELLED, Deadlines, ended, within
from rivet_ray.runtime.exchange import Handle
from rivet_ray.runtime.failures import named
from rivet_ray.runtime.instance import Instance
from rivet_ray.runtime.lifecycle import State
from rivet_ray.runtime.own_alarm import OwnAlarm
from rivet_ray.runtime.patience import Patience
from rivet_ray.runtime.session import Session
from rivet_ray.runtime.settings import HostSettings
from rivet_ray.runtime.store_clock import clock_of, refreshed
from rivet_ray.runtime.threads import Home
from rivet_ray.runtime.unloadable import Unloadable
from rivet_ray.runtime.waits import Waits
from rivet_ray.shutdown import tell_of_unsaved
from rivet_ray.store import ActorType, Claim, Claimant, Refusal, Store

log = logger_of_strangers("rivet_ray.runtime")


T = TypeVar("T")

Connect = Callable[[type[Any], Instance], Any]
"""Makes a client of a registry for the code of one actor."""


@dataclass(slots=True, eq=False)
class Parked:
    """Something that waits for an actor to start. Exactly one of the two is called."""

    go: Callable[[Instance], None]
    fail: Callable[[BaseException], None]
    timer: Timer | None = None
    chain: Sequence[str] = ()
    """The turns that wait for it."""


class Host:
    """Runs actors of a registry; see `rivet_ray.protocol.port.Hosting`.

    Each actor has at most one instance here. The first call that needs it
    starts it; whatever arrives meanwhile waits, in order.
    """

    def __init__(
        self,
        definitions: Mapping[str, ActorDefinition],
        store: Store,
        *,
        clock: Clock | None = None,
        settings: HostSettings | None = None,
        connect: Connect | None = None,
        handle: Handle | None = None,
        incarnation: str | None = None,
    ) -> None:
        """`connect` makes the clients that actors use to call others.

        `handle` serves raw requests and sockets; `rivet_ray.asgi` has one. `incarnation`
        names the host's lease, which its claims carry.
        """
        self.settings = settings or HostSettings()
        self.clock = clock_of(store, clock)
        self.budget = Budget("host", self.settings.max_held_size)
        """What is held for callers; `refusals` counts what was not."""
        self.checkpointer = Checkpointer(store, self.clock)
        self.deadlines = Deadlines(self.clock)
        """Of answers that wait for their save."""
        self._definitions = definitions
        self._claimant = Claimant(
            incarnation or ids.owner_token(),
            self.settings.namespace,
            {name: definition.state_version for name, definition in definitions.items()},
        )
        self._too_new: set[str] = set()
        """The actor types whose newer states the log has told of."""
        self.unloadable = Unloadable()
        self._patience = Patience(self.clock)
        self.store = store
        self.connect = connect
        self.handle = handle
        alone = self.settings.alone
        types = [ActorType(self.settings.namespace, name) for name in definitions]
        self.alarms: Alarms | OwnAlarm
        self.alarms = (
            OwnAlarm(self, self.clock, alone) if alone else Alarms(self, store, self.clock, types)
        )
        self._instances: dict[str, Instance] = {}
        self._parked: dict[str, list[Parked]] = {}
        self._budgets: WeakValueDictionary[str, Budget] = WeakValueDictionary()
        self.waits = Waits(self._parked)
        self._starting: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._sessions: set[Session] = set()
        self._closing = False
        self.forgotten_entries = 0
        """Failed entries of schedules that were dropped for newer ones."""
        tell_of_unsaved(self.unsaved)
        self.home = Home()
        guard_tasks()

    @property
    def resident(self) -> int:
        """How many actors are in memory."""
        return len(self._instances)

    def open(self, receive: Callable[[ToGateway], None]) -> Session:
        """Start a gateway's session."""
        session = Session(self, receive)
        self._sessions.add(session)
        return session

    def end_session(self, session: Session) -> None:
        self._sessions.discard(session)

    def running(self, actor: str) -> Instance | None:
        """The actor's instance, if it can take a call now."""
        instance = self._instances.get(actor)
        return instance if instance is not None and instance.state is State.RUNNING else None

    def forget(self, instance: Instance) -> None:
        """The instance has left memory."""
        instance.keys.forget()
        if self._instances.get(instance.record.id) is instance:
            del self._instances[instance.record.id]
            self.alarms.left(instance.record.id)

    def start(self) -> None:
        """Begin to wake actors for their alarms."""
        self.alarms.start()

    def wake(self, actor: str, failed: Callable[[BaseException], None]) -> None:
        """See `rivet_ray.runtime.alarms.Wakes`."""
        self.park(actor, lambda instance: instance.run_due(), failed, None)

    def sleep(self, instance: Instance) -> None:
        """Save an instance and let it leave memory."""
        # In this very tick, so that who comes now is served by the next instance.
        instance.leaving.begin_stop()
        grace = self.settings.stop_grace
        self.run(instance.leaving.stop(grace, grace))

    def budget_of(self, actor: str) -> Budget:
        """The bound of an actor's calls, to be kept for as long as something is held."""
        budget = self._budgets.get(actor)
        if budget is None:
            limit = self.settings.max_held_size_per_actor
            budget = self._budgets[actor] = Budget("actor", limit, self.budget)
        return budget

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that the host waits for when it closes."""
        task = own_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("something that ends with an actor failed", exc_info=error, extra=REPEATED)

    # --- Activation, at most one at a time for each actor -------------------

    def park(
        self,
        actor: str,
        go: Callable[[Instance], None],
        fail: Callable[[BaseException], None],
        timeout: float | None,
        size: int = 0,
        chain: Sequence[str] = (),
    ) -> None:
        """Call `go` with the running instance, or `fail` with why there is none.

        `size` is what it counts for while it waits, `chain` are the turns that wait for it.
        """
        instance = self._instances.get(actor)
        if instance is not None and instance.state is State.RUNNING:
            go(instance)
            return
        if self._closing:
            fail(ServerStopping("The server is shutting down."))
            return
        try:
            self.waits.check(None if instance is None else instance.blocking, chain)
        except CallCycle as cycle:
            fail(cycle)
            return
        waiting = self._parked.get(actor)
        if waiting is None:
            task = own_task(self._start(actor))
            waiting = self._parked[actor] = []
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        if len(waiting) >= self.settings.parked_limit:
            fail(Overloaded("Too many calls wait for this actor to start."))
            return
        budget = self.budget_of(actor)
        try:
            budget.take(size)
        except Overloaded as error:
            fail(error)
            return
        # Whichever of the two is called, it waits no longer.
        go, fail = _giving_back(budget, size, go), _giving_back(budget, size, fail)
        parked = Parked(go, fail, chain=chain)
        limit = min(timeout or self.settings.start_timeout, self.settings.start_timeout)
        parked.timer = self.clock.call_later(limit, lambda: self._expire(actor, parked, limit))
        waiting.append(parked)

    def _expire(self, actor: str, parked: Parked, limit: float) -> None:
        waiting = self._parked.get(actor)
        if waiting is not None and parked in waiting:
            waiting.remove(parked)
            parked.fail(ActionTimedOut(f"The actor did not start within {limit:g} s."))

    async def _start(self, actor: str) -> None:
        instance: Instance | None = None
        error: BaseException | None = None
        try:
            instance = await self._activate(actor)
        except asyncio.CancelledError as cancelled:
            if self._closing:
                error = ServerStopping("The server is shutting down.")
                raise
            error = contained(f"the start of {actor}", self._activate, cancelled)
        except Exception as fault:
            error = fault
        finally:
            self._unpark(actor, instance, error)

    def _unpark(self, actor: str, instance: Instance | None, error: BaseException | None) -> None:
        waiting = self._parked.pop(actor, [])
        for number, parked in enumerate(waiting):
            if instance is not None and instance.state is not State.RUNNING and not self._closing:
                # A hook, or a call before this one, has ended it.
                self._wait_for_next(actor, waiting[number:])
                return
            if parked.timer is not None:
                parked.timer.cancel()
            try:
                if instance is not None and instance.state is State.RUNNING:
                    parked.go(instance)
                else:
                    parked.fail(error or ServerStopping("The server is shutting down."))
            except Exception:
                # The others that wait have nothing to do with it.
                log.exception("what waited for actor %s could not go on", actor, extra=REPEATED)

    def _wait_for_next(self, actor: str, waiting: list[Parked]) -> None:
        """What has not begun goes on with the actor's next life."""
        later = self._parked.get(actor)
        if later is None:
            task = own_task(self._start(actor))
            self._parked[actor] = waiting
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        else:
            later[:0] = waiting

    async def _activate(self, actor: str) -> Instance:
        leaving = self._instances.get(actor)
        if leaving is not None:
            async with within(self.clock, self.settings.start_timeout, f"the end of {leaving!r}"):
                await leaving.wait_gone()
        await self._patience.again(lambda: refreshed(self.clock))
        # Another claim, another token: one that came through unnoticed owns nothing then.
        claim = await self._patience.again(
            lambda: self.store.claim(actor, ids.owner_token(), self._claimant)
        )
        if claim is Refusal.NEWER:
            raise await self._state_too_new(actor)
        if not isinstance(claim, Claim):  # Nothing to run here, and its owner keeps it.
            raise NotHere("The actor does not exist.")
        instance = Instance(self, self._definitions[claim.record.name], claim)
        self._instances[actor] = instance
        try:
            limit = self.settings.start_timeout
            async with within(self.clock, limit, f"the start of {instance!r}"):
                await instance.start(claim)
        except BaseException:
            instance.undo_start()
            raise
        return instance

    async def _state_too_new(self, actor: str) -> TooNewHere:
        record = await self.store.find_by_id(actor)
        ownership = await self.store.find_ownership(actor)
        name = record.name if record else ""
        definition = self._definitions.get(name)
        problem = (
            f"The state of this actor was saved with state_version"
            f" {ownership.stamp.state_version if ownership else 0}, and this server runs"
            f" version {definition.state_version if definition else 0} of {name!r}."
            " Deploy the newer code here, or send the call to a server that has it."
        )
        if name not in self._too_new:  # The others of its type would fill the log.
            self._too_new.add(name)
            log.warning("actor %s of type %r is left alone: %s", actor, name, problem)
        return TooNewHere(problem, outcome=Outcome.NOT_STARTED)

    # --- The end ------------------------------------------------------------

    async def close(self) -> None:
        """Refuse new calls, let turns finish, save everything. The store stays open.

        Takes `close_timeout` of the settings at the most: what is not saved by then is
        given up, and named in the log.
        """
        self._closing = True
        clock, grace, limit = self.clock, self.settings.stop_grace, self.settings.close_timeout
        until = clock.monotonic() + limit
        await self.alarms.close()
        for task in self._starting:
            task.cancel()
        await ended(clock, tuple(self._starting), CANCELLED)
        for actor in tuple(self._parked):
            self._unpark(actor, None, ServerStopping("The server is shutting down."))
        for instance in tuple(self._instances.values()):
            if instance.state is State.RUNNING:
                instance.leaving.begin_stop()
                self.run(instance.leaving.stop(min(grace, limit / 2), min(grace, limit / 4)))
            elif instance.state is State.STOPPING:  # to sleep, or to be destroyed
                self.run(instance.wait_gone())
        # Clients of actors that have left are closed behind these, by tasks of their own.
        while self._ending and (left := until - clock.monotonic()) > 0:
            await ended(clock, tuple(self._ending), left)
        await self.checkpointer.flush(until - clock.monotonic())
        self._give_up_rest(limit)
        self.checkpointer.close()
        self.deadlines.close()

    def ailing(self) -> str | None:
        """Why no write gets through, for the log; None while they do."""
        limit, waits = self.settings.slow_save, self.checkpointer.waiting
        if waits > limit:
            return f"a commit has waited for {waits:.1f} s, and {limit:g} s are the limit"
        return None

    def unsaved(self) -> list[str]:
        """The actors in memory whose changes may not be in the store. For any thread."""
        return [repr(item) for item in tuple(self._instances.values()) if item.at_risk]

    def _give_up_rest(self, limit: float) -> None:
        if lost := self.unsaved():
            log.error(
                "closed after %g s; the last changes of %d actors may not be saved: %s",
                limit,
                len(lost),
                named(lost),
            )
        for instance in tuple(self._instances.values()):
            lose(instance, unconfirmed())
        for task in self._ending:
            task.cancel()

    def abandon(self) -> None:
        """Forget every actor at once: nothing is saved any more, nobody is answered."""
        self._closing = True
        self.alarms.abandon()
        self.checkpointer.abandon()
        self.deadlines.close()
        for task in (*self._starting, *self._ending):
            task.cancel()
        for instance in tuple(self._instances.values()):
            instance.abandon()


def _giving_back(budget: Budget, size: int, call: Callable[[T], None]) -> Callable[[T], None]:
    """The same function, before which the bytes are given back."""

    def called(value: T) -> None:
        budget.give_back(size)
        call(value)

    return called
