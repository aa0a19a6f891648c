"""C4: one idempotency key, one effect at most, one answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from runtime_keyed import App, Counter, World
from runtime_worlds import Probe, open_file, part, parts, quiet, started

from rivet_ray import Outcome, Registry, use
from rivet_ray.protocol.port import Failed
from rivet_ray.runtime import HostSettings, keys
from rivet_ray.runtime.keys import OVERHEAD, KeyLimits
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore


@pytest.fixture(params=["memory", "file"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    inner = MemoryStore() if request.param == "memory" else await open_file(tmp_path)
    settings = HostSettings(stop_grace=0.01)
    async with setup_test(App, store=Probe(inner), settings=settings) as test:
        yield World(test, await started(test, test.client.counter.get_or_create("k")))
    await inner.close()


# --- Same key, same answer -------------------------------------------------------------


async def test_same_key_same_reply_and_one_effect(world: World) -> None:
    assert [await world.output("add", 5) for _ in range(3)] == [5, 5, 5]
    assert await world.plain("get") == 5


async def test_same_key_same_error_and_one_effect(world: World) -> None:
    errors = [await world.error("refuse") for _ in range(3)]
    assert {(e.code, e.message, e.metadata["count"], e.outcome) for e in errors} == {
        ("refused", "no 1", 1, Outcome.TOOK_EFFECT)
    }
    assert await world.plain("get") == 1


async def test_concurrent_calls_with_the_same_key_join(world: World) -> None:
    calls = [world.call("wait_add") for _ in range(5)]
    await settle()
    await world.plain("open")
    calls.append(world.call("wait_add"))
    await quiet(world.test)
    assert [world.tap.output(call) for call in calls] == [10] * 6
    assert await world.plain("how_often") == 1


async def test_calls_that_join_wait_for_the_write_too() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        world = World(test, await started(test, test.client.counter.get_or_create("k")))
        store.hold()
        calls = [world.call("add", 5) for _ in range(3)]
        await settle()
        calls.append(world.call("add", 5))
        await settle()
        assert world.tap.seen() == []
        store.release()
        await settle()
        assert world.tap.seen() == [5, 5, 5, 5]


@pytest.mark.parametrize("move", ["restart", "crash"])
@pytest.mark.parametrize(("name", "outcome"), [("add", None), ("refuse", "refused")])
async def test_answer_survives(world: World, name: str, outcome: str | None, move: str) -> None:
    world.call(name)
    await quiet(world.test)
    await (world.crash() if move == "crash" else world.restart())
    if outcome is None:
        assert await world.output(name) == 1
    else:
        assert (await world.error(name)).code == outcome
    assert await world.plain("get") == 1


async def test_answer_of_a_call_without_effect_survives_too(world: World) -> None:
    await world.output("nothing")
    await world.crash()
    await world.output("nothing")
    assert await world.plain("how_often") == 0


async def test_crash_between_effect_and_reply() -> None:
    """The commit is made, the host is lost before anybody hears of it."""
    store = Probe()
    async with setup_test(App, store=store) as test:
        world = World(test, await started(test, test.client.counter.get_or_create("k")))
        store.failures = ["lost"]
        call = world.call("add", 5)
        await settle()
        assert world.tap.answer(call) is None
        await world.crash()
        assert await world.output("add", 5) == 5
        assert await world.plain("get") == 5


async def test_answer_is_what_the_first_caller_was_told() -> None:
    """An answer that was refused because the state cannot be saved is no answer."""
    async with setup_test(App) as test:
        world = World(test, await started(test, test.client.counter.get_or_create("k")))
        first = await world.error("spoil")
        call = world.call("spoil")
        await settle()
        assert world.tap.error(call).code == first.code


# --- Scope ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "args"), [("add", [6]), ("get", []), ("add", [])])
async def test_key_with_another_call_is_refused(world: World, name: str, args: list[Any]) -> None:
    await world.output("add", 5)
    error = await world.error(name, *args)
    assert (error.code, error.outcome) == ("idempotency_key_reused", Outcome.NOT_STARTED)
    assert await world.plain("get") == 5


async def test_key_belongs_to_its_actor_and_its_caller(world: World) -> None:
    assert await world.output("add", 5, who="ann") == 5
    assert await world.output("add", 5, who="bob") == 10
    assert await world.output("add", 5, who="ann") == 5
    assert await world.output("add", 5) == 15
    other = World(world.test, await started(world.test, world.test.client.counter.get_or_create()))
    assert await other.output("add", 5, who="ann") == 5


async def test_a_caller_without_identity_is_refused() -> None:
    """Nobody could tell their keys apart; the error names the cure."""

    class Strict(Counter):
        anonymous_keys = False

    class Strictly(Registry):
        counter = use(Strict)

    async with setup_test(Strictly) as test:
        world = World(test, await started(test, test.client.counter.get_or_create("k")))
        error = await world.error("add", 5)
        assert (error.code, error.outcome) == ("idempotency_key_refused", Outcome.NOT_STARTED)
        for cure in ("`sub`", "caller_identity", "anonymous_keys = True"):
            assert cure in error.message
        assert await world.output("add", 5, who="ann") == 5
        assert await world.plain("add", 5) == 10, "without a key anybody may call"
        assert len(parts(test, world.actor, "key/")) == 1


async def test_scope_cannot_be_forged_by_the_key(world: World) -> None:
    """The caller and the key are not simply glued together."""
    await world.output("add", 1, who="a", key="bc")
    assert await world.output("add", 1, who="ab", key="c") == 2


# --- The interrupted rule (reliability.md, row 11) ------------------------------------------


async def test_interrupted_half_never_runs_twice(world: World) -> None:
    world.call("add_wait_add")
    await settle()
    assert await world.plain("add", 100) == 101  # commits the first half
    await world.crash()
    for _ in range(2):
        error = await world.error("add_wait_add")
        assert (error.code, error.outcome) == ("interrupted", Outcome.UNKNOWN)
    assert await world.plain("get") == 101
    await world.crash()
    assert (await world.error("add_wait_add")).code == "interrupted"


async def test_crash_before_any_commit_lets_it_run_again_once(world: World) -> None:
    world.call("add_wait_add")
    await settle()
    await world.crash()
    call = world.call("add_wait_add")
    await settle()
    await world.plain("open")
    await quiet(world.test)
    assert world.tap.output(call) == 11
    assert await world.output("add_wait_add") == 11
    assert await world.plain("get") == 11


async def test_keyed_call_that_was_stopped_at_a_restart_keeps_what_it_answered(
    world: World,
) -> None:
    world.call("add_wait_add")
    await settle()
    await world.restart()
    error = await world.error("add_wait_add")
    assert error.code in ("actor_stopped", "interrupted")
    assert error.outcome in (Outcome.TOOK_EFFECT, Outcome.UNKNOWN)
    assert await world.plain("get") == 1


@pytest.mark.parametrize("point", range(1, 4))
async def test_crash_at_each_commit_in_turn(point: int) -> None:
    """Before or after any commit: the effect is there once, and the retry says so."""
    for when in ("before", "after"):
        store = Probe()
        async with setup_test(App, store=store, settings=HostSettings(stop_grace=0.01)) as test:
            world = World(test, await started(test, test.client.counter.get_or_create("k")))
            first = len(store.batches)

            def crash(number: int, first: int = first, test: Setup[App] = test) -> None:
                if number == first + point:
                    test.backend.abandon()
                    raise asyncio.CancelledError

            setattr(store, when, crash)
            world.call("wait_add")
            await settle()
            world.tap.call(world.actor, "add", 100)
            await settle()
            world.tap.call(world.actor, "open")
            await settle()
            await world.crash()
            store.before = store.after = None
            count = part(test, world.actor, "state/count")
            call = world.call("wait_add")
            await settle()
            await world.plain("open")
            answer = world.tap.answer(call)
            assert answer is not None
            after = await world.plain("get")
            if hasattr(answer, "failure"):
                assert world.tap.error(call).code == "interrupted"
                assert after == count
            else:
                assert after % 100 == 10


# --- Age and room -------------------------------------------------------------------------


async def test_answer_is_kept_for_a_day_and_leaves_by_age(world: World) -> None:
    await world.output("add", 5)
    await world.test.clock.advance(keys.MAX_AGE - 10)
    assert await world.output("add", 5) == 5
    await world.test.clock.advance(20)
    await world.output("add", 1, key="another")
    assert await world.output("add", 5) == 11


FEW = KeyLimits(size=5 * (OVERHEAD + 100), size_per_caller=3 * (OVERHEAD + 20))


@asynccontextmanager
async def limited(limits: KeyLimits, store: Any = "memory://") -> AsyncIterator[World]:
    async with setup_test(App, store=store, settings=HostSettings(keys=limits)) as test:
        yield World(test, await started(test, test.client.counter.get_or_create("k")))


async def refused(world: World, key: str, who: str | None) -> None:
    error = await world.error("add", key=key, who=who)
    assert (error.code, error.outcome) == ("too_many_idempotency_keys", Outcome.NOT_STARTED)


def held(world: World) -> int:
    return world.test.backend.host.budget.held


async def test_full_table_refuses_new_keys_and_answers_old_ones() -> None:
    async with limited(FEW) as world:
        for key in "abc":
            await world.output("add", key=key, who="ann")
        await refused(world, "d", "ann")
        assert await world.output("add", key="a", who="ann") == 1
        assert await world.plain("add") == 4
        await world.test.clock.advance(keys.MAX_AGE + 1)
        assert await world.output("add", key="d", who="ann") == 5


async def test_a_caller_fills_its_own_share_only() -> None:
    """E4: one caller had all keys of the actor, and everybody was refused for a day."""
    async with limited(FEW) as world:
        for key in "abc":
            await world.output("add", key=key, who="mallory")
        for key in "def":
            await refused(world, key, "mallory")
        assert await world.output("add", key="a", who="ann") == 4
        assert world.test.backend.host.budget.refusals == {"idempotency keys of a caller": 3}


class Counted(dict[str, Any]):
    """Counts how many of its items are looked at."""

    looked_at = 0

    def items(self) -> Any:
        for item in super().items():
            self.looked_at += 1
            yield item


async def test_a_refusal_does_not_look_at_all_keys() -> None:
    """Before, each refused call copied the table: 8,000 keys held up everybody for seconds."""
    keys = [f"{number}" for number in range(200)]
    async with limited(KeyLimits(size_per_caller=len(keys) * (OVERHEAD + 3))) as world:
        for key in keys:
            await world.output("add", key=key, who="mallory")
        instance = world.test.backend.host.running(world.actor)
        assert instance is not None
        table = instance.keys._entries = Counted(instance.keys._entries)
        for number in range(100):
            await refused(world, f"more {number}", "mallory")
        assert len(table) == len(keys)
        assert 0 < table.looked_at < 10 * 100


@pytest.mark.parametrize("move", ["restart", "crash"])
async def test_shares_are_known_after_a_restart(move: str) -> None:
    async with limited(FEW) as world:
        for key in "abc":
            await world.output("add", key=key, who="mallory")
        before = held(world)
        assert before >= 3 * OVERHEAD
        await (world.crash() if move == "crash" else world.restart())
        assert await world.output("add", key="a", who="ann") == 4
        await refused(world, "d", "mallory")
        assert held(world) > before


async def test_all_callers_together_have_a_bound() -> None:
    async with limited(FEW) as world:
        for number in range(5):
            await world.output("add", key="a", who=f"caller {number}")
        await refused(world, "a", "one more")
        assert world.test.backend.host.budget.refusals == {"idempotency keys of an actor": 1}


async def test_an_actor_that_left_memory_holds_nothing() -> None:
    async with limited(FEW) as world:
        await world.output("add", key="a", who="ann")
        assert held(world) > 0
        host = world.test.backend.host
        instance = host.running(world.actor)
        assert instance is not None
        host.sleep(instance)
        await quiet(world.test)
        assert host.resident == 0
        assert held(world) == 0


async def test_a_key_that_is_free_again_takes_no_room() -> None:
    async with limited(FEW) as world:
        for _ in range(5):
            assert (await world.error("missing")).outcome is Outcome.NOT_STARTED
            world.tap.cancel(world.call("wait_add", who="ann"))
            await quiet(world.test)
        assert held(world) == 0


# --- Answers that are too long ---------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [
        KeyLimits(answer_size=1_000),
        KeyLimits(size_per_caller=OVERHEAD + 1_000),
        KeyLimits(size=OVERHEAD + 1_000),
    ],
)
@pytest.mark.parametrize("name", ["long", "fail_at_length"])
async def test_an_answer_that_is_too_long_is_not_kept(limits: KeyLimits, name: str) -> None:
    """The first caller gets it; whoever repeats the call hears that it took effect, once."""
    async with limited(limits, Probe()) as world:
        first = world.call(name, 2_000)
        joined = world.call(name, 2_000)
        await quiet(world.test)
        for call in (first, joined):
            answer = world.tap.answer(call)
            if isinstance(answer, Failed):
                assert answer.failure.code == "at_length"
            else:
                assert world.tap.output(call) == "x" * 2_000
        for _ in range(2):
            error = await world.error(name, 2_000)
            assert (error.code, error.outcome) == ("answer_not_kept", Outcome.TOOK_EFFECT)
            assert await world.plain("get") == 1
            await world.crash()
        assert held(world) < 1_000


async def test_old_keys_leave_the_store() -> None:
    async with setup_test(App) as test:
        world = World(test, await started(test, test.client.counter.get_or_create("k")))
        for key in "abcd":
            await world.output("add", key=key)
        await test.crash()
        world = World(test, world.actor)
        await test.clock.advance(keys.MAX_AGE + 1)
        for key in "efgh":
            await world.output("add", key=key)
        assert len(parts(test, world.actor, keys.PART)) == 4


# --- What does not burn a key ---------------------------------------------------------------


async def test_call_that_did_not_start_leaves_the_key_free(world: World) -> None:
    for name, args in (("add", ["one"]), ("missing", [])):
        assert (await world.error(name, *args)).outcome is Outcome.NOT_STARTED
    assert await world.output("add", 5) == 5


async def test_call_cancelled_before_its_place_leaves_the_key_free(world: World) -> None:
    world.tap.call(world.actor, "alone")
    await quiet(world.test)
    call = world.call("add", 5)
    await quiet(world.test)
    world.tap.cancel(call)
    await quiet(world.test)
    assert world.tap.error(call).outcome is Outcome.NOT_STARTED
    again = world.call("add", 7)
    instance = world.test.backend.host.running(world.actor)
    assert instance is not None
    instance.actor.go.set()
    await quiet(world.test)
    assert world.tap.output(again) == 7


async def test_call_joined_to_one_that_did_not_start_is_not_left_alone(world: World) -> None:
    world.tap.call(world.actor, "alone")
    await quiet(world.test)
    first = world.call("add", 5)
    joined = world.call("add", 5)
    await quiet(world.test)
    world.tap.cancel(first)
    await quiet(world.test)
    instance = world.test.backend.host.running(world.actor)
    assert instance is not None
    instance.actor.go.set()
    await quiet(world.test)
    assert world.tap.answer(joined) is not None


async def test_call_cancelled_before_its_first_step_leaves_the_key_free(world: World) -> None:
    """C9: it has no task that could answer for it, and nobody may wait for it for ever."""
    first, joined = world.call("wait_add"), world.call("wait_add")
    world.tap.cancel(first)
    await quiet(world.test)
    for call in (first, joined):
        assert world.tap.error(call).outcome is Outcome.NOT_STARTED
    again = world.call("wait_add")
    await settle()
    await world.plain("open")
    assert world.tap.output(again) == 10


async def test_call_that_joins_has_its_own_deadline() -> None:
    """C9: the first one may run for longer; what becomes of it is unknown to who leaves."""
    async with setup_test(App, store=Probe()) as test:
        world = World(test, await started(test, test.client.counter.get_or_create("k")))
        first = world.call("wait_add")
        await settle()
        joined = world.tap.call(world.actor, "wait_add", key="k", timeout=2.0)
        await test.clock.advance(1.9)
        assert world.tap.answer(joined) is None
        await test.clock.advance(0.4)
        error = world.tap.error(joined)
        assert (error.code, error.outcome) == ("action_timed_out", Outcome.UNKNOWN)
        await world.plain("open")
        assert world.tap.output(first) == 10
        assert await world.output("wait_add") == 10


# --- Relaxed actors -------------------------------------------------------------------------


async def test_relaxed_actor_still_gates_keyed_calls() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        world = World(test, await started(test, test.client.relaxed.get_or_create("k")))
        store.hold()
        call = world.call("add", 5)
        await settle()
        again = world.call("add", 5)
        await settle()
        assert world.tap.seen() == []
        store.release()
        await settle()
        assert [world.tap.output(call), world.tap.output(again)] == [5, 5]
        await world.crash()
        assert await world.output("add", 5) == 5
        assert await world.plain("get") == 5
