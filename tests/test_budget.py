"""Bounds on what is held for somebody."""

from __future__ import annotations

import contextlib
import sys

import msgspec
import pytest

from rivet_ray.budget import Budget, size_of_text
from rivet_ray.errors import Outcome, Overloaded
from rivet_ray.protocol.port import Ask


def test_what_fits_is_counted_and_given_back() -> None:
    budget = Budget("connection", 10)
    assert budget.fits(6)
    assert budget.fits(4)
    assert (budget.held, budget.peak, budget.refused) == (10, 10, 0)
    budget.give_back(4)
    assert (budget.held, budget.peak) == (6, 10)


def test_what_does_not_fit_is_not_counted_and_named() -> None:
    budget = Budget("connection", 10)
    budget.take(8)
    with pytest.raises(Overloaded, match=r"this connection: at most 10 bytes") as caught:
        budget.take(3)
    assert caught.value.outcome is Outcome.NOT_STARTED
    assert (budget.held, budget.refused) == (8, 1)


def test_what_counts_below_counts_above() -> None:
    process = Budget("process", 12)
    first, second = Budget("caller", 10, process), Budget("caller", 10, process)
    first.take(8)
    assert not second.fits(5)
    assert (process.held, second.held) == (8, 0)
    assert (process.refused, second.refused) == (1, 0)
    first.give_back(8)
    assert second.fits(5)
    assert process.held == 5


def test_a_budget_that_is_above_by_two_ways_counts_once() -> None:
    process = Budget("process", 100)
    caller, actor = Budget("caller", 100, process), Budget("actor", 100, process)
    connection = Budget("connection", 100, caller, actor)
    connection.take(10)
    assert (process.held, caller.held, actor.held, connection.held) == (10, 10, 10, 10)
    connection.give_back(10)
    assert (process.held, caller.held, actor.held, connection.held) == (0, 0, 0, 0)


def test_what_is_there_already_is_counted_beyond_the_bound() -> None:
    budget = Budget("connection", 10)
    budget.hold(12)
    assert (budget.held, budget.peak, budget.refused) == (12, 12, 0)
    assert not budget.fits(1)


def test_refusals_are_counted_by_the_name_of_the_bound() -> None:
    process = Budget("process", 12)
    first, second = Budget("caller", 10, process), Budget("caller", 10, process)
    assert not first.fits(11)
    assert not second.fits(11)
    first.take(8)
    assert not second.fits(8)
    assert process.refusals == {"caller": 2, "process": 1}
    assert second.refusals is process.refusals


def test_a_party_that_is_gone_holds_nothing() -> None:
    process = Budget("process", 12)
    caller = Budget("caller", 10, process)
    caller.take(8)
    caller.end()
    assert (caller.held, process.held) == (0, 0)
    assert caller.fits(100), "nobody is hurt by it"
    caller.give_back(100)
    assert (caller.held, process.held) == (0, 0)


def test_who_is_below_whom() -> None:
    process = Budget("process", 12)
    caller = Budget("caller", 10, process)
    assert caller.below(process)
    assert caller.below(caller)
    assert not process.below(caller)


@pytest.mark.parametrize("text", ["a", "é", "✓", "🎉", "\ud800", ""])
def test_a_text_takes_the_same_before_and_after_it_was_encoded(text: str) -> None:
    """`getsizeof` grows with the UTF-8 form that Python keeps: more was given back than taken."""
    whole = "".join([text] * 1_000)
    ask = Ask(1, whole, b"[]", "key")
    before = ask.cost
    with contextlib.suppress(UnicodeEncodeError):
        msgspec.msgpack.encode(whole)
    assert ask.cost == before
    assert size_of_text(whole) >= sys.getsizeof(whole)
    assert size_of_text(None) == 0
