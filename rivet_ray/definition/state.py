"""State to named parts and back, one part for each top-level field.

A store keeps and compares parts, so that a small change in a large state costs
about the size of the field it is in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import msgspec

from rivet_ray.definition.fidelity import (
    Difference,
    attributes_beside,
    class_difference,
    difference,
    misfit,
    names_beside,
    object_fields,
)
from rivet_ray.definition.fields import (
    NO_CHECK,
    NOT_A_KEY,
    WHOLE,
    attributes_of,
    check_of,
    checks_of,
    class_of,
    fields_of,
    model_fields,
    names_of,
)
from rivet_ray.definition.user_code import call, contained, described
from rivet_ray.errors import InvalidStateType
from rivet_ray.protocol import values

_ENCODING_FAULTS = (AttributeError, TypeError, OverflowError, RecursionError, ValueError)
"""What encoding raises; serializers, properties and the like of users raise anything."""

CONNECTION = "conn.state"
DEEP = 5
"""Steps of a path after which what is nested too deeply is named."""

Known = Mapping[str, tuple[object, bytes]]
"""Values of fields, with what they are encoded as."""
NOTHING_KNOWN: Known = {}


class StateCodec:
    """How the state of one actor type, or its connections', is taken apart."""

    def __init__(self, kind: Any) -> None:
        """Raises TypeError for a type that cannot be encoded."""
        self.kind = kind
        self._decoder = values.decoder(kind)
        self._fields = fields_of(kind)
        self._checks, self._other = checks_of(kind)
        self._whole = check_of(kind)
        origin = getattr(kind, "__origin__", kind)
        self._names = names_of(kind)
        self._slots = object_fields(origin)
        """The fields, where attributes beside them would be lost."""
        self._class = class_of(kind)
        self._unsure = self._class is None and kind is not Any
        """It may be a dict of any kind: nobody knows how each field is read."""
        self._reads_whole = values.is_pydantic_model(kind) or hasattr(origin, "__post_init__")
        self._attributes: dict[str, str] = attributes_of(kind)

    def knows(self, name: str) -> bool:
        """Whether a saved part is one of this type's; others are of other code."""
        return name == WHOLE or self._names is None or name in self._names

    def split(
        self, state: Any, without: frozenset[str] = frozenset(), known: Known = NOTHING_KNOWN
    ) -> dict[str, bytes]:
        """The parts of a state, but for some. Raises InvalidStateType, naming the path.

        A field that still holds the very value in `known` is not encoded again.
        """
        encode = values.encode
        if type(state) is not self._class:
            _refuse("state", self._class_fault(state))
        fields: Mapping[str, Any] = {}
        try:
            fields = self._fields(state)
            if without:
                fields = {name: fields[name] for name in fields.keys() - without}
            if not known:
                return {name: encode(value) for name, value in fields.items()}
            parts: dict[str, bytes] = {}
            for name, value in fields.items():
                same = known.get(name)
                parts[name] = same[1] if same and same[0] is value else encode(value)
            return parts
        except BaseException as raised:
            error = contained(self.kind, encode, raised)
            if not fields and values.is_pydantic_model(type(state)):
                model = cast("Any", type(state))
                fields = {name: getattr(state, name) for name in model.model_fields}
            raise _fault(fields, error) from raised

    def _class_fault(self, state: Any) -> Difference | None:
        """Fields alone bring neither a `Counter` back nor a class derived from the state's."""
        kind, expected = cast("Any", type(state)), cast("Any", self._class)
        if self.kind is Any and isinstance(state, dict):
            expected = cast("Any", dict)
        if expected is None or kind is expected:
            return None
        return class_difference(kind, expected)

    def some(self, state: Any, names: frozenset[str]) -> dict[str, bytes]:
        """These parts of a state, but for those that cannot be encoded."""
        try:
            fields = call(self.kind, self._fields, state)
        except Exception:
            return {}
        parts: dict[str, bytes] = {}
        for name in names & fields.keys():
            with suppress(Exception):
                parts[name] = call(self.kind, values.encode, fields[name])
        return parts

    def unchanging(self, state: Any, parts: Mapping[str, bytes]) -> Known:
        """Of these parts of the state those whose value cannot change, only be replaced."""
        fields = self._fields(state)
        return {
            name: (fields[name], data)
            for name, data in parts.items()
            if type(fields.get(name)) in (str, bytes)
        }

    def verify(self, state: Any, changed: Mapping[str, bytes]) -> None:
        """Make sure that what is about to be saved reads back as what it is.

        Annotations are not enforced when a field is set: without this a float in
        an integer's place, or a `defaultdict` in a dict's, would be saved and then be
        refused, or be something else, when the actor is loaded. Raises
        InvalidStateType, which names the path.
        """
        try:
            call(self.kind, self._verify, state, changed)
        except InvalidStateType:
            raise
        except Exception as error:
            raise InvalidStateType(f"The state cannot be saved: {_why(error)}") from error

    def _verify(self, state: Any, changed: Mapping[str, bytes]) -> None:
        if self._reads_whole or (self._unsure and WHOLE not in changed):
            self._verify_whole(state)
            return
        self._verify_fields(state, changed)
        if self._slots is not None:
            _refuse("state", attributes_beside(state, self._slots))

    def _verify_fields(self, state: Any, changed: Mapping[str, bytes]) -> None:
        fields = self._fields(state)
        for name, data in changed.items():
            check = self._whole if name == WHOLE else self._checks.get(name, self._other)
            if check is NO_CHECK or name not in fields:
                continue
            if check is NOT_A_KEY:
                kind = self.kind.__qualname__
                raise InvalidStateType(f"{_path(name)} cannot be saved: it is no key of {kind}")
            try:
                read = check.decoder.decode(data)
            except Exception as error:
                raise _refusal(_path(name), misfit(error, _why(error))) from error
            value = fields[name]
            if not check.faithful(value):
                _refuse(_path(name), difference(value, read))

    def _verify_whole(self, state: Any) -> None:
        """A state that computes some of its fields when it is read."""
        if values.is_pydantic_model(self.kind):
            read = self.kind.model_validate(model_fields(state))
        else:
            read = self.join(self.split(state))
        _refuse("state", difference(state, read))

    def faults(self, state: Any) -> list[str]:
        """The parts that cannot be saved or read back; `[WHOLE]` where all is wrong."""
        try:
            fields = call(self.kind, self._fields, state)
            if self._class_fault(state) is not None:
                return [WHOLE]
            if self._reads_whole or self._unsure:
                self.verify(state, {})
                return []
        except Exception:
            return [WHOLE]
        return [name for name, value in fields.items() if self._is_fault(state, name, value)]

    def _is_fault(self, state: Any, name: str, value: Any) -> bool:
        try:
            data = call(self.kind, values.encode, value)
            call(self.kind, self._verify_fields, state, {name: data})
        except Exception:
            return True
        return False

    def mend(self, state: Any, names: Sequence[str], good: Mapping[str, bytes]) -> Any:
        """A state with these parts as they were, and all others as they are."""
        fresh = self.join(good)
        if WHOLE in names:
            return fresh
        try:
            for name in () if self._slots is None else names_beside(state, self._slots):
                delattr(state, name)
            for name in names:
                if not isinstance(state, dict):
                    attribute = self._attributes.get(name, name)
                    setattr(state, attribute, getattr(fresh, attribute))
                elif name in fresh:
                    state[name] = fresh[name]
                else:
                    del state[name]
        except (AttributeError, TypeError):
            return fresh  # A frozen state is replaced, never changed.
        return cast("Any", state)

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

    # --- A connection's state is one value -------------------------------------

    def encode(self, state: Any) -> bytes:
        """A connection's state. Raises InvalidStateType, naming the path."""
        try:
            return call(self.kind, values.encode, state)
        except Exception as error:
            place, why = find_fault(state, CONNECTION) or (CONNECTION, _why(error))
            raise InvalidStateType(f"{place} cannot be saved: {why}") from error

    def verify_one(self, state: Any, data: bytes) -> None:
        """Make sure that a connection's state reads back as what it is. Raises InvalidStateType."""
        try:
            read = call(self.kind, self._whole.decoder.decode, data)
            found = None if self._whole.faithful(state) else difference(state, read)
        except Exception as error:
            raise _refusal(CONNECTION, misfit(error, _why(error))) from error
        _refuse(CONNECTION, found)

    def decode(self, data: bytes) -> Any:
        """The state of `encode`, or of code that knows other fields.

        Raises msgspec.ValidationError, and what its type raises.
        """
        try:
            return call(self.kind, self._decoder.decode, data)
        except msgspec.ValidationError:
            saved = values.decode(data)
            if not isinstance(saved, dict) or self._names is None:
                raise
            fields = cast("dict[Any, Any]", saved)
            known = {name: value for name, value in fields.items() if name in self._names}
            return call(self.kind, self._decoder.decode, values.encode(known))

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


