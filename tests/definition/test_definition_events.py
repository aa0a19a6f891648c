"""`Event`: names, payloads, and what the compiler says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ForwardRef

import pytest

from rivet_ray import Actor, Conn, DefinitionError, Event
from rivet_ray.definition import ActorContext, bind


@dataclass
class Move:
    x: int


class Game(Actor):
    moved = Event[Move]()
    turned = Event[str, int](name="playerTurned")
    over = Event[()]()
    anything = Event()
    later = Event["Move"]()


def test_names() -> None:
    assert Game.__definition__.events == {
        "moved": Game.moved,
        "playerTurned": Game.turned,
        "over": Game.over,
        "anything": Game.anything,
        "later": Game.later,
    }
    assert Game.moved.name == "moved"
    assert Game.turned.name == "playerTurned"
    assert repr(Game.turned) == "<event playerTurned>"


def test_payloads() -> None:
    assert Game.moved.payload == (Move,)
    assert Game.turned.payload == (str, int)
    assert Game.over.payload == ()
    assert Game.anything.payload == (Any,)
    assert Game.later.payload == (ForwardRef("Move"),)


def test_an_event_is_the_same_on_class_and_instance() -> None:
    assert Game().moved is Game.moved


def test_events_are_inherited_and_overridden() -> None:
    class Chess(Game):
        moved = Event[str]()
        checked = Event[()]()

    found = Chess.__definition__.events
    assert set(found) == {"moved", "playerTurned", "over", "anything", "later", "checked"}
    assert found["moved"] is Chess.moved
    assert found["over"] is Game.over
    assert Game.__definition__.events["moved"] is Game.moved


def test_an_event_may_be_shared_under_its_name() -> None:
    class Replay(Actor):
        moved = Game.moved

    assert Replay.__definition__.events == {"moved": Game.moved}


def test_an_event_keeps_its_name() -> None:
    with pytest.raises(DefinitionError, match="event 'again': it is the event 'moved' already"):

        class Replay(Actor):
            again = Game.moved

    assert Game.moved.name == "moved"


def test_faults() -> None:
    with pytest.raises(DefinitionError) as raised:

        class Wrong(Actor):
            broadcast = Event[int]()  # type: ignore[assignment]
            connected = Event[int]()
            failed = Event[int](name="error")
            one = Event[int](name="same")
            two = Event[int](name="same")
            odd = Event[int, object]()

    assert raised.value.faults == [
        "event 'broadcast': the name is reserved by Actor",
        "event 'connected': 'connected' is a life-cycle event of connections",
        "event 'failed': 'error' is a life-cycle event of connections",
        "event 'two': two events are called 'same'",
        "event 'odd': object cannot be encoded; use a dataclass, a msgspec.Struct, "
        "a TypedDict, a pydantic model or plain JSON values",
    ]


class Context(ActorContext):
    """Keeps what is broadcast."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, tuple[Any, ...]]] = []

    def current_conn(self) -> Conn[Any, Any, Any]:
        raise NotImplementedError

    def broadcast(self, event: str, arguments: tuple[Any, ...]) -> None:
        self.sent.append((event, arguments))

    async def save(self) -> None: ...


def test_broadcast_by_reference_and_by_name() -> None:
    game, context = Game(), Context()
    bind(game, context)
    game.broadcast(Game.moved, Move(1))
    game.broadcast(Game.turned, "ann", 2)
    game.broadcast(Game.over)
    game.broadcast("any name", 1, [2], None)
    assert context.sent == [
        ("moved", (Move(1),)),
        ("playerTurned", ("ann", 2)),
        ("over", ()),
        ("any name", (1, [2], None)),
    ]
