"""Generated types with generated values: each reads back as it is, or is refused by its path."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from value_kinds import KINDS, Kind, same

from rivet_ray.definition import StateCodec
from rivet_ray.errors import InvalidStateType


@dataclass(frozen=True)
class Drawn:
    type: Any
    make: Callable[[], Any]
    """Another object each time, with the same value."""
    kept: bool | None
    """It has to read back; False: it has to be refused; None: either will do."""


def _of_kind(kind: Kind) -> Drawn:
    return Drawn(kind.type, kind.make, kind.typed)


def _plain(kind: Any, value: Any) -> Drawn:
    return Drawn(kind, lambda: value, True)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
LEAVES = (
    st.sampled_from(KINDS).map(_of_kind)
    | st.integers(-(2**63), 2**64 - 1).map(lambda value: _plain(int, value))
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda value: _plain(float, value))
    | TEXTS.map(lambda value: _plain(str, value))
    | st.binary(max_size=5).map(lambda value: _plain(bytes, value))
    | st.decimals(allow_nan=True).map(
        lambda value: Drawn(type(value), lambda: value, None if value.is_snan() else True)
    )
    | st.timedeltas().map(lambda value: _plain(type(value), value))
    | st.dates().map(lambda value: _plain(type(value), value))
    | st.uuids().map(lambda value: _plain(type(value), value))
    | st.datetimes(allow_imaginary=False).map(
        lambda value: Drawn(type(value), lambda: value, not value.fold)
    )
)


def _wrapped(inner: st.SearchStrategy[Drawn]) -> st.SearchStrategy[Drawn]:
    return st.tuples(st.sampled_from(WRAPPERS), inner).map(lambda pair: pair[0](pair[1]))


def _list(one: Drawn) -> Drawn:
    return Drawn(list[one.type], lambda: [one.make(), one.make()], one.kept)


def _tuple(one: Drawn) -> Drawn:
    return Drawn(tuple[one.type, ...], lambda: (one.make(),), one.kept)


def _pair(one: Drawn) -> Drawn:
    return Drawn(tuple[int, one.type], lambda: (1, one.make()), one.kept)


def _mapping(one: Drawn) -> Drawn:
    return Drawn(dict[str, one.type], lambda: {"a": one.make(), "b": one.make()}, one.kept)


def _optional(one: Drawn) -> Drawn:
    return Drawn(Optional[one.type], one.make, one.kept)  # noqa: UP045 - of any type


def _data(one: Drawn) -> Drawn:
    kind = dataclasses.make_dataclass("Data", [("before", int), ("field", one.type)])
    return Drawn(kind, lambda: kind(1, one.make()), one.kept)


def _struct(one: Drawn) -> Drawn:
    kind = msgspec.defstruct("Struct", [("field", one.type), ("after", int, 1)])
    return Drawn(kind, lambda: kind(one.make()), one.kept)


def _row(one: Drawn) -> Drawn:
    kind = msgspec.defstruct("Row", [("field", one.type)], array_like=True)
    return Drawn(kind, lambda: kind(one.make()), one.kept)


def _named(one: Drawn) -> Drawn:
    kind: Any = NamedTuple("Named", [("field", one.type)])
    return Drawn(kind, lambda: kind(one.make()), one.kept)


def _derived(one: Drawn) -> Drawn:
    kind = dataclasses.make_dataclass("Data", [("field", one.type)])
    other = dataclasses.make_dataclass("Other", [("more", int, 1)], bases=(kind,))
    return Drawn(kind, lambda: other(one.make()), False)


def _default(one: Drawn) -> Drawn:
    value = lambda: collections.defaultdict(list, {"a": one.make()})  # noqa: E731
    return Drawn(dict[str, one.type], value, False)


def _untyped(one: Drawn) -> Drawn:
    return Drawn(Any, one.make, None)


WRAPPERS = [
    _list,
    _tuple,
    _pair,
    _mapping,
    _optional,
    _data,
    _struct,
    _row,
    _named,
    _derived,
    _default,
    _untyped,
]
VALUES = st.recursive(LEAVES, _wrapped, max_leaves=6)


def _look(one: Drawn) -> None:
    holder = dataclasses.make_dataclass("Holder", [("count", int), ("field", one.type)])
    try:
        codec = StateCodec(holder)
    except (TypeError, ValueError):
        return  # msgspec does not take this union.
    state = holder(1, one.make())
    try:
        parts = codec.split(state)
        codec.verify(state, parts)
    except InvalidStateType as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert refusal.startswith("state.field")
        assert one.kept is not True, refusal
        return
    assert one.kept is not False, state
    assert same(codec.join(parts), holder(1, one.make()))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_a_generated_value_reads_back_or_is_refused(one: Drawn) -> None:
    _look(one)


@pytest.mark.slow
@settings(max_examples=3_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_many_generated_values_read_back_or_are_refused(one: Drawn) -> None:
    _look(one)


def test_the_oracle_sees_what_a_round_trip_may_change() -> None:
    for one, other in (
        ([1], (1,)),
        ({"a": 1}, collections.Counter("a")),
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        (math.nan, None),
        ([{"a": (1,)}], [{"a": [1]}]),
    ):
        assert not same(one, other)
        assert same(one, one)
