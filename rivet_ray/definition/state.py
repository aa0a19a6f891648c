"""State to named parts and back, one part for each top-level field.

A store keeps and compares parts, so that a small change in a large state costs
about the size of the field it is in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec
from typing_extensions import is_typeddict

from rivet_ray.errors import InvalidStateType
from rivet_ray.protocol import values

WHOLE = ""
"""The name of the only part of a state that has no fields."""

Fields = Callable[[Any], Mapping[str, Any]]


class StateCodec:
    """How the state of one actor type, or its connections', is taken apart."""

    def __init__(self, kind: Any) -> None:
        """Raises TypeError for a type that cannot be encoded."""
        self.kind = kind
        self._decoder = values.decoder(kind)
        self._fields = _fields_of(kind)

    def split(self, state: Any) -> dict[str, bytes]:
        """The parts of a state. Raises InvalidStateType, naming the path."""
        encode = values.encode
        fields: Mapping[str, Any] = {}
        try:
            fields = self._fields(state)
            return {name: encode(value) for name, value in fields.items()}
        except (AttributeError, TypeError, OverflowError, RecursionError, ValueError) as error:
            if not fields and values.is_pydantic_model(type(state)):
                model = cast("Any", type(state))
                fields = {name: getattr(state, name) for name in model.model_fields}
            raise _fault(fields, error) from error

    def join(self, parts: Mapping[str, bytes]) -> Any:
        """The state of these parts; fields without one take their defaults.

        Raises msgspec.ValidationError when the saved parts do not fit the type.
        """
        if WHOLE in parts:
            return self._decoder.decode(parts[WHOLE])
        packed = [_map_header(len(parts))]
        for name, value in parts.items():
            packed.append(values.encode(name))
            packed.append(value)
        return self._decoder.decode(b"".join(packed))

    def default(self) -> Any:
        """A new state made without arguments. Raises TypeError where none can be."""
        kind = self.kind
        if kind is None or kind is type(None) or kind is Any:
            return None
        return kind()


def _map_header(size: int) -> bytes:
    if size < 16:
        return bytes((0x80 | size,))
    if size < 0x10000:
        return b"\xde" + size.to_bytes(2, "big")
    return b"\xdf" + size.to_bytes(4, "big")


def _fields_of(kind: Any) -> Fields:
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
            return _model_fields
        if is_typeddict(origin):
            return _dict_fields
    return _dict_fields


def _model_fields(state: Any) -> Mapping[str, Any]:
    # By alias, since that is how the model reads itself: it would take a part under
    # the field's own name for an unknown one, and the default for the field.
    return cast("Mapping[str, Any]", state.model_dump(mode="json", by_alias=True, round_trip=True))


def _dict_fields(state: Any) -> Mapping[str, Any]:
    if (
        isinstance(state, dict)
        and state
        and all(isinstance(key, str) and key != WHOLE for key in cast("dict[Any, Any]", state))
    ):
        return cast("dict[str, Any]", state)
    return {WHOLE: state}


def _fault(fields: Mapping[str, Any], error: Exception) -> InvalidStateType:
    for name, value in fields.items():
        path = f"state.{name}" if name != WHOLE else "state"
        found = find_fault(value, path)
        if found is not None:
            return InvalidStateType(f"{found[0]} cannot be saved: {found[1]}")
    return InvalidStateType(f"The state cannot be saved: {error}")


def find_fault(value: Any, path: str, depth: int = 0) -> tuple[str, str] | None:
    """The path of the innermost value that cannot be encoded, with the reason."""
    try:
        values.encode(value)
    except RecursionError:
        return path, "it contains itself, or is nested too deeply"
    except (AttributeError, TypeError, OverflowError, ValueError) as error:
        if depth < 100:
            for step, item in _items(value):
                inner = find_fault(item, path + step, depth + 1)
                if inner is not None:
                    return inner
        return path, str(error)
    return None


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value).items()
        return [(f"[{key!r}]", item) for key, item in pairs]
    if isinstance(value, (list, tuple)):
        listed = cast("list[Any]", value)
        return [(f"[{index}]", item) for index, item in enumerate(listed)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
    elif isinstance(value, msgspec.Struct):
        names = list(value.__struct_fields__)
    else:
        return []
    return [(f".{name}", getattr(value, name)) for name in names]
