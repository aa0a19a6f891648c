"""State to parts and back: nothing is lost, and a change costs its own field."""

from __future__ import annotations

import datetime
import enum
import uuid
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.definition import StateCodec
from rivet_ray.definition.state import WHOLE
from rivet_ray.errors import InvalidStateType
from rivet_ray.protocol import values

text = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | text | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
)


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Data:
    count: int = 0
    names: list[str] = field(default_factory=list)
    points: dict[str, Point] = field(default_factory=dict)
    extra: Any = None


@dataclass(slots=True)
class Derived:
    count: int = 0
    double: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.count


class Struct(msgspec.Struct):
    first: int = 1
    second: list[int] = []


class Camel(msgspec.Struct, rename="camel"):
    first_name: str = "ann"
    tag_list: list[int] = []


class Sparse(msgspec.Struct, omit_defaults=True):
    a: int = 1
    b: int = 2


class Tagged(msgspec.Struct, tag="tagged"):
    a: int = 1


class Array(msgspec.Struct, array_like=True):
    a: int = 1
    b: int = 2


class Dict(TypedDict):
    a: int
    b: NotRequired[str]


class Model(pydantic.BaseModel):
    a: int = 0
    when: datetime.datetime | None = None
    points: list[Point] = []


class Alias(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    count: int = pydantic.Field(0, alias="theCount")

    @pydantic.computed_field
    def double(self) -> int:
        return 2 * self.count


WHEN = datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)

STATES: list[tuple[Any, Any, set[str]]] = [
    (
        Data,
        Data(3, ["a"], {"k": Point(1, 2)}, {"a": [1]}),
        {"count", "names", "points", "extra"},
    ),
    (Derived, Derived(4), {"count", "double"}),
    (Struct, Struct(5, [1]), {"first", "second"}),
    (Camel, Camel("bob", [1]), {"firstName", "tagList"}),
    (Sparse, Sparse(1, 3), {"a", "b"}),
    (Tagged, Tagged(4), {"a"}),
    (Array, Array(1, 3), {WHOLE}),
    (Dict, {"a": 1}, {"a"}),
    (Dict, {"a": 1, "b": "x"}, {"a", "b"}),
    (Model, Model(a=1, when=WHEN, points=[Point(1)]), {"a", "when", "points"}),
    (Alias, Alias(theCount=5), {"theCount"}),
    (dict, {"a": 1, "b": [2]}, {"a", "b"}),
    (dict, {}, {WHOLE}),
    (dict, {"": 1}, {WHOLE}),
    (dict, {1: 2}, {WHOLE}),
    (dict[str, Point], {"a": Point(1)}, {"a"}),
    (dict[int, str], {1: "a"}, {WHOLE}),
    (list, [1, "a", None], {WHOLE}),
    (list[Point], [Point(1)], {WHOLE}),
    (set[int], {1, 2}, {WHOLE}),
    (tuple[int, str], (1, "a"), {WHOLE}),
    (int, 5, {WHOLE}),
    (float, 0.1, {WHOLE}),
    (str, "x", {WHOLE}),
    (bytes, b"\xff", {WHOLE}),
    (bool, False, {WHOLE}),
    (Colour, Colour.RED, {WHOLE}),
    (uuid.UUID, uuid.UUID(int=1), {WHOLE}),
    (datetime.datetime, WHEN, {WHOLE}),
    (None, None, {WHOLE}),
    (type(None), None, {WHOLE}),
    (Any, None, {WHOLE}),
    (Any, {"a": 1}, {"a"}),
    (Any, [1], {WHOLE}),
    (Point | None, None, {WHOLE}),
    (Point | None, Point(1), {WHOLE}),
    (dict[str, int] | None, {"a": 1}, {"a"}),
    (int | str, "x", {WHOLE}),
]


