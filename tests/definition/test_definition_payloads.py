"""What an event carries is read as what was given, or the event is refused by its path."""

from __future__ import annotations

from typing import Any

import pytest
from value_kinds import KINDS, Kind, same

from rivet_ray.client.interface import payload_decoder
from rivet_ray.definition import Event
from rivet_ray.definition.payloads import Payload


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_payload_is_read_as_what_was_given_or_refused(kind: Kind, declared: bool) -> None:
    """Row B9 of the faults that were seen: a subscriber got something else without a word."""
    event: Any = Event[kind.type, int](name="told") if declared else "told"
    payload = Payload("told", event.payload if declared else (Any,))
    value = kind.make()
    if kind.typed if declared else kind.untyped:
        back = payload_decoder(event)(payload.encode((value, 1)))
        assert same(back, (kind.make(), 1))
    else:
        with pytest.raises(TypeError, match=r"^event 'told' cannot be sent: ") as caught:
            payload.encode((value, 1))
        assert "[0]" in str(caught.value)  # the place


@pytest.mark.parametrize("given", [(), (1, 2)])
def test_another_number_of_arguments_than_declared_is_refused(given: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="event 'told' cannot be sent"):
        Payload("told", (int,)).encode(given)


def test_an_event_without_types_takes_any_number() -> None:
    assert Payload("told").encode(()) == b"\x90"
    assert Payload("told").encode((1, "x")) == b"\x92\x01\xa1x"


def test_the_refusal_of_an_undeclared_event_tells_the_cure() -> None:
    with pytest.raises(TypeError, match=r"\[0\]\['a'\]: a tuple would .*declare the types"):
        Payload("told").encode(({"a": (1, 2)},))
