"""The input of an actor reaches it as what was given, or the call that gives it fails."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from value_kinds import Circle, Shape

from rivet_ray import Actor, Registry, action, use
from rivet_ray.errors import InvalidArgument
from rivet_ray.testing import setup_test


@dataclass
class Plan:
    shapes: list[Shape] = field(default_factory=list)


class Typed(Actor[None, None, None, Plan | None, None]):
    @action
    def names(self) -> list[str]:
        return [shape.name for shape in self.input.shapes] if self.input else []


class Loose(Actor[None]):
    @action
    def given(self) -> Any:
        return self.input


class App(Registry):
    typed = use(Typed)
    loose = use(Loose)


@pytest.mark.parametrize(
    ("actor", "given", "told"),
    [
        ("typed", Plan([Shape(), Circle()]), r"input: it cannot be sent at .shapes\[1\]: a Circle"),
        ("loose", {"a": (1, 2)}, r"input: it cannot be sent at \['a'\]: a tuple would come back"),
        ("loose", {"a": [math.nan]}, r"input: it cannot be sent at \['a'\]\[0\]: NaN"),
        ("loose", Shape(), r"input: it cannot be sent: a Shape would come back as a dict"),
    ],
)
async def test_an_input_that_would_be_another_is_refused(actor: str, given: Any, told: str) -> None:
    """Row B9: NaN reached the actor as None, a derived class as its base."""
    async with setup_test(App) as test:
        accessor: Any = getattr(test.client, actor)
        with pytest.raises(InvalidArgument, match=told):
            accessor.get_or_create("k", given)
        with pytest.raises(InvalidArgument, match=told):
            await accessor.create("k", given)


async def test_plain_data_may_stand_for_its_type() -> None:
    async with setup_test(App) as test:
        typed: Any = test.client.typed
        assert await typed.get_or_create("a", Plan([Shape("x")])).names() == ["x"]
        assert await typed.get_or_create("b", {"shapes": [{"name": "y"}]}).names() == ["y"]
        assert await test.client.loose.get_or_create("c", {"a": [1, 2.5, None]}).given() == {
            "a": [1, 2.5, None]
        }
