"""The actor of the state machine, and what a plain model knows of one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from rivet_ray import Actor, Registry, UserError, action, use

KINDS = ("once", "flaky", "chain", "doomed")
ATTEMPTS = 10
CHAIN = 1.5
"""Seconds from a link of a chain to the next."""
EXACT = 0.001


class Time:
    """What the actors' clock shows; set by whoever runs them."""

    now: Callable[[], float] = staticmethod(lambda: 0.0)


@dataclass
class Firing:
    token: str
    attempt: int
    at: float


@dataclass
class ThingState:
    born: str = ""
    created: int = 0
    count: int = 0
    items: list[str] = field(default_factory=list[str])
    settings: dict[str, int] = field(default_factory=dict[str, int])
    fired: list[Firing] = field(default_factory=list[Firing])


class Thing(Actor[ThingState]):
    public = True
    anonymous_keys = True

    def create_state(self, input: Any) -> ThingState:
        return ThingState(born=uuid.uuid4().hex)

    def on_create(self, input: Any) -> None:
        self.state.created += 1

    @action
    def increment(self, amount: int) -> int:
        self.state.count += amount
        return self.state.count

    @action
    def append(self, token: str) -> int:
        self.state.items.append(token)
        return len(self.state.items)

    @action
    def append_and_fail(self, token: str) -> None:
        self.state.items.append(token)
        raise UserError("as asked", code="as_asked")

    @action
    async def two_steps(self, token: str) -> str:
        self.state.items.append(f"{token}/1")
        await self.save()
        self.state.items.append(f"{token}/2")
        return token

    @action
    def put(self, name: str, value: int) -> None:
        self.state.settings[name] = value

    @action
    def end(self) -> None:
        self.destroy()

    @action
    def plan(self, kind: str, token: str, delay: float) -> str:
        return self.schedule.after(timedelta(seconds=delay), f"fire_{kind}", token)

    @action
    def cancel(self, identity: str) -> bool:
        return self.schedule.cancel(identity)

    @action(private=True)
    def fire_once(self, token: str) -> None:
        self._fired(token)

    @action(private=True)
    async def fire_flaky(self, token: str) -> None:
        """Fails once, after its change."""
        before = any(firing.token == token for firing in self.state.fired)
        self._fired(token)
        if not before:
            raise RuntimeError("the first time")

    @action(private=True)
    def fire_doomed(self, token: str) -> None:
        self._fired(token)
        raise RuntimeError("each time")

    @action(private=True)
    def fire_chain(self, token: str) -> None:
        """Schedules another, in the write that removes itself."""
        self._fired(token)
        self.schedule.after(timedelta(seconds=CHAIN), "fire_once", f"{token}+")

    def _fired(self, token: str) -> None:
        current = self.schedule.current
        assert current is not None
        self.state.fired.append(Firing(token, current.attempt, Time.now()))

    @action(readonly=True)
    def everything(self) -> tuple[str, ThingState, list[str]]:
        """The id, the state, and the tokens of what is scheduled."""
        planned = [str(entry.args[0]) for entry in self.schedule.list()]
        return self.id, self.state, planned


class App(Registry):
    thing = use(Thing)


@dataclass
class Plan:
    kind: str
    token: str
    due: float
    identity: str = ""

    def times(self) -> list[float]:
        """When its attempts are made, if nothing is late."""
        attempts = {"once": 1, "chain": 1, "flaky": 2, "doomed": ATTEMPTS}[self.kind]
        return [self.due + 2.0**attempt - 1 for attempt in range(attempts)]


@dataclass
class Model:
    """What one actor must be, from what its callers were told."""

    identity: str = ""
    born: str = ""
    count: int = 0
    items: list[str] = field(default_factory=list[str])
    settings: dict[str, int] = field(default_factory=dict[str, int])
    plans: dict[str, Plan] = field(default_factory=dict[str, Plan])
    """By token; the cancelled ones are not here."""

    def plan(self, kind: str, token: str, due: float, identity: str = "") -> None:
        self.plans[token] = Plan(kind, token, due, identity)

    def violations(
        self, identity: str, state: ThingState, planned: list[str], now: float, exact: bool
    ) -> Iterable[str]:
        """`exact`: what is due has been done by now, and not late."""
        if self.identity and (self.identity, self.born) != (identity, state.born):
            yield "it is another actor than before"
        if state.created != 1:
            yield f"on_create ran {state.created} times"
        if (state.count, state.settings) != (self.count, self.settings):
            yield f"{state.count} {state.settings}, not {self.count} {self.settings}"
        if state.items != self.items:
            yield f"the items are {state.items}, not {self.items}"
        self._follow_chains(state.fired)
        for token in {firing.token for firing in state.fired} - self.plans.keys():
            yield f"{token} fired and was never told, or was cancelled"
        for plan in self.plans.values():
            fired = [firing for firing in state.fired if firing.token == plan.token]
            yield from self._fired(plan, fired, plan.token in planned, now, exact)
        for token in set(planned) - self.plans.keys():
            yield f"{token} is scheduled and was never told, or was cancelled"

    def _follow_chains(self, fired: list[Firing]) -> None:
        for firing in fired:
            plan = self.plans.get(firing.token)
            if plan is not None and plan.kind == "chain":
                self.plan("once", f"{firing.token}+", firing.at + CHAIN)

    def _fired(
        self, plan: Plan, fired: list[Firing], planned: bool, now: float, exact: bool
    ) -> Iterable[str]:
        times = plan.times()
        if len(fired) > len(times):
            yield f"{plan.kind} {plan.token} fired {len(fired)} times"
        for firing, due in zip(fired, times, strict=False):
            if firing.at < due - EXACT:
                yield f"{plan.kind} {plan.token} fired {due - firing.at:g} s early"
            if exact and firing.at > due + EXACT:
                yield f"{plan.kind} {plan.token} fired {firing.at - due:g} s late"
        attempts = [firing.attempt for firing in fired]
        if attempts != sorted(set(attempts)):
            yield f"the attempts of {plan.token} were {attempts}"
        due_by_now = sum(due <= now - EXACT for due in times)
        if exact and len(fired) < due_by_now:
            yield f"{plan.kind} {plan.token} was lost: {len(fired)} of {due_by_now} times"
        if not planned and len(fired) < len(times):
            yield f"{plan.kind} {plan.token} was lost: not scheduled, fired {len(fired)} times"
        if planned and len(fired) >= len(times) and plan.kind != "doomed":
            yield f"{plan.kind} {plan.token} has fired and is scheduled still"
