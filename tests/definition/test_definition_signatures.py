"""Signatures and types that arguments can have, and those that they cannot."""

from __future__ import annotations

import datetime
import decimal
import enum
import inspect
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NewType, TypedDict

import msgspec
import pydantic
import pytest
import typing_extensions

from rivet_ray.definition.arguments import Arguments, type_fault
from rivet_ray.errors import InvalidArgument
from rivet_ray.protocol import values


@dataclass
class Point:
    x: int


class Struct(msgspec.Struct):
    x: int


class Dict(TypedDict):
    a: int


class Model(pydantic.BaseModel):
    a: int


class Colour(enum.Enum):
    RED = "red"


UserId = NewType("UserId", int)


def compiled(function: Callable[..., Any]) -> Arguments:
    return Arguments(function, typing_extensions.get_type_hints(function, include_extras=True))


def test_every_fault_of_a_signature_is_told() -> None:
    def wrong(
        self: object, a: object, b: Callable[[], int], *, c: int, d: int = 1, **e: int
    ) -> None: ...

    with pytest.raises(ValueError, match="parameter") as raised:
        compiled(wrong)
    faults = str(raised.value).split("\n")
    assert [fault.split(":")[0].split(" can")[0] for fault in faults] == [
        "parameter 'a'",
        "parameter 'b'",
        "parameter 'c'",
        "parameter 'd'",
        "parameter 'e'",
    ]


@pytest.mark.parametrize("function", [lambda: None, lambda *, self: None, lambda *args: None])
def test_an_action_takes_its_actor(function: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="its first parameter must be the actor: self"):
        Arguments(function, {})


class Plain:
    pass


@pytest.mark.parametrize(
    "kind",
    [
        *(object, complex, type, Plain, list[Plain], dict[str, Plain], Plain | None),
        *(Callable[[], int], Point | Struct, Model | Point, int | Model, Model | Plain),
        "Forward",
        inspect.Parameter,
    ],
    ids=str,
)
def test_types_that_cannot_travel(kind: Any) -> None:
    assert type_fault(kind)


@pytest.mark.parametrize(
    "kind",
    [
        *(None, bool, int, float, str, bytes, list, dict, tuple, set, Any),
        *(Point, Struct, Dict, Model, list[Model], dict[str, Model], Model | None),
        *(int | str, int | list[int] | dict[str, int] | None, Point | None, Literal[1, "a"]),
        *(tuple[int, ...], tuple[int, str], set[int], frozenset[str], Colour, UserId),
        *(datetime.datetime, datetime.date, datetime.timedelta, uuid.UUID, decimal.Decimal),
    ],
    ids=str,
)
def test_types_that_can_travel(kind: Any) -> None:
    assert type_fault(kind) is None


@dataclass
class Tree:
    name: str
    children: list[Tree]


def test_a_type_may_contain_itself() -> None:
    assert type_fault(Tree) is None

    def plant(self: object, tree: Tree) -> None: ...

    arguments = compiled(plant)
    good = {"name": "a", "children": [{"name": "b", "children": []}]}
    assert arguments.decode(values.encode([good])) == (Tree("a", [Tree("b", [])]),)
    bad = {"name": "a", "children": [{"name": "b"}]}
    with pytest.raises(InvalidArgument, match=r"^tree: .*`children` at \.children\[0\]"):
        arguments.decode(values.encode([bad]))
