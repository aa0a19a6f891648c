"""The quick look: whether a round trip of a value changes nothing, for sure.

It is compiled once for each type, and says yes only where nothing can change, so
that `fidelity.difference` walks odd values alone.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import operator
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, cast

from msgspec import inspect as kinds

from rivet_ray.definition.fidelity import attrs_fields

Test = Callable[[Any], bool]
Plan = Mapping[type[Any], Test | None]
"""What a value may be, by its very type; with a test where the type is not enough."""

UNCERTAIN: Plan = {}

_ATOMS: Mapping[type[kinds.Type], type[Any]] = {
    kinds.NoneType: NoneType,
    kinds.BoolType: bool,
    kinds.IntType: int,
    kinds.FloatType: float,
    kinds.StrType: str,
    kinds.BytesType: bytes,
    kinds.UUIDType: uuid.UUID,
    kinds.DecimalType: decimal.Decimal,
    kinds.DateType: datetime.date,
    kinds.TimeDeltaType: datetime.timedelta,
}
_PLAIN: Plan = dict.fromkeys((NoneType, bool, int, float, str, bytes))
"""Of untyped values those that come back as they are whatever is around them."""


class Faithful:
    """The quick look at values of one type: whether a round trip changes nothing, for sure.

    It does not check that the value fits the type; the decoder does that.
    """

    def __init__(self, kind: Any) -> None:
        self._seen: dict[Any, dict[type[Any], Test | None]] = {}
        try:
            self._plan = self._of(kinds.type_info(kind))
        except (TypeError, ValueError, RecursionError):
            self._plan = UNCERTAIN

    def __call__(self, value: Any) -> bool:
        return _certain(self._plan, value)

    def _of(self, info: kinds.Type) -> Plan:
        atom = _ATOMS.get(type(info))
        if atom is not None:
            return {atom: None}
        match info:
            case kinds.Metadata():
                return self._of(info.type)
            case kinds.UnionType():
                plan: dict[type[Any], Test | None] = {}
                for part in info.types:
                    plan.update(self._of(part))
                return plan
            case kinds.EnumType():
                return {info.cls: None}
            case kinds.LiteralType():
                return {type(value): None for value in info.values}
            case kinds.DateTimeType():
                return {datetime.datetime: _in_utc}
            case kinds.ListType():
                return {list: _each(self._of(info.item_type))}
            case kinds.AnyType():
                return _PLAIN
            case kinds.TupleType():
                return {tuple: _in_order([self._of(item) for item in info.item_types])}
            case kinds.VarTupleType():
                return {tuple: _each(self._of(info.item_type))}
            case kinds.SetType():
                return {set: _each(self._of(info.item_type))}
            case kinds.FrozenSetType():
                return {frozenset: _each(self._of(info.item_type))}
            case kinds.DictType():
                return {dict: _entries(self._of(info.key_type), self._of(info.value_type))}
            case kinds.StructType() | kinds.DataclassType():
                return self._object(info)
            case _:
                return UNCERTAIN

    def _object(self, info: kinds.StructType | kinds.DataclassType) -> Plan:
        kind = info.cls
        if kind in self._seen:
            return self._seen[kind]
        plan = self._seen[kind] = {}
        if any(hasattr(kind, hook) for hook in _COMPUTES) or not all(_is_set_by_init(kind)):
            return plan
        names = [field.name for field in info.fields]
        plans = [self._of(field.type) for field in info.fields]
        # One call in C for all fields; with a name too many it gives a tuple for one as well.
        values_of = operator.attrgetter(*names, "__class__")
        own = frozenset(names)
        origin: type[Any] = getattr(kind, "__origin__", kind)
        has_attributes = origin.__dictoffset__ != 0

        def test(value: Any) -> bool:
            if has_attributes and not value.__dict__.keys() <= own:
                return False
            try:
                found: tuple[Any, ...] = values_of(value)
            except AttributeError:
                return False
            for item, expected in zip(found, plans, strict=False):
                if not _certain(expected, item):
                    return False
            return True

        plan[origin] = test
        return plan


_COMPUTES = ("__post_init__", "__attrs_post_init__")
"""Methods that may set fields when an object is made."""


def _is_set_by_init(kind: type[Any]) -> Iterable[bool]:
    if dataclasses.is_dataclass(kind):
        return (field.init for field in dataclasses.fields(kind))
    return (field.init for field in attrs_fields(kind) or ())


_NO: Test = lambda _: False  # noqa: E731


def _certain(plan: Plan, value: Any) -> bool:
    kind = cast("type[Any]", type(value))
    test = plan.get(kind, _NO)
    return test is None or test(value)


def _in_utc(value: datetime.datetime) -> bool:
    return (value.tzinfo is datetime.UTC or value.tzinfo is None) and not value.fold


def _each(plan: Plan) -> Test:
    exact = frozenset(kind for kind, test in plan.items() if test is None)

    def test(items: Any) -> bool:
        if exact.issuperset(map(type, items)):
            return True
        return all(_certain(plan, item) for item in items)

    return test


def _in_order(plans: Sequence[Plan]) -> Test:
    def test(items: Any) -> bool:
        if len(items) != len(plans):
            return False
        return all(_certain(plan, item) for plan, item in zip(plans, items, strict=True))

    return test


def _entries(keys: Plan, items: Plan) -> Test:
    key_test, item_test = _each(keys), _each(items)
    return lambda value: key_test(value) and item_test(value.values())
