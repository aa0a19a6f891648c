"""Any value as msgpack: how arguments, outputs, events and state are kept.

Native: None, booleans, integers from -2**63 to 2**64-1, floats, strings, bytes,
dates, lists, dicts, dataclasses, msgspec Structs, TypedDicts, enums, UUIDs,
decimals and sets. pydantic models travel as their JSON-mode dump by alias.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any, cast

import msgspec


def is_pydantic_model(kind: Any) -> bool:
    """Whether `kind` is a pydantic model class; does not import pydantic."""
    model: Any = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    return model is not None and isinstance(kind, type) and issubclass(kind, model)


def encode_custom(value: Any) -> Any:
    """msgspec's `enc_hook`."""
    if is_pydantic_model(type(value)):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    raise TypeError(f"a value of type {type(value).__qualname__} cannot be saved or sent")


def decode_custom(kind: type[Any], value: Any) -> Any:
    """msgspec's `dec_hook`."""
    if is_pydantic_model(kind):
        return _validate(kind, value)
    raise TypeError(f"a value of type {kind.__qualname__} cannot be read")


def _validate(model: type[Any], value: Any) -> Any:
    from pydantic import ValidationError

    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = (
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise ValueError("; ".join(problems)) from error


_encode = msgspec.msgpack.Encoder(enc_hook=encode_custom).encode
_decoder = msgspec.msgpack.Decoder()


def encode(value: Any) -> bytes:
    """Any value to msgpack.

    Raises TypeError for a type that cannot travel, OverflowError for an integer
    beyond 64 bits, ValueError for NaN and Infinity (JSON has no form for them),
    RecursionError for a value that holds itself.
    """
    data = _encode(value)
    # The first bytes of every NaN and Infinity, and of some very large numbers.
    if b"\xcb\x7f" in data or b"\xcb\xff" in data:
        _check_finite(_decoder.decode(data))
    return data


def _check_finite(value: Any) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("NaN and Infinity have no form in JSON")
    elif isinstance(value, dict):
        for item in cast("dict[Any, Any]", value).values():
            _check_finite(item)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            _check_finite(item)


MOST_LEVELS = 95
"""How many lists and dicts may be around a value that is sent. Clients read 100, and
the message around the value needs a few of them."""
_CONTAINERS = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
"""The first bytes of lists and dicts; they occur in texts and numbers too."""

_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_to_json = msgspec.json.Encoder(enc_hook=encode_custom).encode


def encode_sent(value: Any) -> bytes:
    """A value that goes out to clients, as msgpack.

    Raises what `encode` raises, and ValueError for one that is nested too deep to be read.
    """
    data = encode(value)
    # Most values have too few bytes or too few containers to be that deep.
    if (
        len(data) > MOST_LEVELS
        and len(data) - len(data.translate(None, _CONTAINERS)) > MOST_LEVELS
        and not _is_flat(value)
    ):
        _check_levels(data)
    return data


def _is_flat(value: Any) -> bool:
    """A quick look: False where a value may be deep, or its texts hold brackets."""
    try:
        brackets = _to_json(value).translate(None, _NO_BRACKETS)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
    for _ in range(MOST_LEVELS // 2):  # each takes away two levels at the most
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return False


def _members(container: Any) -> Iterable[Any]:
    if isinstance(container, dict):
        return cast("dict[Any, Any]", container).values()
    return cast("list[Any]", container)


def _check_levels(data: bytes) -> None:
    level: list[Any] = [[_decoder.decode(data)]]
    for _ in range(MOST_LEVELS + 1):
        # Of all members those that have some themselves; the rest are not looked at again.
        level = [
            member
            for container in level
            for member in _members(container)
            if isinstance(member, (dict, list))
        ]
        if not level:
            return
    raise ValueError(
        f"it is nested deeper than {MOST_LEVELS} levels, and clients cannot read that; "
        "send it flatter, or as text"
    )


decode = _decoder.decode
"""msgpack to plain values. Raises ValueError or RecursionError for bad bytes."""


def decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """A decoder that checks against a type; raises TypeError for one that cannot be."""
    return msgspec.msgpack.Decoder(kind, dec_hook=decode_custom)


def sendable(text: str) -> str:
    """A text as UTF-8 can carry it; halves of surrogate pairs become `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


NULL = encode(None)
EMPTY_ARRAY = encode([])
