"""Arguments from the wire are checked against annotations, and each failure names its parameter."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, NotRequired, Optional, TypedDict

import msgspec
import pydantic
import pytest
import typing_extensions

from rivet_ray.definition.arguments import Arguments
from rivet_ray.errors import InvalidArgument, Outcome
from rivet_ray.protocol import values


@dataclass
class Point:
    x: int
    y: int = 0


class Struct(msgspec.Struct, rename="camel"):
    first_name: str


class Dict(TypedDict):
    a: int
    b: NotRequired[str]


class Model(pydantic.BaseModel):
    a: int
    b: str = "x"


class Colour(enum.Enum):
    RED = "red"


UserId = NewType("UserId", int)


def compiled(function: Callable[..., Any]) -> Arguments:
    return Arguments(function, typing_extensions.get_type_hints(function, include_extras=True))


def decode(function: Callable[..., Any], *given: Any) -> tuple[Any, ...]:
    return compiled(function).decode(values.encode(list(given)))


def failure(function: Callable[..., Any], *given: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as raised:
        decode(function, *given)
    return raised.value


def three(self: object, a: int, b: str = "x", c: Point | None = None) -> None: ...


# --- How many ---------------------------------------------------------------------------


def test_defaults_fill_what_is_not_given() -> None:
    assert decode(three, 1) == (1, "x", None)
    assert decode(three, 1, "y") == (1, "y", None)
    assert decode(three, 1, "y", {"x": 2}) == (1, "y", Point(2, 0))


def test_a_missing_argument_is_named() -> None:
    error = failure(three)
    assert error.parameter == "a"
    assert str(error) == "a: this argument is missing"

    def two(self: object, a: int, b: int) -> None: ...

    assert str(failure(two, 1)) == "b: this argument is missing"


def test_too_many_arguments_are_refused() -> None:
    assert str(failure(three, 1, "x", None, 4)) == "arguments: at most 3 can be given, got 4"

    def none(self: object) -> None: ...

    assert decode(none) == ()
    assert str(failure(none, 1)) == "arguments: at most 0 can be given, got 1"


@pytest.mark.parametrize("given", [None, 5, "text", {"a": 1}, b"x"])
def test_arguments_are_a_list(given: Any) -> None:
    with pytest.raises(InvalidArgument, match="arguments: they must be a list"):
        compiled(three).decode(values.encode(given))


def test_a_default_is_kept_as_it_is() -> None:
    """Defaults are Python's own: neither copied nor checked."""
    default = Point(1)

    def defaulted(
        self: object,
        a: str = 1,  # type: ignore[assignment]
        b: Point = default,
        c: Any = print,  # type: ignore[assignment]
    ) -> None: ...

    found = decode(defaulted)
    assert found == (1, default, print)
    assert found[1] is default


def test_none_stands_for_a_default_that_is_something() -> None:
    """JavaScript writes an argument that is undefined as null, unless it is the last."""

    def defaulted(
        self: object,
        a: int = 5,
        b: int | None = 6,
        c: Any = 7,
        d: Model = Model(a=8),  # noqa: B008
        e: list[int] = [9],  # noqa: B006
        *rest: int,
    ) -> None: ...

    assert decode(defaulted, None, None, None) == (5, None, None, Model(a=8), [9])
    assert decode(defaulted, 1, 2, 3, None, None, 4) == (1, 2, 3, Model(a=8), [9], 4)
    assert str(failure(defaulted, "1")) == "a: Expected `int`, got `str`"
    assert str(failure(defaulted, 1, 2, 3, None, [None])).startswith("e: Expected `int`, got ")
    assert str(failure(three, None)).startswith("a: Expected `int`, got ")


def test_required() -> None:
    assert compiled(three).required == 1
    assert compiled(lambda self: None).required == 0


# --- Which types --------------------------------------------------------------------------


def everything(
    self: object,
    point: Point,
    struct: Struct,
    dict_: Dict,
    model: Model,
    numbers: list[int],
    mapping: dict[str, int],
    choice: Literal["a", "b", 3],
    either: int | str | None,
    maybe: Optional[Model],  # noqa: UP045
    pair: tuple[int, str],
    unique: set[int],
    when: datetime.datetime,
    ident: uuid.UUID,
    price: decimal.Decimal,
    colour: Colour,
    user: UserId,
    positive: Annotated[int, msgspec.Meta(gt=0)],
    data: bytes,
    anything: Any,
    bare,  # type: ignore[no-untyped-def]
) -> None: ...


