"""The fields of a state type: their saved names, and how each is read and checked."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
import typing_extensions
from typing_extensions import is_typeddict

from rivet_ray.definition.faithful import Faithful
from rivet_ray.definition.fidelity import object_fields
from rivet_ray.protocol import values

WHOLE = ""
"""The name of the only part of a state that has no fields."""
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""What differs between two processes in the text of a function or object."""

Fields = Callable[[Any], Mapping[str, Any]]


def fields_of(kind: Any) -> Fields:
    origin: Any = getattr(kind, "__origin__", kind)
    if isinstance(origin, type):
        origin = cast("type[Any]", origin)
        if issubclass(origin, msgspec.Struct) and not origin.__struct_config__.array_like:
            names = tuple(
                zip(origin.__struct_encode_fields__, origin.__struct_fields__, strict=False)
            )
            return lambda state: {wire: getattr(state, name) for wire, name in names}
        if dataclasses.is_dataclass(origin):
            plain = tuple(field.name for field in dataclasses.fields(origin))
            return lambda state: {name: getattr(state, name) for name in plain}
        if values.is_pydantic_model(origin):
            return model_fields
        if is_typeddict(origin):
            return _dict_fields
    return _dict_fields


def fingerprint_of(kind: Any) -> str:
    """A name for the shape of a saved type: the same in each process, another for other fields."""
    model: Any = getattr(kind, "__origin__", kind)
    fields = {
        name: str(annotation)
        for ancestor in reversed(getattr(model, "__mro__", ()))
        for name, annotation in vars(ancestor).get("__annotations__", {}).items()
    }
    shape = ADDRESS.sub("", f"{kind!r} {sorted(fields.items())}")
    return hashlib.sha256(shape.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def names_of(kind: Any) -> frozenset[str] | None:
    """The wire names of all parts that a state of this type can have; None for any."""
    model: Any = getattr(kind, "__origin__", kind)
    if not isinstance(model, type):
        return None
    if issubclass(model, msgspec.Struct):
        return frozenset(model.__struct_encode_fields__)
    names = object_fields(model)
    if names is not None:
        return names
    if is_typeddict(cast("Any", model)):
        return frozenset(typing_extensions.get_type_hints(model))
    if values.is_pydantic_model(model):
        model = cast("Any", model)
        if model.model_config.get("extra") == "allow":
            return None
        fields = model.model_fields.items()
        return frozenset(field.serialization_alias or name for name, field in fields)
    return None


def model_fields(state: Any) -> Mapping[str, Any]:
    # By alias, since that is how the model reads itself: it would take a part under
    # the field's own name for an unknown one, and the default for the field.
    return cast("Mapping[str, Any]", state.model_dump(mode="json", by_alias=True, round_trip=True))


def class_of(kind: Any) -> type[Any] | None:
    """The class that a state saved by its fields comes back as; None where that is not sure."""
    origin: Any = getattr(kind, "__origin__", kind)
    if not isinstance(origin, type):
        return None
    found = cast("type[Any]", origin)
    if is_typeddict(found) or found is dict:
        return dict
    by_field = issubclass(found, msgspec.Struct) or dataclasses.is_dataclass(origin)
    return found if by_field else None


def _dict_fields(state: Any) -> Mapping[str, Any]:
    if (
        isinstance(state, dict)
        and state
        and all(isinstance(key, str) and key != WHOLE for key in cast("dict[Any, Any]", state))
    ):
        return cast("dict[str, Any]", state)
    return {WHOLE: state}


class Check(NamedTuple):
    """How to read a part, and when that need not be compared with what was written."""

    decoder: msgspec.msgpack.Decoder[Any]
    faithful: Callable[[Any], bool]


def _always(value: Any) -> bool:
    return True


NO_CHECK = Check(values.decoder(Any), _always)
NOT_A_KEY = Check(values.decoder(Any), _always)
"""Of a key that a TypedDict does not have: it would not be read back."""


def checks_of(kind: Any) -> tuple[dict[str, Check], Check]:
    """How to read each field, and every other part."""
    origin: Any = getattr(kind, "__origin__", kind)
    if origin is dict:
        arguments = _parts(kind)
        return {}, check_of(arguments[1] if len(arguments) == 2 else Any)
    if kind is Any:
        return {}, check_of(Any)
    if not isinstance(origin, type) or values.is_pydantic_model(origin):
        return {}, NO_CHECK
    try:
        hints = typing_extensions.get_type_hints(origin, include_extras=not is_typeddict(origin))
    except NameError:
        return {}, NO_CHECK
    given = dict(zip(getattr(origin, "__parameters__", ()), _parts(kind), strict=False))
    names = _wire_names(origin, hints)
    checks = {
        names[name]: check_of(_concrete(hint, given))
        for name, hint in hints.items()
        if name in names
    }
    return checks, NOT_A_KEY if is_typeddict(origin) else NO_CHECK


def _concrete(hint: Any, given: Mapping[Any, Any]) -> Any:
    """A hint of a generic class, with the types that its parameters stand for."""
    if isinstance(hint, TypeVar):
        return given.get(hint, Any)
    parameters: tuple[Any, ...] = getattr(hint, "__parameters__", ())
    return hint[tuple(given.get(name, Any) for name in parameters)] if parameters else hint


def attributes_of(kind: Any) -> dict[str, str]:
    """Python names by wire names, where they differ."""
    origin: Any = getattr(kind, "__origin__", kind)
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        wires, fields = origin.__struct_encode_fields__, origin.__struct_fields__
        return dict(zip(wires, fields, strict=True))
    return {}


def _wire_names(origin: type[Any], hints: Mapping[str, Any]) -> dict[str, str]:
    if issubclass(origin, msgspec.Struct):
        fields, wires = origin.__struct_fields__, origin.__struct_encode_fields__
        return dict(zip(fields, wires, strict=True))
    return {name: name for name in hints}


def check_of(hint: Any) -> Check:
    try:
        return Check(values.decoder(hint), Faithful(hint))
    except TypeError:
        return NO_CHECK


def _parts(hint: Any) -> tuple[Any, ...]:
    found: tuple[Any, ...] = getattr(hint, "__args__", ())
    return found
