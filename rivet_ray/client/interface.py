"""What a client knows of an actor class: its actions, and how their values travel."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Mapping
from typing import Any, ForwardRef, cast

import msgspec

from rivet_ray.definition.actions import Action
from rivet_ray.definition.compiled import ActionDefinition, ActorDefinition
from rivet_ray.definition.events import Event
from rivet_ray.errors import Outcome, PublicError
from rivet_ray.protocol import values

PayloadDecoder = Callable[[bytes], tuple[Any, ...]]


class UnexpectedValue(PublicError, TypeError):
    """A result or an event does not fit the type that the actor class declares.

    The action itself took effect. Usually the server runs another version of
    the class. It is a TypeError too, since the annotation is what is broken.
    """

    code = "unexpected_value"
    status = 502


class Operation:
    """One action, as a caller uses it."""

    __slots__ = ("_decoder", "_definition", "label", "name")

    def __init__(self, owner: type[Any], definition: ActionDefinition) -> None:
        self._definition = definition
        self._decoder: msgspec.msgpack.Decoder[Any] | None = None
        action = _action(definition)
        self.name: str = action.name
        self.label = f"{owner.__name__}.{action.attribute}"

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Arguments as msgpack. Raises TypeError as a call of the method would."""
        try:
            given = self._definition.arguments.positional(args, kwargs)
        except TypeError as error:
            raise TypeError(f"{self.label}: {error}") from None
        return values.encode(given)

    def decode(self, output: bytes | None) -> Any:
        """The result, as the annotated type. Raises UnexpectedValue."""
        if output is None:
            return None
        if self._decoder is None:
            self._decoder = values.decoder(self._definition.returns)
        try:
            return self._decoder.decode(output)
        except msgspec.DecodeError as error:
            raise UnexpectedValue(
                f"{self.label} returned something that is no "
                f"{_type_name(self._definition.returns)}: {error}. "
                "Does the server run the same version of the class?",
                outcome=Outcome.TOOK_EFFECT,
            ) from error


class Interface:
    """An actor class, as its callers see it."""

    def __init__(self, actor: type[Any]) -> None:
        definition: ActorDefinition = actor.__definition__
        self.actor = actor
        self.operations = {
            attribute: Operation(actor, action)
            for attribute, action in definition.attributes.items()
            if not action.private
        }
        """By Python name; private actions are not for callers."""

    def why_not(self, attribute: str) -> str:
        """Why a handle does not have an attribute that is no action."""
        own = self.actor.__name__
        actions = ", ".join(self.operations) or "none"
        if isinstance(getattr(self.actor, attribute, None), Event):
            return (
                f"{own}.{attribute} is an event; listen to it on a connection: "
                f"conn.on({own}.{attribute}, handler)"
            )
        if hasattr(self.actor, attribute) or attribute == "state":
            return (
                f"{own}.{attribute} lives in the actor; "
                f"a handle can only call its actions: {actions}"
            )
        return f"{own} has no action {attribute!r}; its actions: {actions}"


_by_reference: weakref.WeakKeyDictionary[Action[Any, ..., Any, Any], Operation] = (
    weakref.WeakKeyDictionary()
)
_payloads: weakref.WeakKeyDictionary[Event[Any], PayloadDecoder] = weakref.WeakKeyDictionary()


def operation_of(action: Action[Any, ..., Any, Any]) -> Operation:
    """The operation of a reference like `Counter.increment`."""
    found = _by_reference.get(action)
    if found is None:
        found = _by_reference[action] = _find(action)
    return found


def _find(action: Action[Any, ..., Any, Any]) -> Operation:
    definition: ActorDefinition | None = getattr(action.owner, "__definition__", None)
    known = definition.attributes.get(action.attribute) if definition is not None else None
    if action.owner is None or known is None or _action(known) is not action:
        raise TypeError(f"{action!r} belongs to no actor class; give one like Counter.increment")
    return Operation(action.owner, known)


def _action(definition: ActionDefinition) -> Action[Any, ..., Any, Any]:
    # Type checkers read the member through Action.__get__; the slot holds the Action.
    action: Action[Any, ..., Any, Any] = cast("Any", definition.action)
    return action


def decode_plain(output: bytes | None) -> Any:
    """A result without a known type."""
    return None if output is None else values.decode(output)


def decode_plain_payload(arguments: bytes) -> tuple[Any, ...]:
    """The arguments of an event without known types."""
    return tuple(values.decode(arguments))


def payload_decoder(event: Event[Any] | str) -> PayloadDecoder:
    """How to read the arguments of an event; raises UnexpectedValue when used."""
    if isinstance(event, str):
        return decode_plain_payload
    found = _payloads.get(event)
    if found is None:
        found = _payloads[event] = _typed_payload(event.name, event.payload)
    return found


def _typed_payload(name: str, payload: tuple[Any, ...]) -> PayloadDecoder:
    if payload == (Any,):
        return decode_plain_payload
    kinds = tuple(Any if isinstance(kind, ForwardRef) else kind for kind in payload)
    decoder = values.decoder(types.GenericAlias(tuple, kinds))

    def decode(arguments: bytes) -> tuple[Any, ...]:
        try:
            found: tuple[Any, ...] = decoder.decode(arguments)
        except msgspec.DecodeError as error:
            raise UnexpectedValue(
                f"The event {name!r} does not carry "
                f"({', '.join(map(_type_name, kinds))}): {error}. "
                "Does the server run the same version of the class?"
            ) from error
        return found

    return decode


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