UUID = "12345678-1234-5678-1234-567812345678"
GOOD: dict[str, tuple[Any, Any]] = {
    "point": ({"x": 1}, Point(1)),
    "struct": ({"firstName": "ann"}, Struct("ann")),
    "dict_": ({"a": 1}, {"a": 1}),
    "model": ({"a": 1}, Model(a=1)),
    "numbers": ([1, 2], [1, 2]),
    "mapping": ({"k": 1}, {"k": 1}),
    "choice": (3, 3),
    "either": ("x", "x"),
    "maybe": (None, None),
    "pair": ([1, "x"], (1, "x")),
    "unique": ([1, 1], {1}),
    "when": ("2020-01-02T03:04:05Z", datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)),
    "ident": (UUID, uuid.UUID(UUID)),
    "price": ("1.10", decimal.Decimal("1.10")),
    "colour": ("red", Colour.RED),
    "user": (7, 7),
    "positive": (1, 1),
    "data": (b"\xff", b"\xff"),
    "anything": ({"a": [1]}, {"a": [1]}),
    "bare": ([None], [None]),
}
BAD: list[tuple[str, Any, str]] = [
    ("point", {"x": "1"}, "Expected `int`, got `str` at .x"),
    ("point", {}, "Object missing required field `x`"),
    ("point", [1], "Expected `object`, got `array`"),
    ("struct", {"first_name": "ann"}, "Object missing required field `firstName`"),
    ("struct", {"firstName": 1}, "Expected `str`, got `int` at .firstName"),
    ("dict_", {"b": "x"}, "Object missing required field `a`"),
    ("dict_", {"a": 1, "b": 2}, "Expected `str`, got `int` at .b"),
    ("model", {"a": "x"}, "a: Input should be a valid integer"),
    ("model", {}, "a: Field required"),
    ("numbers", [1, "x"], "Expected `int`, got `str` at [1]"),
    ("numbers", None, "Expected `array`, got `None`"),
    ("mapping", {"k": "x"}, "Expected `int`, got `str` at [...]"),
    ("mapping", {1: 1}, "Expected `str`, got `int` in a key"),
    ("choice", "c", "Invalid enum value 'c'"),
    ("either", 1.5, "Expected `int | str | null`, got `float`"),
    ("maybe", {"a": None}, "a: Input should be a valid integer"),
    ("pair", [1], "Expected `array` of length 2, got 1"),
    ("pair", [1, 2], "Expected `str`, got `int` at [1]"),
    ("unique", ["x"], "Expected `int`, got `str` at [0]"),
    ("when", "yesterday", "Invalid RFC3339 encoded datetime"),
    ("ident", "x", "Invalid UUID"),
    ("price", "x", "Invalid decimal string"),
    ("colour", "blue", "Invalid enum value 'blue'"),
    ("user", "7", "Expected `int`, got `str`"),
    ("positive", 0, "Expected `int` >= 1"),
    ("data", 1, "Expected `bytes`, got `int`"),
]


def test_good_arguments() -> None:
    found = decode(everything, *(given for given, _ in GOOD.values()))
    assert dict(zip(GOOD, found, strict=True)) == {
        name: expected for name, (_, expected) in GOOD.items()
    }


@pytest.mark.parametrize(("name", "given", "problem"), BAD)
def test_a_bad_argument_is_named(name: str, given: Any, problem: str) -> None:
    """Its own parameter, whatever the others are, and the place inside it."""
    items = {key: value for key, (value, _) in GOOD.items()} | {name: given}
    error = failure(everything, *items.values())
    assert error.parameter == name
    assert str(error).startswith(f"{name}: {problem}")
    assert error.metadata["parameter"] == name
    assert "$" not in str(error)
    assert error.outcome is Outcome.NOT_STARTED


def test_the_place_is_told_deep_inside() -> None:
    def deep(self: object, d: dict[str, list[Point]], rest: int = 0) -> None: ...

    error = failure(deep, {"k": [{"x": 1}, {"x": "no"}]})
    assert str(error) == "d: Expected `int`, got `str` at [...][1].x"


