"""`destroy_after` of an actor class."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rivet_ray import Actor
from rivet_ray.errors import DefinitionError


class Base(Actor[None]):
    destroy_after = timedelta(days=30)


def test_it_is_never_by_default() -> None:
    assert type("Plain", (Actor,), {}).__definition__.destroy_after is None


def test_it_is_inherited_and_can_be_taken_back() -> None:
    assert type("Same", (Base,), {}).__definition__.destroy_after == 30 * 86_400
    shorter = {"destroy_after": timedelta(seconds=1)}
    assert type("Shorter", (Base,), shorter).__definition__.destroy_after == 1
    assert type("Kept", (Base,), {"destroy_after": None}).__definition__.destroy_after is None


@pytest.mark.parametrize("value", [timedelta(), timedelta(seconds=-1), 30, 30.0, "30 days", True])
def test_anything_but_a_time_above_zero_is_a_fault(value: Any) -> None:
    with pytest.raises(DefinitionError) as raised:
        type("Wrong", (Actor,), {"destroy_after": value})
    [fault] = raised.value.faults
    assert fault.startswith("destroy_after must be a timedelta above zero, such as timedelta(days")
