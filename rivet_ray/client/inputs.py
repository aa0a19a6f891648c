"""The input of a new actor: sent as JSON, and sure to reach it as what was given."""

from __future__ import annotations

from typing import Any

import msgspec

from rivet_ray.client.interface import Interface
from rivet_ray.definition import ActorDefinition
from rivet_ray.definition.fidelity import difference
from rivet_ray.definition.state import find_fault
from rivet_ray.errors import InvalidArgument
from rivet_ray.protocol import values

Encoded = msgspec.Raw | msgspec.UnsetType


def encoded_input(value: Any, interface: Interface | None = None) -> Encoded:
    """The input as JSON now, so that later changes to it do not matter.

    Raises InvalidArgument, which names the path, for what JSON cannot carry, and with the
    interface of the actor for what it would read as something else. Plain data may stand
    for an object of its type: a dict for a dataclass.
    """
    if value is None:
        return msgspec.UNSET
    try:
        data = _encode(value)
    except (AttributeError, TypeError, OverflowError, RecursionError, ValueError) as error:
        place, why = find_fault(value, "", encode=_encode) or ("", str(error))
        raise _fault(place, why) from error
    if interface is not None:
        _compare(value, data, interface.actor.__definition__)
    return msgspec.Raw(data)


def _encode(value: Any) -> bytes:
    values.encode(value)  # It refuses what JSON would write as null.
    return msgspec.json.encode(value, enc_hook=values.encode_custom)


def _compare(value: Any, data: bytes, definition: ActorDefinition) -> None:
    plain = msgspec.json.decode(data)
    try:
        read = definition.decode("Input", values.encode(plain))
    except Exception:
        return  # The server refuses it, and says why.
    found = difference(value, read)
    if found is not None and difference(value, plain) is not None:
        raise _fault(found.path, found.reason)


def _fault(place: str, why: str) -> InvalidArgument:
    where = f" at {place}" if place else ""
    return InvalidArgument("input", f"it cannot be sent{where}: {why}")