def test_a_bad_key_names_its_parameter_and_not_one_that_was_left_out() -> None:
    def keyed(self: object, d: list[dict[int, int]], rest: int = 0) -> None: ...

    assert str(failure(keyed, [{"a": 1}])) == "d: Expected `int`, got `str` in a key at [0]"


def test_a_model_inside_a_list_tells_its_field() -> None:
    def listed(self: object, items: list[Model]) -> None: ...

    error = failure(listed, [{"a": 1}, {"a": "no"}])
    assert error.parameter == "items"
    assert "a: Input should be a valid integer" in str(error)


def test_unknown_fields_are_ignored() -> None:
    """A newer client may send more than we know."""
    assert decode(three, 1, "x", {"x": 1, "z": 3}) == (1, "x", Point(1))


# --- Any number -----------------------------------------------------------------------------


def several(self: object, a: int, *rest: str) -> None: ...


def test_any_number_of_arguments() -> None:
    assert decode(several, 1) == (1,)
    assert decode(several, 1, "a", "b") == (1, "a", "b")

    def untyped(self: object, *rest: Any) -> None: ...

    assert decode(untyped) == ()
    assert decode(untyped, 1, {"a": 2}, None) == (1, {"a": 2}, None)

    def points(self: object, *rest: Point) -> None: ...

    assert decode(points, {"x": 1}, {"x": 2}) == (Point(1), Point(2))


def test_a_bad_one_of_them_is_named() -> None:
    assert str(failure(several, 1, "a", 3)) == "*rest: Expected `str`, got `int` at [1]"
    assert failure(several, 1, "a", 3).parameter == "*rest"
    assert str(failure(several, "x", "y")) == "a: Expected `int`, got `str`"
    assert str(failure(several)) == "a: this argument is missing"


# --- As a caller writes them ----------------------------------------------------------------


def mixed(self: object, a: int, b: int = 2, c: int = 3) -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((1,), {}, [1]),
        ((), {"a": 1}, [1]),
        ((1,), {"b": 7}, [1, 7]),
        ((1,), {"c": 7}, [1, 2, 7]),
        ((), {"b": 7, "a": 1}, [1, 7]),
        ((1, 2, 3), {}, [1, 2, 3]),
    ],
)
def test_named_arguments_become_positional(
    args: tuple[Any, ...], kwargs: dict[str, Any], expected: list[Any]
) -> None:
    """Defaults stay the server's business, but for those before a named argument."""
    assert compiled(mixed).positional(args, kwargs) == expected


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((), {"b": 1}, "missing a required argument: 'a'"),
        ((1, 2, 3, 4), {}, "too many positional arguments"),
        ((1,), {"a": 1}, "multiple values for argument 'a'"),
        ((1,), {"z": 1}, "unexpected keyword argument 'z'"),
        ((), {"self": 1, "a": 1}, "multiple values for argument 'self'"),
    ],
)
def test_a_wrong_call_fails_as_the_method_would(
    args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        compiled(mixed).positional(args, kwargs)


def test_positional_only_and_rest() -> None:
    def only(self: object, a: int, /, b: int) -> None: ...

    assert compiled(only).positional((1,), {"b": 2}) == [1, 2]
    with pytest.raises(TypeError, match="'a' parameter is positional only"):
        compiled(only).positional((), {"a": 1, "b": 2})
    assert decode(only, 1, 2) == (1, 2)
    assert compiled(several).positional((1, "a", "b"), {}) == [1, "a", "b"]


@dataclass
class File:
    name: str
    content: bytes


def test_bytes_that_came_as_json_are_base64() -> None:
    """JSON has no bytes; what answers say in base64, arguments may say so too."""

    def plain(self: object, file: File, count: int, mark: bytes = b"") -> None: ...

    given = {"name": "a", "content": "aGk="}
    assert decode(plain, given, 1, "eA==") == (File("a", b"hi"), 1, b"x")
    assert decode(plain, {"name": "a", "content": b"hi"}, 1) == (File("a", b"hi"), 1, b"")
    with pytest.raises(InvalidArgument) as wrong:
        decode(plain, given, "one")
    assert wrong.value.metadata == {"parameter": "count", "problem": "Expected `int`, got `str`"}
    with pytest.raises(InvalidArgument, match="file"):
        decode(plain, {"name": "a", "content": "no base64!"}, 1)
