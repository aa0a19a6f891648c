"""What is saved reads back as it was written, types included, or is refused by its path."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import functools
import uuid
import zoneinfo
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from value_kinds import Circle, Colour, Computed, Level, Name, Options, Permission, Private, Shape

from rivet_ray.definition import StateCodec
from rivet_ray.definition.faithful import Faithful
from rivet_ray.definition.fidelity import difference
from rivet_ray.errors import InvalidStateType
from rivet_ray.protocol import values

T = TypeVar("T")
UTC = datetime.UTC
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NOON = datetime.datetime(2026, 7, 1, 12)


@dataclass
class Cached:
    count: int = 0
    limit: ClassVar[int] = 3

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.count


@dataclass
class Box(Generic[T]):
    item: T
    items: list[T] = field(default_factory=list)


@dataclass
class Node:
    value: int = 0
    children: list[Node] = field(default_factory=list)
    beside: Node | None = None


class Struct(msgspec.Struct):
    name: str = "s"


class SubStruct(Struct):
    more: int = 1


class Open(msgspec.Struct, dict=True):
    name: str = "s"


@dataclass
class Slotted:
    __slots__ = ("left",)
    left: int


@dataclass
class Mixed(Slotted):
    right: int = 0


class Model(pydantic.BaseModel):
    name: str = "m"


class SubModel(Model):
    more: int = 1


class Pair(NamedTuple):
    left: int
    right: int


IN_UTC = NOON.replace(tzinfo=UTC)
IN_ZONE_UTC = NOON.replace(tzinfo=zoneinfo.ZoneInfo("UTC"))
IN_BERLIN = NOON.replace(tzinfo=BERLIN)
AT_TWO = NOON.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
DEEP = Node(1, [Node(2, [Node(Level.LOW)])])


def _with(value: Any, **attributes: Any) -> Any:
    for name, item in attributes.items():
        setattr(value, name, item)
    return value


def _private(count: int) -> Private:
    model = Private()
    model._count = count
    return model


def _read_once(value: Cached) -> Cached:
    assert value.double == 2 * value.count
    return value


# (type, value, refused at this path; None where it reads back equal)
KINDS: list[tuple[str, Any, Any, str | None]] = [
    ("none", None, None, None),
    ("bool", bool, True, None),
    ("int", int, 3, None),
    ("large int", int, 2**63, None),
    ("int in a float", float, 3, None),
    ("int a float cannot hold", float, 2**53 + 1, ""),
    ("enum in an int", int, Level.LOW, ""),
    ("float", float, 1.5, None),
    ("str", str, "é", None),
    ("enum in a str", str, Name.ANN, ""),
    ("bytes", bytes, b"\x00", None),
    ("bytearray in bytes", bytes, bytearray(b"a"), ""),
    ("list", list[int], [1, 2], None),
    ("tuple in a list", list[int], (1, 2), ""),
    ("tuple", tuple[int, ...], (1, 2), None),
    ("list in a tuple", tuple[int, ...], [1, 2], ""),
    ("pair", tuple[int, str], (1, "a"), None),
    ("set", set[int], {1, 2}, None),
    ("frozenset", frozenset[str], frozenset("ab"), None),
    ("set in a frozenset", frozenset[int], {1}, ""),
    ("dict", dict[str, int], {"a": 1}, None),
    ("dict of int keys", dict[int, str], {1: "a"}, None),
    ("defaultdict in a dict", dict[str, int], collections.defaultdict(int, a=1), ""),
    ("Counter in a dict", dict[str, int], collections.Counter("aab"), ""),
    ("OrderedDict in a dict", dict[str, int], collections.OrderedDict(a=1), ""),
    ("defaultdict deep", dict[str, dict[str, int]], {"a": collections.defaultdict(int)}, "['a']"),
    ("datetime", datetime.datetime, NOON, None),
    ("datetime in UTC", datetime.datetime, IN_UTC, None),
    ("datetime in a zone named UTC", datetime.datetime, IN_ZONE_UTC, None),
    ("datetime in a named zone", datetime.datetime, IN_BERLIN, ""),
    ("datetime with an offset", datetime.datetime, AT_TWO, ""),
    ("second two o'clock of a day", datetime.datetime, NOON.replace(fold=1), ""),
    ("the same in UTC", datetime.datetime, IN_UTC.replace(fold=1), ""),
    ("time with a zone", datetime.time, datetime.time(1, tzinfo=BERLIN), ""),
    ("flags", Permission, Permission.READ | Permission.WRITE, None),
    ("flag in an int", int, Permission.READ, ""),
    ("date", datetime.date, datetime.date(2026, 1, 2), None),
    ("time", datetime.time, datetime.time(1, 2, 3), None),
    ("timedelta", datetime.timedelta, datetime.timedelta(days=1, microseconds=1), None),
    ("uuid", uuid.UUID, uuid.UUID(int=3), None),
    ("decimal", decimal.Decimal, decimal.Decimal("1.10"), None),
    ("decimal beyond a float", decimal.Decimal, decimal.Decimal("-0.00E-999"), None),
    ("attribute of an open struct", Open, _with(Open(), colour=1), ".colour"),
    ("open struct", Open, Open("x"), None),
    ("attribute beside slots", Mixed, _with(Mixed(1), colour=1), ".colour"),
    ("slots and attributes", Mixed, Mixed(1, 2), None),
    ("enum", Colour, Colour.RED, None),
    ("literal", Literal["a", 1], "a", None),
    ("dataclass", Shape, Shape("x"), None),
    ("subclass of a dataclass", Shape, Circle("x", 2), ""),
    ("subclass in a list", list[Shape], [Shape(), Circle()], "[1]"),
    ("subclass of a struct", list[Struct], [SubStruct()], "[0]"),
    ("struct", Struct, Struct("x"), None),
    ("model", Model, Model(name="x"), None),
    ("subclass of a model", list[Model], [SubModel()], "[0]"),
    ("model with a private attribute", Private, _private(2), "._count"),
    ("computed as it is", Computed, Computed(2), None),
    ("computed and changed", Computed, _with(Computed(2), count=3), ".double"),
    ("attribute that is no field", Shape, _with(Shape(), colour=1), ".colour"),
    ("class variable of an object", Cached, _with(Cached(), limit=5), ".limit"),
    ("cached property", Cached, _read_once(Cached(2)), None),
    ("generic", Box[int], Box(1, [2]), None),
    ("subclass in a generic", Box[Shape], Box(Circle()), ".item"),
    ("tree", Node, Node(1, [Node(2, [Node(3)])], Node(4)), None),
    ("enum in a tree", Node, DEEP, ".children[0].children[0].value"),
    ("named tuple", Pair, Pair(1, 2), None),
    ("typed dict", Options, {"colour": "red"}, None),
    ("key that a typed dict lacks", Options, {"size": 1}, "['size']"),
    ("optional", int | None, 1, None),
    ("union", int | str | list[int], [1], None),
]  # fmt: skip

UNTYPED: list[tuple[Any, str | None]] = [
    (None, None),
    ({"a": [1, 2.5, "x", b"y", True, None]}, None),
    (IN_UTC, None),
    (NOON, ""),
    ((1, 2), ""),
    ({1, 2}, ""),
    ({"a": {"b": (1,)}}, "['a']['b']"),
    (collections.defaultdict(list), ""),
    ([collections.Counter("a")], "[0]"),
    ([Level.LOW], "[0]"),
    (Shape(), ""),
    (Struct(), ""),
    (Model(), ""),
    (Colour.RED, ""),
    (uuid.UUID(int=1), ""),
    (decimal.Decimal(1), ""),
    (datetime.date(2026, 1, 1), ""),
    (datetime.timedelta(1), ""),
    ({1: "int keys"}, None),
]


def _holder(kind: Any) -> Any:
    return dataclasses.make_dataclass("Holder", [("count", int), ("field", kind)])


def _saved(codec: StateCodec, state: Any) -> Any:
    """What comes back after a look at the end of an action. Raises InvalidStateType."""
    parts = codec.split(state)
    codec.verify(state, parts)
    return codec.join(parts)


WRAPPED: list[tuple[str, Any, Any]] = [
    ("%s", lambda kind: kind, lambda value: value),
    ("[0]%s", lambda kind: list[kind], lambda value: [value]),
    ("['k']%s", lambda kind: dict[str, kind], lambda value: {"k": value}),
    ("[0]['k'][0]%s", lambda kind: list[dict[str, list[kind]]], lambda value: [{"k": [value]}]),
]


@pytest.mark.parametrize(("path", "wrap_kind", "wrap"), WRAPPED, ids=[wrap[0] for wrap in WRAPPED])
@pytest.mark.parametrize(
    ("kind", "value", "refused"), [case[1:] for case in KINDS], ids=[case[0] for case in KINDS]
)
def test_a_typed_value_reads_back_equal_or_is_refused(
    kind: Any, value: Any, refused: str | None, path: str, wrap_kind: Any, wrap: Any
) -> None:
    """Row B of the faults that were seen: each of these changed without a word."""
    holder = _holder(wrap_kind(kind))
    state = holder(1, wrap(value))
    codec = StateCodec(holder)
    if refused is None:
        back = _saved(codec, state)
        assert back == state
        assert difference(state, back) is None
        return
    with pytest.raises(InvalidStateType) as caught:
        _saved(codec, state)
    assert str(caught.value).startswith(f"state.field{path % refused} cannot be saved: ")


@pytest.mark.parametrize(
    ("value", "refused"), UNTYPED, ids=[repr(case[0])[:40] for case in UNTYPED]
)
def test_an_untyped_value_reads_back_equal_or_is_refused(value: Any, refused: str | None) -> None:
    codec = StateCodec(dict[str, Any])
    if refused is None:
        assert _saved(codec, {"field": value}) == {"field": value}
        return
    with pytest.raises(InvalidStateType) as caught:
        _saved(codec, {"field": value})
    assert str(caught.value).startswith(f"state.field{refused} cannot be saved: ")


def test_a_state_that_computes_is_read_whole() -> None:
    codec = StateCodec(Computed)
    assert _saved(codec, Computed(4)) == Computed(4)
    state = Computed(4)
    state.count = 5
    with pytest.raises(
        InvalidStateType, match=r"^state\.double cannot be saved: 8 would come back as 10"
    ):
        _saved(codec, state)


def test_an_attribute_beside_the_fields_of_the_state_is_refused() -> None:
    codec = StateCodec(Shape)
    with pytest.raises(InvalidStateType, match=r"state\.colour .* not a field of Shape"):
        _saved(codec, _with(Shape("y"), colour=1))


def test_a_key_that_the_typed_dict_of_the_state_lacks_is_refused() -> None:
    codec = StateCodec(Options)
    with pytest.raises(InvalidStateType, match=r"state\.size cannot be saved"):
        _saved(codec, {"colour": "red", "size": 1})


def test_a_pydantic_state_of_a_subclass_is_refused() -> None:
    class State(pydantic.BaseModel):
        shapes: list[Model] = []

    codec = StateCodec(State)
    assert _saved(codec, State(shapes=[Model()])) == State(shapes=[Model()])
    with pytest.raises(InvalidStateType, match=r"state\.shapes\[0\] cannot be saved: a SubModel"):
        _saved(codec, State(shapes=[SubModel()]))


# --- The quick look says yes only where the walk does -----------------------------------------


def _lists(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner) | st.tuples(inner)


leaves: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers(-(2**63), 2**64 - 1) | st.just(Level.LOW)),
    (float, st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5)),
    (str, st.text(st.characters(exclude_categories=["Cs"])) | st.just(Name.ANN)),
    (bytes, st.binary() | st.just(bytearray(b"x"))),
    (bool, st.booleans()),
    (Colour, st.just(Colour.RED)),
    (datetime.datetime, st.sampled_from([NOON, IN_UTC, IN_BERLIN])),
    (Shape, st.sampled_from([Shape(), Circle(), _with(Shape(), extra=1)])),
    (Struct, st.sampled_from([Struct(), SubStruct()])),
    (Node, st.sampled_from([Node(1), Node(1, [Node(Level.LOW)]), Node(beside=Node())])),
    (Any, st.recursive(st.none() | st.integers(0, 9) | st.just(Level.LOW), _lists)),
]  # fmt: skip


def _nested(depth: int) -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    leaf = st.sampled_from(leaves)
    if depth == 0:
        return leaf
    inner = _nested(depth - 1)
    return (
        leaf
        | inner.map(lambda pair: (list[pair[0]], st.lists(pair[1], max_size=3)))
        | inner.map(lambda pair: (tuple[pair[0], ...], st.lists(pair[1], max_size=3).map(tuple)))
        | inner.map(
            lambda pair: (
                dict[str, pair[0]],
                st.dictionaries(st.sampled_from("ab"), pair[1])
                | st.just(collections.defaultdict(int)),
            )
        )
        | inner.map(lambda pair: (pair[0] | None, pair[1] | st.none()))
    )


@settings(max_examples=300)
@given(st.data())
def test_generated_types_and_values_come_back_equal_or_are_refused(data: st.DataObject) -> None:
    kind, strategy = data.draw(_nested(3))
    value = data.draw(strategy)
    try:
        encoded = values.encode(value)
        read = values.decoder(kind).decode(encoded)
    except (TypeError, ValueError, OverflowError):
        return
    certain = Faithful(kind)(value)
    if certain:
        assert difference(value, read) is None
    if difference(value, read) is None:
        assert read == value
