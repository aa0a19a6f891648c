"""Any value as msgpack: how arguments, outputs, events and state are kept.

Native: None, booleans, integers from -2**63 to 2**64-1, floats, strings, bytes,
dates, lists, dicts, dataclasses, msgspec Structs, TypedDicts, enums, UUIDs,
decimals and sets. pydantic models travel as `model_dump(mode="json")`.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec


def is_pydantic_model(kind: Any) -> bool:
    """Whether `kind` is a pydantic model class; does not import pydantic."""
    model: Any = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    return model is not None and isinstance(kind, type) and issubclass(kind, model)


def encode_custom(value: Any) -> Any:
    """msgspec's `enc_hook`."""
    if is_pydantic_model(type(value)):
        return value.model_dump(mode="json")
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


_encoder = msgspec.msgpack.Encoder(enc_hook=encode_custom)
_decoder = msgspec.msgpack.Decoder()

encode = _encoder.encode
"""Any value to msgpack. Raises TypeError, OverflowError, or RecursionError."""

decode = _decoder.decode
"""msgpack to plain values. Raises msgspec.DecodeError."""


def decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """A decoder that checks against a type; raises TypeError for one that cannot be."""
    return msgspec.msgpack.Decoder(kind, dec_hook=decode_custom)


NULL = encode(None)
EMPTY_ARRAY = encode([])
