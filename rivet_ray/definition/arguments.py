"""Checking the arguments of an action against its annotations."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import GenericAlias
from typing import Any, Optional, cast

import msgspec

from rivet_ray.definition.fidelity import difference
from rivet_ray.definition.models import custom_types, excluded_fields, secret_fields
from rivet_ray.definition.state import find_fault
from rivet_ray.errors import InvalidArgument
from rivet_ray.protocol import values

_PATH = re.compile(r" - at (?P<key>`key` in )?`\$(\[(?P<index>\d+|\.\.\.)\])?(?P<rest>[^`]*)`$")
_TEXT_FOR_BYTES = re.compile(r"Expected `[^`]*\bbytes\b[^`]*`, got `str`")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def type_fault(kind: Any) -> str | None:
    """Why values of a type cannot travel or be saved, or None when they can."""
    try:
        values.decoder(kind)
        custom = custom_types(msgspec.inspect.type_info(kind))
    except (TypeError, ValueError, RecursionError) as error:
        return str(error)
    names = sorted({found.__qualname__ for found in custom if not values.is_pydantic_model(found)})
    if names:
        return (
            f"{', '.join(names)} cannot be encoded; use a dataclass, a msgspec.Struct, "
            "a TypedDict, a pydantic model or plain JSON values"
        )
    if secrets := secret_fields(custom):
        return (
            f"pydantic writes {', '.join(secrets)} as '**********', so the secret would be lost; "
            "declare it as str with Field(repr=False)"
        )
    return None


def state_fault(kind: Any) -> str | None:
    """Why values of a type cannot be saved as they are, or None when they can."""
    fault = type_fault(kind)
    if fault is None and (
        excluded := excluded_fields(custom_types(msgspec.inspect.type_info(kind)))
    ):
        return (
            f"pydantic leaves out {', '.join(excluded)}, so it would not be saved; "
            "remove exclude=True, or keep it in an attribute of the actor"
        )
    return fault


def _takes_none(kind: Any) -> bool:
    try:
        msgspec.convert(None, kind, dec_hook=values.decode_custom)
    except (msgspec.ValidationError, TypeError, ValueError):
        return False
    return True


class Arguments:
    """The parameters of one action, compiled once.

    None stands for the default of a parameter that has one and does not take None: it
    is what JavaScript makes of an argument that is undefined.
    """

    def __init__(self, function: Callable[..., Any], hints: Mapping[str, Any]) -> None:
        """Raises ValueError with every fault, one to a line."""
        faults: list[str] = []
        fields: list[Any] = []
        self.names: list[str] = []
        self.kinds: list[Any] = []
        """The types of `names`, in order."""
        self.rest_kind: Any = None
        """The type of each further argument, where the action takes any number."""
        self.rest_name = ""
        self.rest: msgspec.msgpack.Decoder[Any] | None = None
        self._defaults: list[tuple[int, Any]] = []
        """Where None stands for the default, and that default."""
        self.signature = inspect.signature(function)
        parameters = list(self.signature.parameters.values())
        if not parameters or parameters[0].kind not in _POSITIONAL:
            faults.append("its first parameter must be the actor: self")
        for parameter in parameters[1:]:
            kind = hints.get(parameter.name, Any)
            if parameter.kind not in (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL):
                faults.append(
                    f"parameter {parameter.name!r} can only be given by keyword; "
                    "arguments are positional on the wire"
                )
            elif fault := type_fault(kind):
                faults.append(f"parameter {parameter.name!r}: {fault}")
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                self.rest = values.decoder(GenericAlias(list, (kind,)))
                self.rest_name = parameter.name
                self.rest_kind = kind
            else:
                fields.append(self._field(len(self.names), parameter, kind))
                self.names.append(parameter.name)
                self.kinds.append(kind)
        if faults:
            raise ValueError("\n".join(faults))
        self._struct = msgspec.defstruct(
            "arguments",
            fields,
            array_like=True,
            forbid_unknown_fields=self.rest is None,
            gc=False,
        )
        self._decoder: msgspec.msgpack.Decoder[Any] = values.decoder(self._struct)

    @property
    def required(self) -> int:
        """How many arguments a caller must give."""
        parameters = list(self.signature.parameters.values())[1:]
        return sum(
            parameter.kind in _POSITIONAL and parameter.default is inspect.Parameter.empty
            for parameter in parameters
        )

    def _field(self, index: int, parameter: inspect.Parameter, kind: Any) -> Any:
        name = f"a{index}"
        if parameter.default is inspect.Parameter.empty:
            return (name, kind)
        default = parameter.default
        if not _takes_none(kind):
            self._defaults.append((index, default))
            kind = Optional[kind]  # noqa: UP045 - of any kind, also one that has no `|`
        return (name, kind, msgspec.field(default_factory=lambda: default))

    def decode(self, data: bytes) -> tuple[Any, ...]:
        """The arguments of a call, from a msgpack array.

        Raises InvalidArgument, which names the parameter.
        """
        try:
            found = msgspec.structs.astuple(self._read(data))
        except msgspec.ValidationError as error:
            raise self._named(error, data) from error
        if self._defaults:
            found = self._with_defaults(found)
        return found if self.rest is None else (*found, *self._decode_rest(data))

    def kept(self, given: Sequence[Any]) -> bytes:
        """Encode arguments that are kept, sure to come back as what was given.

        Raises InvalidArgument, which names the parameter and the path in it.
        """
        names = [*self.names, *[f"*{self.rest_name}"] * (len(given) - len(self.names))]
        try:
            data = values.encode(given)
        except (AttributeError, TypeError, OverflowError, RecursionError, ValueError) as error:
            for name, value in zip(names, given, strict=False):
                fault = find_fault(value, "")
                if fault is not None:
                    raise _not_kept(name, *fault) from error
            raise InvalidArgument("arguments", f"they cannot be kept: {error}") from error
        for name, value, read in zip(names, given, self.decode(data), strict=False):
            found = difference(value, read)
            if found is not None:
                raise _not_kept(name, *found)
        return data

    def _with_defaults(self, found: tuple[Any, ...]) -> tuple[Any, ...]:
        given = list(found)
        for index, default in self._defaults:
            if given[index] is None:
                given[index] = default
        return tuple(given)

    def _read(self, data: bytes) -> Any:
        try:
            return self._decoder.decode(data)
        except msgspec.ValidationError as error:
            if not _TEXT_FOR_BYTES.search(str(error)):
                raise
        # JSON has no bytes: what came that way is base64.
        given = values.decode(data)
        return msgspec.convert(given, self._struct, dec_hook=values.decode_custom)

    def _decode_rest(self, data: bytes) -> list[Any]:
        assert self.rest is not None
        given = values.decode(data)[len(self.names) :]
        try:
            decoded: list[Any] = self.rest.decode(values.encode(given))
        except msgspec.ValidationError as error:
            text = str(error)
            found = _PATH.search(text)
            problem = text if found is None else text[: found.start()]
            where = "" if found is None else f" at [{found['index']}]{found['rest']}"
            raise InvalidArgument(f"*{self.rest_name}", problem + where) from error
        return decoded

    def _named(self, error: msgspec.ValidationError, data: bytes) -> InvalidArgument:
        text = str(error)
        found = _PATH.search(text)
        if found is None or not (found["index"] or "").isdigit():
            items = values.decode(data)
            if not isinstance(items, list):
                return InvalidArgument("arguments", "they must be a list")
            given = len(cast("list[Any]", items))
            if given < len(self.names):
                return InvalidArgument(self.names[given], "this argument is missing")
            return InvalidArgument(
                "arguments", f"at most {len(self.names)} can be given, got {given}"
            )
        where = f" at {found['rest']}" if found["rest"] else ""
        index, problem = int(found["index"]), text[: found.start()]
        if not where and any(index == at for at, _ in self._defaults):
            problem = problem.replace(" | null`", "`")  # None is not its type, but its default
        problem += (" in a key" if found["key"] else "") + where
        return InvalidArgument(self.names[index], problem)

    def positional(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        """Arguments as a caller wrote them, as the wire wants them.

        Raises TypeError as a call of the method itself would.
        """
        if not kwargs:
            self.signature.bind(None, *args)
            return list(args)
        bound = self.signature.bind(None, *args, **kwargs)
        given = len(bound.args) - 1
        last = max((self.names.index(name) + 1 for name in kwargs), default=0)
        bound.apply_defaults()
        return list(bound.args[1 : 1 + max(given, last)])


def _not_kept(name: str, path: str, reason: str) -> InvalidArgument:
    where = f" at {path}" if path else ""
    return InvalidArgument(name, f"it cannot be kept{where}: {reason}")
