"""The arguments of an event: encoded, and sure to be read as what was given."""

from __future__ import annotations

from types import GenericAlias
from typing import Any, ForwardRef

import msgspec

from rivet_ray.definition.faithful import Faithful
from rivet_ray.definition.fidelity import difference, misfit
from rivet_ray.definition.state import find_fault
from rivet_ray.protocol import values

_plain = values.decoder(tuple[Any, ...])
_plain_faithful = Faithful(tuple[Any, ...])


class Payload:
    """What one event carries, compiled once."""

    def __init__(self, name: str, kinds: tuple[Any, ...] = (Any,)) -> None:
        """Raises TypeError for types that cannot be decoded."""
        self._name = name
        self._declared = kinds != (Any,)
        self._faithful, self._decoder = _plain_faithful, _plain
        if self._declared:
            known = tuple(Any if isinstance(kind, ForwardRef) else kind for kind in kinds)
            kind = GenericAlias(tuple, known or ((),))
            self._faithful, self._decoder = Faithful(kind), values.decoder(kind)

    def encode(self, arguments: tuple[Any, ...]) -> bytes:
        """Encode the arguments now, so that they cannot change any more.

        Raises TypeError, which names the path, if a subscriber could not read them as
        what they are.
        """
        try:
            data = values.encode_sent(arguments)
        except (TypeError, OverflowError, RecursionError, ValueError) as error:
            faults = (find_fault(item, f"[{at}]") for at, item in enumerate(arguments))
            raise self._fault(*next(filter(None, faults), ("", str(error)))) from error
        certain = self._faithful(arguments)
        if certain and not self._declared:
            return data
        try:
            read = self._decoder.decode(data)
        except msgspec.ValidationError as error:
            raise self._fault(*misfit(error)) from error
        if not certain:
            self._compare(arguments, read)
        return data

    def _compare(self, arguments: tuple[Any, ...], read: tuple[Any, ...]) -> None:
        for index, (given, back) in enumerate(zip(arguments, read, strict=True)):
            found = difference(given, back)
            if found is not None:
                cure = "" if self._declared else "; declare the types of the event: Event[…]()"
                raise self._fault(f"[{index}]{found.path}", found.reason + cure)

    def _fault(self, place: str, why: str) -> TypeError:
        where = f" {place}:" if place else ""
        return TypeError(f"event {self._name!r} cannot be sent:{where} {why}")
