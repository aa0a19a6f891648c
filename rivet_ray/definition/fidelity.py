"""Whether a value reads back as the value that was written.

`difference` holds the truth: it walks both values and names the first place where
they differ, types included. `faithful` is the quick look before it.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import functools
import inspect
import io
import pickle
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple, cast

import msgspec

from rivet_ray.protocol import values


class Difference(NamedTuple):
    """Where a value would come back as something else, and as what."""

    path: str
    """From the value itself: `.points[3].x`; empty for the whole."""
    reason: str


_PLACE = re.compile(r" - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`$")


def misfit(error: Exception, why: str = "") -> Difference:
    """Return where a value does not fit its type, as msgspec says at the end of its text."""
    text = why or str(error)
    found = _PLACE.search(text) if isinstance(error, msgspec.ValidationError) else None
    if found is None:
        return Difference("", text)
    return Difference(found["path"], text[: found.start()] + (" in a key" if found["key"] else ""))


def difference(written: Any, read: Any) -> Difference | None:
    """Return the first place where `read` is not what was written, or None.

    Types count, as do the zones of datetimes and attributes beside the fields.
    """
    if type(written) in (dict, list) and _same_builtins(written, read):
        return None
    return _walk(written, read, "")


class _Builtins(pickle.Pickler):
    """Writes values of builtin types alone, each with its type; nothing reads it back."""

    def reducer_override(self, obj: Any) -> Any:
        raise TypeError


def _same_builtins(written: Any, read: Any) -> bool:
    """Return whether both are the same values of builtin types; compared in C."""
    found: list[bytes] = []
    for value in (written, read):
        buffer = io.BytesIO()
        pickler = _Builtins(buffer, 5)
        pickler.fast = True  # Without it the same text in two places is not written twice.
        try:
            pickler.dump(value)
        except TypeError:
            return False
        found.append(buffer.getvalue())
    return found[0] == found[1]


def _walk(written: Any, read: Any, path: str) -> Difference | None:
    kind = cast("type[Any]", type(written))
    if kind is not type(read):
        if kind is int and isinstance(read, float) and written == read:
            return None  # An int is a float to the type checkers, too.
        return class_difference(kind, cast("type[Any]", type(read)), path)
    if kind in (list, tuple):
        return _walk_sequence(written, read, path)
    if kind is dict:
        return _walk_mapping(written, read, path)
    if kind in (set, frozenset):
        found = {item: item for item in read}
        return _walk_pairs(((item, found.get(item, _MISSING)) for item in written), path)
    if kind in (datetime.datetime, datetime.time):
        return _walk_time(written, read, path)
    names = _field_names(written)
    if names is not None:
        return _walk_fields(written, read, names, path)
    if isinstance(written, tuple):  # a NamedTuple
        return _walk_sequence(cast("Sequence[Any]", written), read, path)
    if kind is decimal.Decimal:
        written, read = str(written), str(read)  # NaN is not equal to itself.
    if written == read or _by_identity(kind):
        return None
    return Difference(path, f"{written!r:.80} would come back as {read!r:.80}")


def class_difference(kind: type[Any], other: type[Any], path: str = "") -> Difference:
    """What to say of a value that would come back as one of another class."""
    return Difference(path, f"{_a(kind)} would come back as {_a(other)}")


def _by_identity(kind: Any) -> bool:
    return kind.__eq__ is object.__eq__


def _walk_sequence(written: Sequence[Any], read: Sequence[Any], path: str) -> Difference | None:
    if len(written) != len(read):
        return Difference(path, f"{len(written)} items would come back as {len(read)}")
    for index, (item, other) in enumerate(zip(written, read, strict=True)):
        found = _walk(item, other, f"{path}[{index}]")
        if found is not None:
            return found
    return None


def _walk_mapping(
    written: Mapping[Any, Any], read: Mapping[Any, Any], path: str
) -> Difference | None:
    keys = {key: key for key in read}
    for key, value in written.items():
        place = f"{path}[{key!r:.80}]"
        if key not in keys:
            return Difference(place, "it would not come back")
        found = _walk(key, keys[key], place) or _walk(value, read[key], place)
        if found is not None:
            return found
    if len(written) != len(read):
        added = next(key for key in read if key not in written)
        return Difference(f"{path}[{added!r:.80}]", "it would be there when the state is read")
    return None


def _walk_pairs(pairs: Iterable[tuple[Any, Any]], path: str) -> Difference | None:
    for item, other in pairs:
        if other is _MISSING:
            return Difference(path, f"{item!r:.80} would not come back")
        found = _walk(item, other, path)
        if found is not None:
            return found
    return None


def _walk_time(written: Any, read: Any, path: str) -> Difference | None:
    zone, other = written.tzinfo, read.tzinfo
    if not _same_zone(zone, other):
        return Difference(
            path,
            f"the zone {zone} would come back as {other}; keep datetimes in UTC "
            "(value.astimezone(timezone.utc)), and the name of the zone beside them",
        )
    if written != read or written.fold != read.fold:
        return Difference(path, f"{written!r} would come back as {read!r}")
    return None


def _same_zone(zone: datetime.tzinfo | None, other: datetime.tzinfo | None) -> bool:
    if zone is None or other is None:
        return zone is other
    offset = zone.utcoffset(None)  # None for a zone whose offset depends on the date
    return zone == other or (offset is not None and offset == other.utcoffset(None))


def object_fields(kind: Any) -> frozenset[str] | None:
    """Return the fields of a class whose objects may have attributes beside them, or None."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return frozenset(field.name for field in dataclasses.fields(kind))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__dictoffset__:
        return frozenset(kind.__struct_fields__)
    return None


