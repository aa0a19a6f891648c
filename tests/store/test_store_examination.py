"""Stores that say something of themselves, and drivers that do not."""

from __future__ import annotations

from typing import Any, cast

import pytest

from rivet_ray.store import Examinable, Finding, Store, Verdict, examine
from rivet_ray_drivers.memory import MemoryStore


class Silent:
    """A third party's driver of before."""


async def test_a_driver_that_says_nothing_is_unknown() -> None:
    (finding,) = await examine(cast("Store", Silent()))
    assert finding.verdict is Verdict.UNKNOWN
    assert not finding.alarming


async def test_a_driver_that_answers_is_asked() -> None:
    store: Any = MemoryStore()
    assert isinstance(store, Examinable)
    assert await examine(store) == await store.examine() != []


@pytest.mark.parametrize("verdict", Verdict)
def test_warnings_and_problems_alarm(verdict: Verdict) -> None:
    alarming = verdict in (Verdict.WARNING, Verdict.PROBLEM)
    assert Finding("a", "b", verdict).alarming is alarming
