"""The class of a whole state, and of classes that attrs makes, is part of what reads back."""

from __future__ import annotations

import collections
import dataclasses
import decimal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pytest

from rivet_ray.definition import StateCodec
from rivet_ray.errors import InvalidStateType


class Struct(msgspec.Struct):
    count: int = 1


class SubStruct(Struct):
    more: int = 2


class Open(msgspec.Struct, dict=True):
    count: int = 1


@dataclass
class Data:
    count: int = 1


@dataclass
class Same(Data):
    pass


class Keys(TypedDict):
    count: int


def _open() -> Open:
    state = Open()
    vars(state)["more"] = 1
    return state


def _saved(codec: StateCodec, state: Any) -> Any:
    parts = codec.split(state)
    codec.verify(state, parts)
    return codec.join(parts)


COUNTER = collections.Counter(count=1)


@pytest.mark.parametrize(
    ("kind", "state", "told"),
    [
        (Struct, SubStruct(), "state cannot be saved: a SubStruct would come back as a Struct"),
        (Struct, Data(), "state cannot be saved: a Data would come back as a Struct"),
        (Data, Same(), "state cannot be saved: a Same would come back as a Data"),
        (Keys, COUNTER, "state cannot be saved: a Counter would come back as a dict"),
        (dict[str, int], COUNTER, "state cannot be saved: a Counter would come back as a dict"),
        (Any, COUNTER, "state cannot be saved: a Counter would come back as a dict"),
        (dict[str, int] | None, COUNTER, "state cannot be saved: a Counter would come back"),
        (
            dict[str, dict[str, int]] | None,
            {"a": COUNTER},
            "state['a'] cannot be saved: a Counter would come back as a dict",
        ),
        (
            Mapping[str, dict[str, int]],
            {"a": COUNTER},
            "state['a'] cannot be saved: a Counter would come back as a dict",
        ),
        (Open, _open(), "state.more cannot be saved: it is not a field of Open"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_state_of_another_class_is_refused(kind: Any, state: Any, told: str) -> None:
    """Each of these came back as something else, since its fields were the same."""
    codec = StateCodec(kind)
    with pytest.raises(InvalidStateType) as caught:
        _saved(codec, state)
    assert str(caught.value).startswith(told)
    good = codec.split(kind() if kind in (Struct, Data, Open) else {"count": {}})
    if kind in (Keys, dict[str, int], dict[str, int] | None):
        good = codec.split({"count": 1})
    mended = codec.mend(state, codec.faults(state), good)
    assert _saved(codec, mended) == mended


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (dict[str, int] | None, None),
        (dict[str, int] | None, {"a": 1}),
        (Mapping[str, int], {"a": 1}),
        (Any, {"a": 1}),
        (Any, [1]),
        (Data | None, Data(2)),
    ],
)
def test_a_state_of_its_class_comes_back(kind: Any, state: Any) -> None:
    assert _saved(StateCodec(kind), state) == state


def test_objects_of_attrs_are_compared_field_by_field() -> None:
    attrs = pytest.importorskip("attrs")

    @attrs.define(slots=False)
    class Totals:
        by_name: dict[str, int]

    @attrs.define
    class Computed:
        count: int
        double: int = 0

        def __attrs_post_init__(self) -> None:
            self.double = 2 * self.count

    open_one, changed = Totals({}), Computed(2)
    open_one.colour = 1
    changed.count = 5
    for kind, value, path in (
        (Totals, Totals(collections.defaultdict(int)), ".by_name"),
        (Totals, open_one, ".colour"),
        (Computed, changed, ".double"),
    ):
        holder = dataclasses.make_dataclass("Holder", [("field", kind)])
        with pytest.raises(InvalidStateType, match=rf"^state\.field\{path} cannot be saved"):
            _saved(StateCodec(holder), holder(value))
    holder = dataclasses.make_dataclass("Holder", [("field", Totals)])
    assert _saved(StateCodec(holder), holder(Totals({"a": 1}))) == holder(Totals({"a": 1}))


def test_a_decimal_that_is_no_number_comes_back_beside_what_is_compared() -> None:
    holder = dataclasses.make_dataclass("Holder", [("field", list[float | decimal.Decimal])])
    state = holder([3, decimal.Decimal("NaN")])  # An int in a float's place is looked at closely.
    assert str(_saved(StateCodec(holder), state).field[1]) == "NaN"
