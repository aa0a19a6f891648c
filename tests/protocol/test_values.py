"""Values as msgpack: what is kept comes back."""

from __future__ import annotations

import contextlib
import datetime
import enum
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.protocol import values

UTC = datetime.UTC
text = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | st.binary()
    | st.datetimes(timezones=st.just(UTC))
)
plain = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner))


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float = 0.5


class Line(msgspec.Struct):
    points: list[Point]


class Options(TypedDict):
    deep: bool


class User(pydantic.BaseModel):
    name: str
    born: datetime.date
    friends: list[User] = []


@given(value=plain)
def test_plain_values_come_back(value: Any) -> None:
    """Every plain value is read as it was written, without a type to help."""
    assert values.decode(values.encode(value)) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Point, Point(1)),
        (Line, Line([Point(1), Point(2, 1.5)])),
        (Options, {"deep": True}),
        (Colour, Colour.RED),
        (uuid.UUID, uuid.UUID(int=5)),
        (Decimal, Decimal("1.50")),
        (set[int], {1, 2}),
        (tuple[int, str], (1, "a")),
        (dict[int, str], {1: "a"}),
        (datetime.datetime, datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (datetime.datetime, datetime.datetime(2024, 1, 2, 3, 4, 5)),
        (datetime.date, datetime.date(2024, 1, 2)),
        (User, User(name="a", born=datetime.date(2024, 1, 2))),
        (
            list[User],
            [User(name="a", born="2024-01-02", friends=[User(name="b", born="2024-01-02")])],
        ),
    ],
    ids=str,
)
def test_typed_values_come_back(kind: Any, value: Any) -> None:
    """Every kind of value that the documentation names is read as what it was."""
    read = values.decoder(kind).decode(values.encode(value))
    assert read == value
    assert type(read) is type(value)


def test_pydantic_models_travel_as_their_json_form() -> None:
    """A model is written as `model_dump(mode="json")` wherever it stands."""
    user = User(name="a", born=datetime.date(2024, 1, 2))
    assert values.decode(values.encode({"user": [user]})) == {
        "user": [user.model_dump(mode="json")]
    }


def test_pydantic_problems_name_their_place() -> None:
    """What a model refuses is a msgspec error that says where and why."""
    data = values.encode({"name": 1, "friends": [{"born": "2024-01-02"}]})
    with pytest.raises(msgspec.ValidationError) as caught:
        values.decoder(User).decode(data)
    message = str(caught.value)
    assert "name: " in message
    assert "born: " in message
    assert "friends.0.name: " in message


def test_is_pydantic_model() -> None:
    """Only classes that derive from pydantic's BaseModel are models."""
    assert values.is_pydantic_model(User)
    assert not values.is_pydantic_model(User(name="a", born="2024-01-02"))  # type: ignore[arg-type]
    assert not values.is_pydantic_model(Point)
    assert not values.is_pydantic_model(None)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (object(), TypeError),
        ([lambda: None], TypeError),
        (2**64, OverflowError),
        (-(2**63) - 1, OverflowError),
        ("\ud800", UnicodeEncodeError),
    ],
    ids=["object", "function", "too large", "too small", "surrogate"],
)
def test_what_cannot_be_kept(value: Any, fault: type[Exception]) -> None:
    """A value that could not come back is refused when it is given."""
    with pytest.raises(fault):
        values.encode(value)


def test_an_unknown_type_is_named() -> None:
    """The error says which type it was."""
    with pytest.raises(TypeError, match="a value of type object cannot be saved or sent"):
        values.encode({"a": object()})


def test_a_type_that_cannot_be_read() -> None:
    """A class that msgspec and pydantic do not know is named when a value arrives."""

    class Strange:
        pass

    with pytest.raises(msgspec.ValidationError, match="Strange cannot be read"):
        values.decoder(Strange).decode(values.NULL)


@given(data=st.binary(max_size=100))
def test_random_bytes(data: bytes) -> None:
    """Bytes that are not msgpack raise a ValueError (msgspec's or of UTF-8), or are a value."""
    with contextlib.suppress(ValueError):
        values.decode(data)


def test_constants() -> None:
    """The two values that are used most are written once."""
    assert values.decode(values.NULL) is None
    assert values.decode(values.EMPTY_ARRAY) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), [1.0, {"a": float("-inf")}]])
def test_what_json_has_no_form_for_is_refused(bad: object) -> None:
    """A value that could be saved but never sent does not get in."""
    with pytest.raises(ValueError, match="NaN and Infinity"):
        values.encode(bad)


def test_very_large_numbers_are_none_of_them() -> None:
    """The quick look at the bytes is followed by a real one."""
    for number in (1.7e308, -1.7e308):
        assert values.decode(values.encode([number, "\u4b7f"])) == [number, "\u4b7f"]