def _refuse(path: str, found: Difference | None) -> None:
    if found is not None:
        raise _refusal(path, found)


def _refusal(path: str, found: Difference) -> InvalidStateType:
    return InvalidStateType(f"{path}{found.path} cannot be saved: {found.reason}")


def _path(name: str) -> str:
    return f"state.{name}" if name != WHOLE else "state"


def _fault(fields: Mapping[str, Any], error: Exception) -> InvalidStateType:
    for name, value in fields.items():
        path = f"state.{name}" if name != WHOLE else "state"
        found = find_fault(value, path)
        if found is not None:
            return InvalidStateType(f"{found[0]} cannot be saved: {found[1]}")
    return InvalidStateType(f"The state cannot be saved: {_why(error)}")


def find_fault(
    value: Any,
    path: str,
    depth: int = 0,
    above: tuple[int, ...] = (),
    encode: Callable[[Any], bytes] = values.encode,
) -> tuple[str, str] | None:
    """The path of the innermost value that cannot be encoded, with the reason."""
    try:
        call("the state", encode, value)
    except RecursionError:
        above = (*above, id(value))
        for step, item in _items(value) if depth < DEEP else ():
            if id(item) in above:
                break
            inner = find_fault(item, path + step, depth + 1, above, encode)
            if inner is not None:
                return inner
        return path, "it contains itself, or is nested too deeply"
    except Exception as error:
        if depth < 100:
            for step, item in _items(value):
                inner = find_fault(item, path + step, depth + 1, above, encode)
                if inner is not None:
                    return inner
        return path, _why(error)
    return None


def _why(error: Exception) -> str:
    """What encoding or reading says of a value; with its type, what user code has raised."""
    return str(error) if isinstance(error, _ENCODING_FAULTS) else described(error)


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
    return [(f".{name}", getattr(value, name)) for name in names if hasattr(value, name)]