@pytest.mark.parametrize(("kind", "state", "names"), STATES, ids=repr)
def test_a_state_comes_back(kind: Any, state: Any, names: set[str]) -> None:
    """C2: what was saved is what the next instance starts with."""
    codec = StateCodec(kind)
    parts = codec.split(state)
    assert set(parts) == names
    assert all(type(part) is bytes for part in parts.values())
    found = codec.join(parts)
    assert found == state
    assert type(found) is type(state)
    assert codec.split(found) == parts


@given(st.dictionaries(text, plain) | plain)
def test_any_plain_state_comes_back(state: Any) -> None:
    codec = StateCodec(Any)
    assert codec.join(codec.split(state)) == state


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 300, 70_000])
def test_any_number_of_fields(size: int) -> None:
    codec = StateCodec(dict[str, int])
    state = {f"field {number}": number for number in range(size)}
    assert codec.join(codec.split(state)) == state


def test_the_order_of_parts_does_not_matter() -> None:
    codec = StateCodec(Data)
    state = Data(1, ["a"])
    parts = codec.split(state)
    assert codec.join(dict(reversed(parts.items()))) == state


# --- What changed -----------------------------------------------------------------------


def changed(codec: StateCodec, before: dict[str, bytes], state: Any) -> set[str]:
    after = codec.split(state)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_only_the_changed_field_differs() -> None:
    codec = StateCodec(Data)
    state = Data(1, ["a"], {"k": Point(1)}, {"x": [1]})
    before = codec.split(state)
    assert changed(codec, before, state) == set()
    state.count = 2
    assert changed(codec, before, state) == {"count"}
    state.count = 1
    state.points["k"].y = 5
    assert changed(codec, before, state) == {"points"}
    state.points["k"].y = 0
    state.extra["x"].append(2)
    assert changed(codec, before, state) == {"extra"}


def test_only_the_changed_key_differs() -> None:
    codec = StateCodec(dict[str, int])
    state = {"a": 1, "b": 2}
    before = codec.split(state)
    state["b"] = 3
    state["c"] = 4
    del state["a"]
    assert changed(codec, before, state) == {"a", "b", "c"}
    state.clear()
    assert changed(codec, before, state) == {"a", "b", WHOLE}


def test_parts_do_not_change_with_the_state() -> None:
    codec = StateCodec(Data)
    state = Data(names=["a"])
    parts = codec.split(state)
    state.names.append("b")
    assert codec.join(parts) == Data(names=["a"])


# --- Another version of the class ---------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        (Data, "count", Data(5)),
        (Struct, "first", Struct(5)),
        (Camel, "firstName", None),
        (Model, "a", Model(a=5)),
        (Alias, "theCount", Alias(theCount=5)),
        (Sparse, "b", Sparse(b=5)),
    ],
)
def test_missing_fields_take_their_defaults(kind: Any, name: str, expected: Any) -> None:
    codec = StateCodec(kind)
    assert codec.join({}) == kind()
    value = values.encode(5) if expected is not None else values.encode("bob")
    assert codec.join({name: value}) == (expected if expected is not None else Camel("bob"))


def test_a_field_that_is_no_more_is_ignored() -> None:
    assert StateCodec(Data).join({"old": values.encode(1), "count": values.encode(2)}) == Data(2)


@pytest.mark.parametrize(
    ("kind", "parts", "place"),
    [
        (Data, {"count": "x"}, r"\$\.count"),
        (Data, {"points": {"k": {}}}, r"\$\.points\[\.\.\.\]"),
        (Dict, {"b": "x"}, "missing required field `a`"),
        (int, {WHOLE: "x"}, "Expected `int`"),
        (Model, {"a": "x"}, "a: Input should be a valid integer"),
    ],
)
def test_parts_that_do_not_fit_are_told(kind: Any, parts: dict[str, Any], place: str) -> None:
    encoded = {name: values.encode(value) for name, value in parts.items()}
    with pytest.raises(msgspec.ValidationError, match=place):
        StateCodec(kind).join(encoded)


# --- What cannot be saved ----------------------------------------------------------------


class Opaque:
    pass


