"""Random lives of actors against a plain model, over memory and files (C2, C4, C6, C7)."""

from __future__ import annotations

import logging

import pytest
from faults_machine import MemoryThings, Things
from faults_machine_file import FileThings
from faults_planted import plant
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.stateful import run_state_machine_as_test

ANY_SPEED = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    # A thread writes the files, so a failure over them may not come again.
    phases=[Phase.reuse, Phase.generate],
)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Actions that fail as asked are logged by the thousand."""
    caplog.set_level(logging.CRITICAL, "rivet_ray")


@pytest.mark.parametrize(
    ("machine", "examples"),
    [
        pytest.param(MemoryThings, 120, id="memory"),
        pytest.param(FileThings, 30, id="file"),
    ],
)
def test_actors_live_as_told(machine: type[Things], examples: int) -> None:
    """Acknowledged is kept, keys are once, schedules fire once and in time, destroyed is gone."""
    run_state_machine_as_test(
        machine, settings=settings(ANY_SPEED, max_examples=examples, stateful_step_count=30)
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("machine", "examples"),
    [
        pytest.param(MemoryThings, 600, id="memory"),
        pytest.param(FileThings, 150, id="file"),
    ],
)
def test_actors_live_long_as_told(machine: type[Things], examples: int) -> None:
    """As above; longer, and more of them."""
    run_state_machine_as_test(
        machine, settings=settings(ANY_SPEED, max_examples=examples, stateful_step_count=60)
    )


@pytest.mark.parametrize(
    ("planted", "seen"),
    [
        pytest.param("early_gate", "is lost|was told", marks=pytest.mark.slow),
        ("keys_forgotten", "was told|the items are"),
        pytest.param("begun_forgotten", "halves ran|t[0-9]+ is there", marks=pytest.mark.slow),
        ("schedule_forgotten", "was lost"),
        ("schedule_kept", "fired 2 times|scheduled still|the attempts"),
        ("schedule_early", "early"),
        ("destroy_forgotten", "a destroyed actor"),
    ],
)
def test_a_planted_fault_is_seen(monkeypatch: pytest.MonkeyPatch, planted: str, seen: str) -> None:
    """Of the machine: with one mechanism taken away it is red."""
    plant(planted, monkeypatch.setattr)
    unlimited = settings(
        ANY_SPEED,
        max_examples=1000,
        stateful_step_count=30,
        database=None,
        derandomize=True,
        verbosity=Verbosity.quiet,
    )
    with pytest.raises(AssertionError, match=seen):
        run_state_machine_as_test(MemoryThings, settings=unlimited)