def attrs_fields(kind: Any) -> Sequence[Any] | None:
    """The fields of a class that attrs made, or None; does not import attrs."""
    found: Sequence[Any] | None = getattr(kind, "__attrs_attrs__", None)
    return found


def attributes_beside(value: Any, names: Collection[str], path: str = "") -> Difference | None:
    """Return an attribute that is not among the fields, so that it would be lost."""
    for name in _beside(value, names):
        return Difference(
            f"{path}.{name}",
            f"it is not a field of {type(value).__qualname__}, so it would be lost",
        )
    return None


def names_beside(value: Any, names: Collection[str]) -> list[str]:
    """Return the attributes that `attributes_beside` refuses."""
    return list(_beside(value, names))


def _walk_fields(written: Any, read: Any, names: Sequence[str], path: str) -> Difference | None:
    for name in names:
        found = _walk(
            getattr(written, name, _MISSING), getattr(read, name, _MISSING), f"{path}.{name}"
        )
        if found is not None:
            return found
    for name, value in _beside(written, names).items():
        kept = _beside(read, names)
        if name not in kept:
            return attributes_beside(written, {*names, *kept}, path)
        found = _walk(value, kept[name], f"{path}.{name}")
        if found is not None:
            return found
    return None


def _field_names(value: Any) -> Sequence[str] | None:
    kind = cast("type[Any]", type(value))
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if values.is_pydantic_model(kind):
        return list(cast("Any", kind).model_fields)
    fields = attrs_fields(kind)
    return None if fields is None else [field.name for field in fields]


def _beside(value: Any, names: Collection[str]) -> dict[str, Any]:
    """Attributes of an object that are not its fields, nor cached properties."""
    if values.is_pydantic_model(type(value)):
        return {**(value.__pydantic_extra__ or {}), **(value.__pydantic_private__ or {})}
    attributes: dict[str, Any] = getattr(value, "__dict__", {})
    kind = cast("type[Any]", type(value))
    return {
        name: item
        for name, item in attributes.items()
        if name not in names
        and not isinstance(inspect.getattr_static(kind, name, None), functools.cached_property)
    }


def _a(kind: type[Any]) -> str:
    name = "None" if kind is NoneType else kind.__qualname__
    if kind is NoneType or kind is _Missing:
        return name
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


class _Missing:
    """An attribute that is not set."""


_Missing.__qualname__ = "nothing"
_MISSING = _Missing()