class Loose(pydantic.BaseModel):
    a: int = 0
    b: Any = None


def looped() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("kind", "state", "path", "reason"),
    [
        (Data, Data(extra=Opaque()), "state.extra", "of type Opaque"),
        (Data, Data(extra={"a": [1, {"b": Opaque()}]}), "state.extra['a'][1]['b']", "Opaque"),
        (Data, Data(names=["a", Opaque()]), "state.names[1]", "Opaque"),  # type: ignore[list-item]
        (Data, Data(extra=Point(Opaque())), "state.extra.x", "Opaque"),  # type: ignore[arg-type]
        (Data, Data(extra=Struct(Opaque())), "state.extra.first", "Opaque"),  # type: ignore
        (Data, Data(extra={1: (1, Opaque())}), "state.extra[1][1]", "Opaque"),
        (Data, Data(extra={Opaque(): 1}), "state.extra", "Opaque"),
        (Data, Data(extra=2**70), "state.extra", "ints"),
        (Data, Data(extra=["\ud800"]), "state.extra[0]", "surrogates"),
        (Data, Data(extra=lambda: 1), "state.extra", "of type function"),
        (Data, Data(extra=looped()), "state.extra", "it contains itself"),
        (Camel, Camel(tag_list=[Opaque()]), "state.tagList[0]", "Opaque"),  # type: ignore
        (Dict, {"a": Opaque()}, "state.a", "Opaque"),
        (dict, {1: Opaque()}, "state[1]", "Opaque"),
        (list, [1, [Opaque()]], "state[1][0]", "Opaque"),
        (int, Opaque(), "state", "Opaque"),
        (Any, {"a": {"b": Opaque()}}, "state.a['b']", "Opaque"),
        (Loose, Loose(b=[Opaque()]), "state.b[0]", "Opaque"),
    ],
)
def test_what_cannot_be_saved_is_named(kind: Any, state: Any, path: str, reason: str) -> None:
    with pytest.raises(InvalidStateType) as raised:
        StateCodec(kind).split(state)
    message = str(raised.value)
    assert message.startswith(f"{path} cannot be saved: ")
    assert reason in message
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize("state", [None, {"count": 1}, 5, Point(1)])
def test_a_state_of_another_class_is_refused(state: Any) -> None:
    """`self.state = …` with something else: an error of that action, not of the host."""
    for kind in (Data, Struct, Model):
        with pytest.raises(InvalidStateType):
            StateCodec(kind).split(state)


def test_a_field_that_was_removed_is_told() -> None:
    state = Derived()
    del state.count
    with pytest.raises(InvalidStateType, match="count"):
        StateCodec(Derived).split(state)


# --- New states ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Data, Data()),
        (Struct, Struct()),
        (Model, Model()),
        (Dict, {}),
        (dict, {}),
        (dict[str, int], {}),
        (list[int], []),
        (int, 0),
        (str, ""),
        (None, None),
        (type(None), None),
        (Any, None),
    ],
)
def test_a_new_state(kind: Any, expected: Any) -> None:
    codec = StateCodec(kind)
    assert codec.default() == expected
    first = codec.default()
    if expected is not None and not isinstance(expected, (int, str)):
        assert codec.default() is not first


@pytest.mark.parametrize("kind", [Point, Point | None, int | None])
def test_some_have_no_default(kind: Any) -> None:
    with pytest.raises(TypeError):
        StateCodec(kind).default()


def test_a_value_that_is_still_there_is_not_encoded_again() -> None:
    codec, long = StateCodec(Data), "x" * 10
    state = Data(names=["a"], extra=long)
    known = codec.unchanging(state, codec.split(state))
    assert known == {"extra": (long, values.encode(long))}, "a list may change in its place"
    assert codec.split(state, known={"extra": (long, b"as it was")})["extra"] == b"as it was"
    state.extra = "".join(["x"] * 10)
    assert state.extra is not long
    assert codec.split(state, known={"extra": (long, b"as it was")}) == codec.split(state)
