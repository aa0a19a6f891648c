"""The schedule under failures: retries, crashes at every commit, stores that are away (C6)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import runtime_killer
from runtime_alarm import START, Alarm, App
from runtime_worlds import Probe, part, parts

from rivet_ray.runtime import HostSettings
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle

QUICK = HostSettings(stop_grace=0.01)

# --- Retries ---------------------------------------------------------------------------------


async def test_failing_entry_is_tried_again_after_1_2_4_seconds() -> None:
    async with setup_test(App) as test:
        alarm = test.client.alarm.get_or_create("k")
        actor = await alarm.resolve()
        await alarm.any(1_000, "fail_until", 4)
        seen: list[float] = []
        for tenth in range(120):
            await test.clock.advance(0.1)
            attempts = part(test, actor, "state/attempts") or []
            if len(attempts) > len(seen):
                seen.append(round((tenth + 1) / 10, 1))
        assert part(test, actor, "state/attempts") == [1, 2, 3, 4]
        assert seen == [1.0, 2.0, 4.0, 8.0]
        assert parts(test, actor, "schedule/") == []


async def test_entry_that_never_works_is_kept_as_failed() -> None:
    async with setup_test(App) as test:
        alarm: Alarm = test.client.alarm.get_or_create("k")
        await alarm.any(1_000, "fail_until", 99)
        await test.clock.advance(3_600)
        [(name, _, _, attempt, failed)] = await alarm.entries()
        assert (name, attempt, failed) == ("fail_until", 10, True)
        assert await alarm.errors() == ["ValueError: attempt 10"]
        actor = await alarm.resolve()
        assert part(test, actor, "state/attempts") == list(range(1, 11))
        await alarm.after(1_000, "others go on")
        await test.crash()
        await test.clock.advance(7_200)
        alarm = test.client.alarm.get_or_create("k")
        assert await alarm.fired() == ["others go on"]
        assert part(test, actor, "state/attempts")[:10] == list(range(1, 11))
        [(_, _, _, _, failed)] = await alarm.entries()
        assert failed


async def test_the_newest_failed_entries_are_kept(caplog: Any) -> None:
    """They are saved with their actor, and nobody has to cancel them."""
    async with setup_test(App, settings=HostSettings(failed_entries=2)) as test:
        alarm: Alarm = test.client.alarm.get_or_create("k")
        actor = await alarm.resolve()
        for number in range(5):
            await alarm.any(1_000 * (1 + number), "fail_until", 99 + number)
        await alarm.after(86_400_000, "later")
        await test.clock.advance(7_200)
        later, *failed = await alarm.entries()
        assert (later[0], later[4]) == ("fire", False)
        assert [(args, failed) for _, args, _, _, failed in failed] == [
            ([102], True),
            ([103], True),
        ]
        assert len(parts(test, actor, "schedule/")) == 3
        assert "(3 on this host)" in caplog.text
        await test.crash()
        assert len(await test.client.alarm.get_or_create("k").entries()) == 3


async def test_retries_go_on_after_a_crash() -> None:
    async with setup_test(App) as test:
        alarm = test.client.alarm.get_or_create("k")
        actor = await alarm.resolve()
        await alarm.any(1_000, "fail_until", 3)
        await test.clock.advance(1.5)
        await test.crash()
        await test.clock.advance(0.4)
        assert part(test, actor, "state/attempts") == [1]
        await test.clock.advance(3)
        assert part(test, actor, "state/attempts") == [1, 2, 3]


async def test_deadline_of_a_scheduled_action_is_a_failed_attempt() -> None:
    async with setup_test(App, settings=QUICK) as test:
        alarm = test.client.alarm.get_or_create("k")
        await alarm.any(1_000, "too_long")
        await test.clock.advance(3.5)
        [(_, _, due, attempt, failed)] = await alarm.entries()
        assert (due - START, attempt, failed) == (4.0, 1, False)
        assert "too_long" in str((await alarm.errors())[0])
        assert part(test, await alarm.resolve(), "state/count") == 1
        await test.clock.advance(1)
        [(_, _, _, attempt, _)] = await alarm.entries()
        assert attempt == 2


async def test_entry_whose_actor_fails_to_start_is_not_lost() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        alarm = test.client.alarm.get_or_create("k")
        actor = await alarm.resolve()
        await alarm.after(5_000, "x")
        claim = store.inner.claim

        async def broken(*_: Any) -> Any:
            raise RuntimeError("no claim today")

        store.inner.claim = broken
        await test.crash()
        await test.clock.advance(12)
        store.inner.claim = claim
        await test.clock.advance(10)
        assert part(test, actor, "state/fired") == ["x"]


# --- Crashes ---------------------------------------------------------------------------------


async def test_run_after_a_crash_knows_that_it_is_the_second() -> None:
    async with setup_test(App, settings=QUICK) as test:
        alarm = test.client.alarm.get_or_create("k")
        actor = await alarm.resolve()
        await alarm.any(1_000, "wait", "x")
        await test.clock.advance(1)
        await test.crash()
        [(_, _, due, attempt, _)] = await test.client.alarm.get_or_create("k").entries()
        assert (due - START, attempt) == (2.0, 1), "it waits, as after any failure"
        await test.clock.advance(1)
        [(_, _, _, attempt, _)] = await test.client.alarm.get_or_create("k").entries()
        assert attempt == 2
        await test.client.alarm.get_or_create("k").open()
        await settle()
        assert part(test, actor, "state/fired") == ["x"]
        assert parts(test, actor, "schedule/") == []


async def test_action_that_ends_its_process_is_tried_ten_times_and_kept_as_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """C6: with the pauses of any other failure, over all restarts; then it is to be seen."""
    async with setup_test(App, settings=QUICK) as test:
        await test.client.alarm.get_or_create("k").any(1_000, "wait", "x")
        await test.client.alarm.get_or_create("k").after(600_000, "others go on")
        started: list[float] = []
        attempt = 0
        for second in range(700):
            await test.clock.advance(1)
            [entry] = [e for e in await _entries(test) if e[0] == "wait"]
            if entry[3] > attempt:
                attempt = entry[3]
                started.append(second + 1)
                await test.crash()
        assert started == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
        [(_, _, _, attempt, failed)] = [e for e in await _entries(test) if e[0] == "wait"]
        assert (attempt, failed) == (10, True)
        assert "Interrupted" in str((await test.client.alarm.get("k").errors())[-1])
        assert "was interrupted in attempt 10" in caplog.text
        assert await test.client.alarm.get("k").fired() == ["others go on"]


async def _entries(test: Any) -> list[tuple[str, list[Any], float, int, bool]]:
    return [tuple(entry) for entry in await test.client.alarm.get("k").entries()]


def test_action_that_ends_its_process_in_truth(tmp_path: Path) -> None:
    """C6: each start of a process makes one attempt, until none is left; that is kept."""

    def run() -> tuple[int, list[str]]:
        ended = subprocess.run(
            [sys.executable, runtime_killer.__file__, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return ended.returncode, ended.stdout.splitlines()

    for attempt in range(1, runtime_killer.ATTEMPTS + 1):
        assert run() == (runtime_killer.END, [f"attempt {attempt}"])
    for _ in range(2):
        code, lines = run()
        assert (code, len(lines)) == (0, 1)
        assert lines[0].startswith("failed Interrupted")


async def test_attempt_that_an_orderly_stop_cuts_off_is_repeated_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with setup_test(App, settings=QUICK) as test:
        actor = await test.client.alarm.get_or_create("k").resolve()
        await test.client.alarm.get("k").any(1_000, "wait", "x")
        await test.clock.advance(1)
        for restart in range(1, 13):
            await test.restart()
            await settle()
            [(_, _, _, attempt, failed)] = await test.client.alarm.get("k").entries()
            assert (attempt, failed) == (restart + 1, False)
        await test.client.alarm.get("k").open()
        await settle()
        assert part(test, actor, "state/fired") == ["x"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", [1, 2, 3, 4])
async def test_crash_at_each_commit_while_firing(point: int, when: str) -> None:
    """Effect and removal are one commit: after any crash each has fired once in effect."""
    store = Probe()
    async with setup_test(App, store=store, settings=QUICK) as test:
        alarm = test.client.alarm.get_or_create("k")
        actor = await alarm.resolve()
        for text in "abc":
            await alarm.after(1_000, text)
        await alarm.after(2_000, "d")
        first = len(store.batches)

        def crash(number: int) -> None:
            if number == first + point:
                test.backend.abandon()
                raise asyncio.CancelledError

        setattr(store, when, crash)
        await test.clock.advance(3)
        crashed = not test.backend.started
        store.before = store.after = None
        await test.crash()
        await test.clock.advance(3)
        assert crashed, "the crash point was never reached"
        assert sorted(part(test, actor, "state/fired")) == ["a", "b", "c", "d"]
        assert parts(test, actor, "schedule/") == []
        assert set(part(test, actor, "state/attempts")) <= {1, 2}


async def test_effect_and_removal_are_one_commit() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        alarm = test.client.alarm.get_or_create("k")
        entry = await alarm.after(1_000, "x")
        store.batches.clear()
        await test.clock.advance(1)
        effect = [commit for commit in store.commits if "state/fired" in commit.put]
        assert [f"schedule/{entry}" in commit.delete for commit in effect] == [True]
        assert effect[0].alarm is None


# --- Stores that are away ------------------------------------------------------------------------


@pytest.mark.parametrize("outage", [3.0, 9.0, 15.0, 60.0])
async def test_due_while_the_store_is_away(outage: float) -> None:
    """Reliability 9: what becomes due during an outage fires once in effect after it."""
    store = Probe()
    async with setup_test(App, store=store) as test:
        alarm = test.client.alarm.get_or_create("k")
        actor = await alarm.resolve()
        await alarm.after(1_000, "x")
        store.down = True
        await test.clock.advance(1 + outage)
        store.down = False
        await test.clock.advance(60)
        assert part(test, actor, "state/fired") == ["x"]


async def test_due_while_alarms_cannot_be_read() -> None:
    from rivet_ray.errors import StoreUnavailable

    store = Probe()
    async with setup_test(App, store=store) as test:
        alarm = test.client.alarm.get_or_create("k")
        actor = await alarm.resolve()
        await alarm.after(1_000, "x")
        honest = store.inner.alarms_due

        async def away(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable("the store is away")

        store.inner.alarms_due = away
        await test.clock.advance(20)
        assert part(test, actor, "state/fired") == []
        store.inner.alarms_due = honest
        await test.clock.advance(10)
        assert part(test, actor, "state/fired") == ["x"]


async def test_instance_that_was_fenced_while_firing_leaves_the_entry_to_the_next() -> None:
    async with setup_test(App) as test:
        alarm = test.client.alarm.get_or_create("k")
        actor = await alarm.resolve()
        await alarm.after(1_000, "x")
        await test.store.claim(actor, "somebody else who is gone again")
        await test.clock.advance(60)
        assert part(test, actor, "state/fired") == ["x"]
