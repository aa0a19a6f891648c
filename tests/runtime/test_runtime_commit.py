"""Group commit, stores that do not answer, and fences (C1, C2, C5)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime_worlds import Probe, Tap, part, started

from rivet_ray import Actor, Event, Outcome, Registry, action, use
from rivet_ray.errors import (
    ActorStopped,
    RivetError,
    StoreError,
    StoreLostData,
    StoreUnavailable,
)
from rivet_ray.store import CommitResult
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle


@dataclass
class State:
    count: int = 0
    title: str = "none"
    notes: dict[str, int] = field(default_factory=dict[str, int])


class Counter(Actor[State]):
    counted = Event[int]()

    @action
    def add(self, amount: int = 1) -> int:
        self.state.count += amount
        self.broadcast(Counter.counted, self.state.count)
        return self.state.count

    @action
    def get(self) -> int:
        return self.state.count

    @action
    def note(self, name: str) -> None:
        self.state.notes[name] = len(self.state.notes)

    @action
    def forget(self) -> None:
        self.state.notes.clear()

    @action
    async def hang(self) -> None:
        self.state.count += 1
        await asyncio.Event().wait()


class Loose(Actor[dict[str, Any]]):
    def create_state(self, input: None) -> dict[str, Any]:
        return {"a": 1, "b": 2}

    @action
    def put(self, name: str, value: int) -> None:
        self.state[name] = value

    @action
    def drop(self, name: str) -> None:
        del self.state[name]

    @action
    def all(self) -> dict[str, Any]:
        return self.state


class Spoiler(Actor[State]):
    """Its hook leaves what cannot be saved, each time."""

    def on_state_change(self, state: State) -> None:
        self.state.notes = object()  # type: ignore[assignment]  # pyright: ignore

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count


class App(Registry):
    counter = use(Counter)
    loose = use(Loose)
    spoiler = use(Spoiler)


# --- Group commit -------------------------------------------------------------------


async def test_64_actors_of_one_tick_are_one_round_trip() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actors = [await started(test, test.client.counter.get_or_create(str(i))) for i in range(64)]
        tap = Tap(test)
        store.batches.clear()
        calls = [tap.call(actor, "add", 3) for actor in actors]
        await settle()
        assert [tap.output(call) for call in calls] == [3] * 64
        assert [len(batch) for batch in store.batches] == [64]


async def test_1000_turns_of_one_tick_are_one_commit() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.counter.get_or_create("k")), Tap(test)
        store.batches.clear()
        calls = [tap.call(actor, "add") for _ in range(1000)]
        await settle()
        assert [tap.output(call) for call in calls] == list(range(1, 1001))
        assert len(store.commits) == 1


async def test_commit_carries_the_changed_fields_only() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        counter = test.client.counter.get_or_create("k")
        await counter.get()
        store.batches.clear()
        await counter.note("x")
        await counter.get()
        assert [set(commit.put) for commit in store.commits] == [{"state/notes"}]


async def test_removed_and_new_fields_of_an_untyped_state() -> None:
    async with setup_test(App) as test:
        loose = test.client.loose.get_or_create("k")
        await loose.drop("a")
        await loose.put("c", 3)
        await test.crash()
        loose = test.client.loose.get_or_create("k")
        assert await loose.all() == {"b": 2, "c": 3}
        await loose.drop("b")
        await loose.drop("c")
        await test.crash()
        assert await test.client.loose.get_or_create("k").all() == {}
        await test.client.loose.get_or_create("k").put("d", 4)
        await test.crash()
        assert await test.client.loose.get_or_create("k").all() == {"d": 4}


async def test_nothing_is_written_where_nothing_differs() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        counter = test.client.counter.get_or_create("k")
        await counter.forget()
        store.batches.clear()
        await counter.forget()
        await counter.add(0)
        assert [set(commit.put) - {"events"} for commit in store.commits] in ([], [set()])


async def test_unchanged_actor_does_not_wait_for_anothers_write() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        slow = await started(test, test.client.counter.get_or_create("slow"))
        other = await started(test, test.client.counter.get_or_create("other"))
        tap = Tap(test)
        store.hold()
        tap.call(slow, "add")
        await settle()
        call = tap.call(other, "get")
        await settle()
        assert tap.output(call) == 0
        store.release()


async def test_faulty_hook_of_one_actor_leaves_the_others_alone() -> None:
    async with setup_test(App) as test:
        spoiler = await started(test, test.client.spoiler.get_or_create("k"))
        before = await started(test, test.client.counter.get_or_create("before"))
        after = await started(test, test.client.counter.get_or_create("after"))
        tap = Tap(test)
        calls = [tap.call(actor, "add") for actor in (before, spoiler, after)]
        await settle()
        answers = [tap.answer(call) is not None for call in calls]
        again = tap.call(before, "add")
        await settle()
        answers.append(tap.answer(again) is not None)
        # Whatever comes of it, nothing may be written while the test closes.
        test.backend.abandon()
        assert answers == [True] * 4, "calls of other actors were never answered"


# --- Stores that do not answer --------------------------------------------------------


@pytest.mark.parametrize(
    "failures", [["refused"], ["lost"], ["lost", "refused", "lost"], ["refused", "twice"]]
)
async def test_store_that_answers_late_sees_each_change_once(failures: list[str]) -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.counter.get_or_create("k")), Tap(test)
        store.batches.clear()
        store.failures = list(failures)
        call = tap.call(actor, "add", 5)
        await settle()
        assert tap.answer(call) is None
        await test.clock.advance(1)
        assert tap.output(call) == 5
        assert part(test, actor, "state/count") == 5
        assert {(commit.fence, commit.sequence) for commit in store.commits} == {
            (store.commits[0].fence, store.commits[0].sequence)
        }
        assert await test.client.counter.get_or_create("k").add() == 6


@pytest.mark.parametrize("written", [False, True])
async def test_unresolved_write_tells_unknown_and_the_next_instance_sees_the_truth(
    written: bool,
) -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.counter.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1", "counted")
        tap.messages.clear()
        if written:
            store.failures = ["lost"]
        else:
            store.down = True
        first, hanging = tap.call(actor, "add", 5), tap.call(actor, "hang")
        await settle()
        store.down = True
        second = tap.call(actor, "get")
        await test.clock.advance(30)
        for call in (first, second, hanging):
            error = tap.error(call)
            assert error.outcome is Outcome.UNKNOWN, call
        assert isinstance(tap.error(first), StoreUnavailable)
        assert not [item for item in tap.seen() if item[0] == "counted"], "an event left"
        assert [item for item in tap.seen() if item[0] == "close"]
        assert test.backend.host.running(actor) is None
        store.down = False
        found = await test.client.counter.get_or_create("k").get()
        assert found == part(test, actor, "state/count") == (5 if written else 0)


@pytest.mark.parametrize("alone", [False, True])
async def test_part_of_a_store_that_does_not_answer_holds_up_its_own_actors_only(
    alone: bool,
) -> None:
    """Order and the gate hold for those that wait (C5); the others are answered at once."""
    store = Probe()
    async with setup_test(App, store=store) as test:
        away = await started(test, test.client.counter.get_or_create("away"))
        near = await started(test, test.client.counter.get_or_create("near"))
        tap = Tap(test)
        store.batches.clear()
        store.trouble[away] = StoreUnavailable("its part is away")
        first = [tap.call(away, "add")]
        if alone:  # its group has no other
            await settle()
        first.append(tap.call(near, "add"))
        await settle()
        assert (tap.answer(first[0]), tap.output(first[1])) == (None, 1)
        later = [tap.call(away, "add"), tap.call(away, "get")]
        for count in range(2, 5):
            call = tap.call(near, "add")
            await settle()
            assert tap.output(call) == count
        assert [tap.answer(call) for call in later] == [None, None]
        await test.clock.advance(1)
        sequences = {commit.sequence for commit in store.commits if commit.actor_id == away}
        assert len(sequences) == 1, "the next change was written before the one in flight"
        store.trouble.clear()
        await test.clock.advance(2)
        assert [tap.output(call) for call in (first[0], *later)] == [1, 2, 2]
        assert part(test, away, "state/count") == 2


async def test_part_of_a_store_that_is_back_is_used_while_another_is_away() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actors = [await started(test, test.client.counter.get_or_create(key)) for key in "ab"]
        tap = Tap(test)
        store.trouble = {actor: StoreUnavailable("its part is away") for actor in actors}
        calls = [tap.call(actor, "add") for actor in actors]
        await settle()
        later = tap.call(actors[0], "add")
        del store.trouble[actors[0]]
        await test.clock.advance(0.1)
        assert [tap.output(calls[0]), tap.output(later)] == [1, 2]
        assert tap.answer(calls[1]) is None
        store.trouble.clear()
        await test.clock.advance(1)
        assert tap.output(calls[1]) == 1


async def test_part_of_a_store_that_stays_away_is_given_up_with_its_actors_only() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        away = await started(test, test.client.counter.get_or_create("away"))
        near = await started(test, test.client.counter.get_or_create("near"))
        tap = Tap(test)
        store.trouble[away] = StoreUnavailable("its part is away")
        calls = [tap.call(away, "add"), tap.call(near, "add")]
        await test.clock.advance(12)
        assert isinstance(tap.error(calls[0]), StoreUnavailable)
        assert tap.error(calls[0]).outcome is Outcome.UNKNOWN
        assert tap.output(calls[1]) == 1
        assert test.backend.host.running(away) is None
        assert test.backend.host.running(near) is not None
        store.trouble.clear()
        assert await test.client.counter.get_or_create("away").get() == 0


async def test_a_flush_waits_for_the_part_of_a_store_that_does_not_answer() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.counter.get_or_create("k")), Tap(test)
        store.trouble[actor] = StoreUnavailable("its part is away")
        call = tap.call(actor, "add")
        await settle()
        flushing = asyncio.ensure_future(test.backend.host.checkpointer.flush(30))
        await settle()
        assert not flushing.done()
        store.trouble.clear()
        await test.clock.advance(1)
        await flushing
        assert tap.output(call) == 1


async def test_nothing_is_repeated_after_a_crash() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.counter.get_or_create("k")), Tap(test)
        store.trouble[actor] = StoreUnavailable("its part is away")
        tap.call(actor, "add")
        await settle()
        await test.crash()
        store.trouble.clear()
        store.batches.clear()
        await test.clock.advance(30)
        assert store.batches == []
        assert await test.client.counter.get_or_create("k").get() == 0


async def test_unexpected_fault_of_a_driver_tells_unknown_and_the_host_goes_on() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.counter.get_or_create("k")), Tap(test)

        def fault(_: int) -> None:
            raise StoreError("the disk is full")

        store.before = fault
        call = tap.call(actor, "add")
        await settle()
        assert tap.error(call).outcome is Outcome.UNKNOWN
        store.before = None
        assert await test.client.counter.get_or_create("k").add() == 1


@pytest.mark.parametrize("away", ["hangs", "refuses"])
async def test_deadline_covers_the_wait_for_the_store_too(away: str) -> None:
    """C9: a call with a deadline of 2 s is answered then, whatever the store does."""
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.counter.get_or_create("k")), Tap(test)
        if away == "hangs":
            store.hold()
        store.down = away == "refuses"
        call, patient = tap.call(actor, "add", timeout=2.0), tap.call(actor, "add")
        await test.clock.advance(1.9)
        assert tap.answer(call) is None
        await test.clock.advance(0.4)
        error = tap.error(call)
        assert (error.code, error.outcome) == ("action_timed_out", Outcome.UNKNOWN)
        assert tap.answer(patient) is None
        store.down = False
        store.release()
        await test.clock.advance(2)
        assert tap.output(patient) == 2, "the save went on without the one who left"


# --- Faults of some in a batch --------------------------------------------------------


async def counters(test: Setup[App], count: int) -> list[str]:
    return [
        await started(test, test.client.counter.get_or_create(str(number)))
        for number in range(count)
    ]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("bad", [{0}, {7}, {2, 5}])
async def test_what_cannot_be_stored_ends_its_actor_and_no_other(
    bad: set[int], alone: bool
) -> None:
    """Also where the driver only says that something in the batch is wrong."""
    store = Probe()
    async with setup_test(App, store=store) as test:
        actors, tap = await counters(test, 8), Tap(test)
        store.alone = alone
        store.trouble = {actors[number]: StoreError("a wrong type") for number in bad}
        calls = [tap.call(actor, "add") for actor in actors]
        await settle()
        for number, (actor, call) in enumerate(zip(actors, calls, strict=True)):
            if number in bad:
                error = tap.error(call)
                assert (error.code, error.outcome) == ("store_unavailable", Outcome.UNKNOWN)
                assert test.backend.host.running(actor) is None
            else:
                assert tap.output(call) == part(test, actor, "state/count") == 1
                assert test.backend.host.running(actor) is not None


async def test_who_was_given_up_is_not_written_again() -> None:
    """What it changed since is lost with it; a later number would look like lost data."""
    store = Probe()
    async with setup_test(App, store=store) as test:
        actors, tap = await counters(test, 2), Tap(test)
        store.alone = True
        store.trouble = {actors[0]: StoreUnavailable("its node is away")}
        calls = [tap.call(actor, "add") for actor in actors]
        await settle()
        calls += [tap.call(actors[0], "add")]
        await test.clock.advance(15)
        for call in (calls[0], calls[2]):
            assert tap.error(call).outcome is Outcome.UNKNOWN
        store.trouble = {}
        store.batches.clear()
        await test.backend.host.checkpointer.flush(30)
        assert store.batches == []
        assert test.backend.host.checkpointer.refused == 0
        assert await test.client.counter.get("0").add() == 1


async def test_a_write_is_tried_often_enough_to_be_there_soon_after_the_store() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        (actor,), tap = await counters(test, 1), Tap(test)
        store.down = True
        call = tap.call(actor, "add")
        await test.clock.advance(9)
        store.down = False
        await test.clock.advance(1)
        assert tap.output(call) == 1


# --- Fences ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (CommitResult.FENCED, ActorStopped),
        (CommitResult.BEHIND, StoreLostData),
        (StoreLostData("it is empty"), StoreLostData),
    ],
)
async def test_refused_owner_leaves_memory_and_delivers_nothing_stale(
    result: CommitResult | StoreLostData, kind: type[RivetError]
) -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.counter.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1", "counted")
        tap.messages.clear()
        store.hold()
        calls = [tap.call(actor, "add"), tap.call(actor, "hang"), tap.call(actor, "get")]
        await settle()
        during = tap.call(actor, "get")
        store.result = result
        store.release()
        await settle()
        for call in (*calls, during):
            error = tap.error(call)
            assert isinstance(error, kind if call != calls[1] else (kind, ActorStopped))
            assert error.outcome is Outcome.UNKNOWN
        assert [item for item in tap.seen() if item[0] == "counted"] == []
        assert [item[0] for item in tap.seen() if isinstance(item, tuple)] == ["close"]
        assert test.backend.host.resident == 0
        store.result = None
        assert await test.client.counter.get_or_create("k").get() == 0


async def test_other_actors_of_a_refused_batch_are_untouched() -> None:
    async with setup_test(App) as test:
        first = await started(test, test.client.counter.get_or_create("1"))
        second = await started(test, test.client.counter.get_or_create("2"))
        tap = Tap(test)
        await test.store.claim(first, "somebody else")
        calls = [tap.call(first, "add"), tap.call(second, "add")]
        await settle()
        assert tap.error(calls[0]).code == "actor_stopped"
        assert tap.output(calls[1]) == 1
