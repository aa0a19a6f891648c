"""Kinds of value that a program may keep, and whether each reads back as it is.

`same` says whether two values are the same. It shares no code with what is under test.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypedDict, cast

import msgspec
import pydantic

UTC = datetime.UTC
NOON = datetime.datetime(2026, 7, 1, 12)
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@dataclass
class Shape:
    name: str = "shape"


@dataclass
class Circle(Shape):
    radius: int = 1


@dataclass
class Computed:
    count: int = 0
    double: int = 0

    def __post_init__(self) -> None:
        self.double = 2 * self.count


@dataclass(frozen=True)
class Frozen:
    at: tuple[int, int] = (0, 0)


@dataclass
class Tree:
    value: int = 0
    children: list[Tree] = field(default_factory=list["Tree"])


class Struct(msgspec.Struct):
    name: str = "s"


class SubStruct(Struct):
    more: int = 1


class Open(msgspec.Struct, dict=True):
    name: str = "s"


class Row(msgspec.Struct, array_like=True, rename="camel"):
    first_name: str = ""
    age: int = 0


class Square(msgspec.Struct, tag=True):
    side: int = 1


class Line(msgspec.Struct, tag=True):
    length: int = 1


class Model(pydantic.BaseModel):
    name: str = "m"
    when: datetime.datetime | None = None


class SubModel(Model):
    more: int = 1


class Private(pydantic.BaseModel):
    name: str = "m"
    _count: int = 0


class Extra(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    name: str = "m"


class Area(pydantic.BaseModel):
    side: int = 1

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2


class Aliased(pydantic.BaseModel):
    first_name: str = pydantic.Field(default="", alias="firstName")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Name(str, enum.Enum):
    ANN = "ann"


class Permission(enum.IntFlag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict, total=False):
    colour: str


class Text(str):
    __slots__ = ()


class Mapping(dict[str, int]):
    pass


def _with(value: Any, **attributes: Any) -> Any:
    for name, item in attributes.items():
        vars(value)[name] = item
    return value


def _private() -> Private:
    model = Private()
    model._count = 2
    return model


def _changed() -> Computed:
    value = Computed(2)
    value.count = 5
    return value


def _holds_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@dataclass(frozen=True)
class Kind:
    """A kind of value; `make` gives another one each time, that nobody has changed."""

    name: str
    type: Any
    make: Callable[[], Any]
    typed: bool
    """It reads back in a place of its type; otherwise it is refused."""
    untyped: bool
    """The same in a place without a type."""


def _kinds() -> list[Kind]:
    found: list[Kind] = []

    def add(name: str, kind: Any, make: Callable[[], Any], kept: str = "") -> None:
        found.append(Kind(name, kind, make, "t" in kept, "u" in kept))

    add("none", int | None, lambda: None, "tu")
    add("bool", bool, lambda: True, "tu")
    add("int", int, lambda: 3, "tu")
    add("largest int", int, lambda: 2**64 - 1, "tu")
    add("huge int", int, lambda: 2**64)
    add("bool in an int", int, lambda: True, "u")
    add("IntEnum in an int", int, lambda: Level.LOW)
    add("IntFlag in an int", int, lambda: Permission.READ)
    add("float", float, lambda: 1.5, "tu")
    add("negative zero", float, lambda: -0.0, "tu")
    add("NaN", float, lambda: math.nan)
    add("infinity", float, lambda: math.inf)
    add("int that no float holds", float, lambda: 2**53 + 1, "u")
    add("complex", Any, lambda: 1j)
    add("fraction", Any, lambda: fractions.Fraction(1, 3))
    add("text", str, lambda: "é\0🎉", "tu")
    add("lone surrogate", str, lambda: "\ud800")
    add("text of another class", str, lambda: Text("x"))
    add("str enum in a str", str, lambda: Name.ANN)
    add("bytes", bytes, lambda: b"\0\xff", "tu")
    add("bytearray in bytes", bytes, lambda: bytearray(b"a"))
    add("memoryview in bytes", bytes, lambda: memoryview(b"a"))
    add("list", list[int], lambda: [1, 2], "tu")
    add("list of mixed", list[Any], lambda: [1, 2.5, "x", b"y", None, [True]], "tu")
    add("bool in a list of ints", list[int], lambda: [1, True], "u")
    add("tuple in a list", list[int], lambda: (1, 2))
    add("range in a list", list[int], lambda: range(3))
    add("deque in a list", list[int], lambda: collections.deque([1]))
    add("deep list", Any, lambda: _deep(60), "tu")
    add("list that holds itself", Any, _holds_itself)
    add("tuple", tuple[int, ...], lambda: (1, 2), "t")
    add("pair", tuple[int, str], lambda: (1, "a"), "t")
    add("list in a tuple", tuple[int, ...], lambda: [1, 2], "u")
    add("named tuple", Pair, lambda: Pair(1, "b"), "t")
    add("named tuple in a tuple", tuple[int, str], lambda: Pair(1, "b"))
    add("set", set[int], lambda: {1, 2}, "t")
    add("frozenset", frozenset[str], lambda: frozenset("ab"), "t")
    add("set in a frozenset", frozenset[int], lambda: {1})
    add("set of tuples", set[tuple[int, str]], lambda: {(1, "a")}, "t")
    add("dict", dict[str, int], lambda: {"b": 1, "a": 2}, "tu")
    add("dict of int keys", dict[int, str], lambda: {1: "a"}, "tu")
    add("dict of tuple keys", dict[tuple[int, int], str], lambda: {(1, 2): "a"}, "tu")
    add("defaultdict", dict[str, int], lambda: collections.defaultdict(int, a=1))
    add("Counter", dict[str, int], lambda: collections.Counter("aab"))
    add("OrderedDict", dict[str, int], lambda: collections.OrderedDict(a=1))
    add("dict of another class", dict[str, int], lambda: Mapping(a=1))
    add("defaultdict deep", dict[str, Any], lambda: {"a": [collections.defaultdict(int)]})
    add("typed dict", Options, lambda: {"colour": "red"}, "tu")
    add("key that a typed dict lacks", Options, lambda: {"size": 1}, "u")
    add("datetime", datetime.datetime, lambda: NOON, "t")
    add("datetime in UTC", datetime.datetime, lambda: NOON.replace(tzinfo=UTC), "tu")
    add("datetime in a named zone", datetime.datetime, lambda: NOON.replace(tzinfo=BERLIN))
    add(
        "datetime with an offset",
        datetime.datetime,
        lambda: NOON.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    )
    add("datetime with a fold", datetime.datetime, lambda: NOON.replace(fold=1))
    add("datetime in UTC with a fold", datetime.datetime, lambda: NOON.replace(fold=1, tzinfo=UTC))
    add("date", datetime.date, lambda: datetime.date(2026, 1, 2), "t")
    add("time", datetime.time, lambda: datetime.time(1, 2, 3, 4), "t")
    add("time with a fold", datetime.time, lambda: datetime.time(1, fold=1))
    add("timedelta", datetime.timedelta, lambda: datetime.timedelta(-1, 1, 1), "t")
    add("longest timedelta", datetime.timedelta, lambda: datetime.timedelta.max, "t")
    add("decimal", decimal.Decimal, lambda: decimal.Decimal("-1.10"), "t")
    add("decimal NaN", decimal.Decimal, lambda: decimal.Decimal("NaN"), "t")
    add("uuid", uuid.UUID, lambda: uuid.UUID(int=3), "t")
    add("path", Any, lambda: pathlib.PurePosixPath("/a"))
    add("enum", Colour, lambda: Colour.RED, "t")
    add("IntEnum", Level, lambda: Level.LOW, "t")
    add("flags", Permission, lambda: Permission.READ | Permission.WRITE, "t")
    add("literal", Literal["a", 1], lambda: "a", "tu")
    add("dataclass", Shape, lambda: Shape("x"), "t")
    add("frozen dataclass", Frozen, lambda: Frozen((1, 2)), "t")
    add("list in a frozen dataclass", Frozen, lambda: Frozen(cast("Any", [1, 2])))
    add("derived dataclass", Shape, lambda: Circle("x", 2))
    add("derived dataclass in a list", list[Shape], lambda: [Shape(), Circle()])
    add("attribute beside a dataclass", Shape, lambda: _with(Shape(), colour=1))
    add("computed", Computed, lambda: Computed(2), "t")
    add("computed and changed", Computed, _changed)
    add("tree", Tree, lambda: Tree(1, [Tree(2, [Tree(3)])]), "t")
    add("enum in a tree", Tree, lambda: Tree(1, [Tree(Level.LOW)]))
    add("struct", Struct, lambda: Struct("x"), "t")
    add("derived struct", Struct, lambda: SubStruct("x"))
    add("attribute beside a struct", Open, lambda: _with(Open(), colour=1))
    add("struct as a list", Row, lambda: Row("Ann", 3), "t")
    add("tagged union", list[Square | Line], lambda: [Square(2), Line(3)], "t")
    add("model", Model, lambda: Model(name="x"), "t")
    add("model with a time", Model, lambda: Model(when=NOON.replace(tzinfo=UTC)), "t")
    add("model with a named zone", Model, lambda: Model(when=NOON.replace(tzinfo=BERLIN)))
    add("derived model", Model, lambda: SubModel())
    add("private attribute of a model", Private, _private)
    add("extra field of a model", Extra, lambda: Extra(name="x", size=[1]), "t")  # type: ignore[call-arg]
    add("computed field of a model", Area, lambda: Area(side=3), "t")
    add("alias of a model", Aliased, lambda: Aliased(firstName="Ann"), "t")
    add("optional", int | str | None, lambda: "x", "tu")
    add("function", Any, lambda: len)
    add("class", Any, lambda: Shape)
    return found


KINDS = _kinds()
BY_NAME = {kind.name: kind for kind in KINDS}


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same: their types, what they hold, and what stands beside it."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (datetime.datetime, datetime.time)):
        return _moment(one) == _moment(other)
    if isinstance(one, (list, tuple)):
        items, others = list(cast("Any", one)), list(cast("Any", other))
        return len(items) == len(others) and all(map(same, items, others))
    if isinstance(one, (set, frozenset)):
        return sorted(map(repr, cast("Any", one))) == sorted(map(repr, cast("Any", other)))
    if isinstance(one, dict):
        pairs, found = list(cast("Any", one).items()), list(cast("Any", other).items())
        return same(pairs, found)
    if isinstance(one, msgspec.Struct):
        fields = [(name, getattr(one, name)) for name in one.__struct_fields__]
        back = [(name, getattr(other, name)) for name in one.__struct_fields__]
        return same(fields, back) and same(_attributes(one), _attributes(other))
    if isinstance(one, pydantic.BaseModel):
        return all(
            same(getattr(one, name), getattr(other, name))
            for name in ("__dict__", "__pydantic_private__", "__pydantic_extra__")
        )
    if dataclasses.is_dataclass(one):
        return same(_attributes(one), _attributes(other))
    return repr(one) == repr(other)


def _moment(value: Any) -> list[Any]:
    zone = value.tzinfo
    offset = value.utcoffset()
    return [repr(value.replace(tzinfo=None)), value.fold, offset, getattr(zone, "key", None)]


def _attributes(value: Any) -> list[tuple[str, Any]]:
    return sorted(getattr(value, "__dict__", {}).items())
