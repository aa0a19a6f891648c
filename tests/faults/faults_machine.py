"""Random lives of actors, with every kind of ending, against a plain model."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar

import pytest
from faults_things import App, Model, Thing, ThingState, Time
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rivet_ray.errors import ActorNotFound, Interrupted, Outcome, RivetError, UserError
from rivet_ray.store import Store, open_store
from rivet_ray.testing import ManualClock, Setup
from rivet_ray.testing.clock import settle

T = TypeVar("T")

NAMES = st.sampled_from(["a", "b", "c"])
DELAYS = st.sampled_from([0.0, 0.5, 1.0, 2.5, 29.9, 30.0, 45.0, 300.0])
ADVANCES = st.sampled_from([0.0, 0.4, 0.5, 1.0, 3.0, 29.0])
LONG = st.sampled_from([31.0, 61.0, 400.0])
SETTLES_WITHIN = 5.0
"""Seconds in which threads are done with what is due."""


class Keyed(NamedTuple):
    """A call with an idempotency key, which may be made again."""

    name: str
    born: str
    action: str
    token: str
    told: Any


class Things(RuleBasedStateMachine):
    """See `MemoryThings` here and `FileThings` in `faults_machine_file`."""

    exact = True
    """Everything runs on the event loop, so settling is enough."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        Time.now = staticmethod(self.clock.now)
        self.models: dict[str, Model] = {}
        self.gone: set[str] = set()
        """Ids and births of actors that were destroyed."""
        self.keyed: list[Keyed] = []
        self.tokens = 0
        self.broken = False
        self.store = self.run(self.open())
        self.run(self.serve())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self.runner.run(work)
        except AssertionError:
            self.broken = True
            raise

    async def open(self) -> Store:
        return await open_store("memory://")

    async def serve(self) -> None:
        self.setup = Setup(App, self.store, self.clock)
        await self.setup.start()

    def teardown(self) -> None:
        try:
            self.run(self.finish())
        finally:
            self.runner.close()

    async def finish(self) -> None:
        try:
            for name in () if self.broken else self.models:
                await self.compare(name)
        finally:
            await self.setup.close()
            await self.store.close()

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    # --- Helpers ---------------------------------------------------------------

    def token(self) -> str:
        self.tokens += 1
        return f"t{self.tokens}"

    def handle(self, name: str) -> Thing:
        return self.setup.client.thing.get_or_create(name)

    def keyed_handle(self, name: str, key: str) -> Thing:
        return self.handle(name).with_options(idempotency_key=key)

    def model(self, name: str) -> Model:
        return self.models.setdefault(name, Model())

    async def compare(self, name: str) -> ThingState:
        """The actor is what the model says. What it was born as is taken over."""
        model = self.model(name)
        for tries in range(500):
            identity, state, planned = await self.handle(name).everything()
            broken = list(model.violations(identity, state, planned, self.clock.now(), self.exact))
            behind = not self.exact and self.behind(model, state)
            if not behind or tries * 0.01 > SETTLES_WITHIN:
                break
            await asyncio.sleep(0.01)
            # What could not be woken while the time flew by is tried again after 5 s.
            await self.clock.advance(5.0 if tries % 50 == 49 else 0.0)
        assert not broken, f"{name}: {broken}"
        assert not behind, f"{name}: what is due was lost"
        assert not {identity, state.born} & self.gone, f"{name}: a destroyed actor came back"
        assert await self.handle(name).resolve() == identity, f"{name}: resolve gives another id"
        model.identity, model.born = identity, state.born
        return state

    def behind(self, model: Model, state: ThingState) -> bool:
        """Whether something that is due has never fired."""
        fired = {firing.token for firing in state.fired}
        now = self.clock.now()
        return any(plan.due <= now and plan.token not in fired for plan in model.plans.values())

    # --- What callers do ---------------------------------------------------------

    @rule(name=NAMES, amount=st.integers(-5, 5))
    def increment(self, name: str, amount: int) -> None:
        model = self.model(name)
        model.count += amount
        assert self.run(self.handle(name).increment(amount)) == model.count

    @rule(name=NAMES, value=st.integers(), setting=st.sampled_from("xy"))
    def put(self, name: str, setting: str, value: int) -> None:
        self.model(name).settings[setting] = value % 1000
        self.run(self.handle(name).put(setting, value % 1000))

    @rule(name=NAMES)
    def append(self, name: str) -> None:
        model, token = self.model(name), self.token()
        model.items.append(token)
        assert self.run(self.handle(name).append(token)) == len(model.items)

    @rule(name=NAMES)
    def append_and_fail(self, name: str) -> None:
        """Its change is kept, and its error says so."""
        token = self.token()
        self.model(name).items.append(token)
        with pytest.raises(UserError) as error:
            self.run(self.handle(name).append_and_fail(token))
        assert (error.value.code, error.value.outcome) == ("as_asked", Outcome.TOOK_EFFECT)

    @rule(name=NAMES, calls=st.integers(2, 5))
    def burst(self, name: str, calls: int) -> None:
        """Several at once: each has its place."""
        model = self.model(name)
        tokens = [self.token() for _ in range(calls)]

        async def together() -> list[int]:
            return await asyncio.gather(*(self.handle(name).append(token) for token in tokens))

        places = dict(zip(self.run(together()), tokens, strict=True))
        assert sorted(places) == list(range(len(model.items) + 1, len(model.items) + calls + 1))
        model.items += [places[place] for place in sorted(places)]

    # --- Idempotency keys ----------------------------------------------------------

    @rule(name=NAMES, action=st.sampled_from(["append", "two_steps", "append_and_fail"]))
    def once(self, name: str, action: str) -> None:
        model, token = self.model(name), self.token()
        model.items += [f"{token}/1", f"{token}/2"] if action == "two_steps" else [token]
        told = self.run(self.tell(name, action, token))
        self.run(self.compare(name))
        self.keyed.append(Keyed(name, model.born, action, token, told))

    @precondition(lambda self: self.keyed)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """An earlier key: nothing happens, and it is told the same."""
        before = data.draw(st.sampled_from(self.keyed))
        if self.model(before.name).born == before.born:
            told = self.run(self.tell(before.name, before.action, before.token))
            assert told == before.told, f"{before.token} was told {before.told}, then {told}"

    async def tell(self, name: str, action: str, token: str) -> Any:
        try:
            return await getattr(self.keyed_handle(name, token), action)(token)
        except (UserError, Interrupted) as error:
            return error.code, error.outcome

    # --- Schedules -------------------------------------------------------------------

    @rule(name=NAMES, kind=st.sampled_from(["once", "flaky", "chain", "doomed"]), delay=DELAYS)
    def plan(self, name: str, kind: str, delay: float) -> None:
        token = self.token()
        due = self.clock.now() + delay
        identity = self.run(self.handle(name).plan(kind, token, delay))
        self.model(name).plan(kind, token, due, identity)
        self.run(settle())

    @precondition(lambda self: self.planned())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name, token = data.draw(st.sampled_from(self.planned()))
        model = self.models[name]
        plan = model.plans[token]
        if self.clock.now() < plan.due:
            assert self.run(self.handle(name).cancel(plan.identity)) is True
            del model.plans[token]
            assert self.run(self.handle(name).cancel(plan.identity)) is False

    def planned(self) -> list[tuple[str, str]]:
        """What callers planned; not what chains did."""
        return [
            (name, plan.token)
            for name, model in sorted(self.models.items())
            for plan in model.plans.values()
            if plan.identity
        ]

    # --- Time --------------------------------------------------------------------------

    @rule(seconds=ADVANCES)
    def advance(self, seconds: float) -> None:
        self.run(self.pass_time(seconds))

    @rule(seconds=LONG)
    def idle(self, seconds: float) -> None:
        """Longer than actors stay in memory; their alarms wake them."""
        end = self.clock.now() + seconds
        self.run(self.pass_time(seconds))
        quiet = all(
            not end - 40 < due <= end
            for model in self.models.values()
            for plan in model.plans.values()
            for due in (*plan.times(), plan.due + 1.5)
        )
        if self.exact and quiet and seconds > 60:
            assert self.setup.backend.host.resident == 0, "an idle actor stayed in memory"

    # --- Endings -------------------------------------------------------------------------

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        """It is gone at once; its key makes another one, with nothing of the first."""
        name = data.draw(st.sampled_from(sorted(self.models)))
        self.run(self.compare(name))
        model = self.models.pop(name)
        self.run(self.handle(name).end())
        self.gone |= {model.identity, model.born}
        try:
            self.run(self.setup.client.thing.get(name).everything())
        except ActorNotFound as error:
            outcome = error.outcome
        else:
            raise AssertionError(f"{name}: a destroyed actor answers")
        assert outcome is Outcome.NOT_STARTED

    @rule()
    def restart(self) -> None:
        self.run(self.setup.restart())

    @rule()
    def crash(self) -> None:
        self.run(self.setup.crash())

    @rule(
        name=NAMES,
        calls=st.lists(st.sampled_from(["plain", "append", "two_steps"]), max_size=4),
        hops=st.integers(0, 40),
    )
    def crash_amid(self, name: str, calls: list[str], hops: int) -> None:
        """A crash while calls run: what was told is there; with a key, the rest is once."""
        self.run(self.compare(name))
        self.run(self._crash_amid(name, calls, hops))
        self.run(self.compare(name))

    async def _crash_amid(self, name: str, calls: list[str], hops: int) -> None:
        tokens = {self.token(): call for call in calls}
        tasks = {
            token: asyncio.create_task(
                self.handle(name).append(token) if call == "plain" else self.tell(name, call, token)
            )
            for token, call in tokens.items()
        }
        for _ in range(hops):
            await asyncio.sleep(0)
        await self.lose()
        told = {token for token, task in tasks.items() if task.done() and not task.exception()}
        for task in tasks.values():
            task.cancel()
        ends = await asyncio.gather(*tasks.values(), return_exceptions=True)
        never = {
            token
            for token, end in zip(tokens, ends, strict=True)
            if isinstance(end, RivetError) and end.outcome is Outcome.NOT_STARTED
        }
        model = self.models[name]
        _, before, _ = await self.handle(name).everything()
        for token, call in tokens.items():
            if call != "plain":
                answer = await self.tell(name, call, token)
                self.keyed.append(Keyed(name, model.born, call, token, answer))
        _, after, _ = await self.handle(name).everything()
        for token, call in tokens.items():
            there = after.items.count(token)
            assert token not in told or {token, f"{token}/2"} & {*before.items}, f"{token} is lost"
            if call == "two_steps":
                self._compare_halves(token, token in told, after.items)
            elif token in told or call == "append":
                said = [call.told for call in self.keyed if call.token == token]
                assert there == 1, f"{token} is there {there} times, told {said}"
            else:
                assert there == 0 or (there == 1 and token not in never), f"{token}: {there} times"
        assert after.items[: len(model.items)] == model.items
        mine = {f"{token}{part}" for token in tokens for part in ("", "/1", "/2")}
        assert set(after.items[len(model.items) :]) <= mine
        model.items = after.items

    def _compare_halves(self, token: str, told: bool, items: list[str]) -> None:
        halves = (items.count(f"{token}/1"), items.count(f"{token}/2"))
        [answer] = [call.told for call in self.keyed if call.token == token]
        if answer == token:
            assert halves == (1, 1), f"{token} is done, its halves ran {halves} times"
        else:
            assert answer == ("interrupted", Outcome.UNKNOWN), answer
            assert halves == (1, 0), f"{token} interrupted, halves ran {halves} times"
            assert not told, f"{token} was told its answer and is interrupted"

    async def lose(self) -> None:
        await self.setup.crash()

    @invariant()
    def is_as_told(self) -> None:
        """Of those in memory only: looking at the others would wake them."""
        for name, model in self.models.items():
            if not model.identity or self.setup.backend.host.running(model.identity):
                self.run(self.compare(name))


class MemoryThings(Things):
    """Over `memory://`, which outlives the hosts."""
