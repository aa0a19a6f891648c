"""`Event`: something that an actor tells its connections."""

from __future__ import annotations

from typing import Any, Generic, get_args

from typing_extensions import TypeVarTuple

Payload = TypeVarTuple("Payload")


class Event(Generic[*Payload]):
    """A kind of event, as a class attribute of an actor.

        new_count = Event[int]()
        moved = Event[str, int, int](name="playerMoved")

    The type arguments are the arguments of the event, in order. `name` is its
    name on the wire, the attribute's own by default.

    A connection that was cut off gets the events that it missed when it comes back,
    as long as its actor's host lives. A `durable` event is saved with the turn that
    gives it while anybody is connected, so it is not missed after the loss of the
    host either; the last 256 of an actor are kept.
    """

    name: str

    def __init__(self, *, name: str | None = None, durable: bool = False) -> None:
        self._given_name = name
        self.durable = durable
        self.name = name or ""
        self.attribute: str | None = None
        """The first name it was given in a class."""

    def __set_name__(self, owner: type, attribute: str) -> None:
        if self.attribute is None:
            self.attribute = attribute
            self.name = self._given_name or attribute

    @property
    def payload(self) -> tuple[Any, ...]:
        """The types of the arguments; `(Any,)` for an `Event` without types."""
        alias = getattr(self, "__orig_class__", None)
        return (Any,) if alias is None else get_args(alias)

    def __repr__(self) -> str:
        return f"<event {self.name}>"
