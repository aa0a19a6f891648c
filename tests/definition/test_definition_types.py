"""The types of an actor are found: arguments of `Actor[…]`, forward references, generic bases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypedDict

import definition_elsewhere as elsewhere
import msgspec
import pytest
from typing_extensions import TypeVar

from rivet_ray import Actor, DefinitionError, Event, action
from rivet_ray.errors import InvalidArgument, InvalidParams
from rivet_ray.protocol import values


@dataclass
class Note:
    text: str = ""


@dataclass
class Needy:
    count: int


class NeedyDict(TypedDict):
    count: int


class Struct(msgspec.Struct):
    a: int = 0


def decode(actor: type[Any], name: str, *given: Any) -> tuple[Any, ...]:
    found: tuple[Any, ...] = actor.__definition__.actions[name].arguments.decode(
        values.encode(list(given))
    )
    return found


def faults(define: Callable[[], object]) -> list[str]:
    with pytest.raises(DefinitionError) as raised:
        define()
    return raised.value.faults


# --- Types -------------------------------------------------------------------------------


def test_types_of_an_actor() -> None:
    class Bare(Actor): ...

    class Full(Actor[Note, "Struct", "Note | None", dict[str, int], None]): ...

    assert Bare.__definition__.types == {
        "State": type(None),
        "ConnState": type(None),
        "Params": Any,
        "Input": Any,
        "Auth": Any,
    }
    assert Full.__definition__.types == {
        "State": Note,
        "ConnState": Struct,
        "Params": Note | None,
        "Input": dict[str, int],
        "Auth": type(None),
    }
    assert Full.__definition__.default_state() == Note()
    assert Full.__definition__.default_conn_state() == Struct()


def test_values_from_outside_are_checked() -> None:
    class Typed(Actor[None, None, Note, "list[int]"]): ...

    found = Typed.__definition__
    assert found.decode("Params", values.encode({"text": "x"})) == Note("x")
    with pytest.raises(InvalidArgument, match=r"^input: Expected `array`, got `None`"):
        found.decode("Input", None)
    with pytest.raises(InvalidArgument, match=r"^input: Expected `int`, got `str`"):
        found.decode("Input", values.encode(["x"]))
    with pytest.raises(InvalidParams, match=r"^params: Expected `str`, got `int`"):
        found.decode("Params", values.encode({"text": 1}), InvalidParams)


def test_nothing_is_given_where_nothing_will_do() -> None:
    """Without data the value is None, if the type takes None."""

    class Lenient(Actor[None, None, "Note | None"]): ...

    for parameter in ("Params", "Input", "Auth"):
        assert Lenient.__definition__.decode(parameter, None) is None


def test_a_state_without_defaults_needs_its_hook() -> None:
    for state in (Needy, NeedyDict, "int | None"):
        (fault,) = faults(lambda state=state: type("Wrong", (Actor,), {"create_state": 1}))
        assert fault == "'create_state' is a hook and must be a method"

    def dictionary() -> None:
        class Wrong(Actor[NeedyDict, Needy]): ...

    first, second = faults(dictionary)
    assert first.startswith("State: NeedyDict() is no complete state (Object missing required")
    assert second.startswith("ConnState: Needy() is no complete state")
    assert second.endswith("give its fields defaults or define create_conn_state")

    class Right(Actor[NeedyDict, Needy]):
        def create_state(self, input: Any) -> NeedyDict:
            return {"count": 1}

        async def create_conn_state(self, request: Any, params: Any) -> Needy:
            return Needy(1)

    assert Right.__definition__.types["State"] is NeedyDict


def test_types_that_cannot_be_saved_are_told() -> None:
    def define() -> None:
        class Wrong(Actor[object, Callable[[], int], "elsewhere.Missing"]):  # type: ignore
            ...

    params, state, conn_state = faults(define)
    assert state.startswith("State: object cannot be encoded")
    assert conn_state.startswith("ConnState: Callable cannot be encoded")
    assert params == "Params: module 'definition_elsewhere' has no attribute 'Missing'"


# --- Forward references -----------------------------------------------------------------


def test_classes_of_a_function_are_found() -> None:
    """Every annotation of this module is a string, as `from __future__` makes them."""

    @dataclass
    class Local:
        x: int = 0

    class Forward(Actor["Local", "dict[str, Local]"]):
        moved = Event[Local]()

        @action
        def move(self, local: Local, others: list[Local]) -> dict[str, Local]: ...

        @action
        def nested(self, inner: Forward.Inner) -> Forward.Inner: ...

        @dataclass
        class Inner:
            y: int

    assert Forward.__definition__.types["State"] is Local
    assert Forward.__definition__.types["ConnState"] == dict[str, Local]
    assert decode(Forward, "move", {"x": 1}, [{"x": 2}]) == (Local(1), [Local(2)])
    assert Forward.__definition__.actions["move"].returns == dict[str, Local]
    assert decode(Forward, "nested", {"y": 1}) == (Forward.Inner(1),)
    assert Forward.moved.payload == (Local,)


def test_a_class_that_comes_later_is_not_found() -> None:
    def define() -> None:
        class Early(Actor):
            @action
            def use(self, late: Late) -> None: ...

        @dataclass
        class Late: ...

    assert faults(define) == [
        "action 'use': its annotations cannot be read: name 'Late' is not defined"
    ]


def test_inherited_annotations_mean_what_they_meant_where_they_were_written() -> None:
    """`Note` is another class here than in the module of the base."""

    class Mine(elsewhere.NoteBook):
        @action
        def mine(self, note: Note) -> None: ...

    assert decode(Mine, "add", {"elsewhere": 1}) == (elsewhere.Note(1),)
    assert decode(Mine, "mine", {"text": "x"}) == (Note("x"),)
    assert Mine.__definition__.types["State"] is elsewhere.Note
    assert Mine.__definition__.types["ConnState"] == list[elsewhere.Note]


# --- Generic bases ------------------------------------------------------------------------

T = TypeVar("T", default=None)
U = TypeVar("U", default=Any)


class Cell(Actor[T, None, U], Generic[T, U]):
    @action
    def set(self, value: T, others: list[T] | None = None, any_: U | None = None) -> T: ...


class Row(Cell["list[T]"], Generic[T]):
    @action
    def first(self, value: T) -> T: ...


class NoteCell(Cell[Note, int]): ...


class NoteRow(Row[Note]): ...


class NoteRowChild(NoteRow): ...


def test_a_generic_base_is_filled_in() -> None:
    """Its actions check and build what the subclass says."""
    found = NoteCell.__definition__
    assert (found.types["State"], found.types["Params"]) == (Note, int)
    assert found.actions["set"].returns is Note
    assert decode(NoteCell, "set", {"text": "a"}, [{"text": "b"}], 5) == (
        Note("a"),
        [Note("b")],
        5,
    )
    with pytest.raises(InvalidArgument, match="any_: "):
        decode(NoteCell, "set", {"text": "a"}, [], "x")


@pytest.mark.parametrize("actor", [NoteRow, NoteRowChild])
def test_parameters_are_followed_through_the_bases(actor: type[Any]) -> None:
    """The same `T` means a note in `Row`, and a list of them in `Cell`."""
    assert actor.__definition__.types["State"] == list[Note]
    assert decode(actor, "first", {"text": "a"}) == (Note("a"),)
    assert decode(actor, "set", [{"text": "a"}]) == ([Note("a")], None, None)
    assert actor.__definition__.default_state() == []


def test_an_open_parameter_takes_anything() -> None:
    assert Cell.__definition__.types["State"] is Any
    assert decode(Cell, "set", {"text": 1}, [2], 3) == ({"text": 1}, [2], 3)


def test_a_generic_base_of_another_module() -> None:
    class NoteBox(elsewhere.Box["Note"]): ...

    class Child(NoteBox): ...

    for actor in (NoteBox, Child):
        assert actor.__definition__.types["State"] == list[Note]
        assert actor.__definition__.actions["put"].returns == dict[str, Note]
        assert decode(actor, "put", {"text": "a"}, {"elsewhere": 1}) == (
            Note("a"),
            elsewhere.Note(1),
        )
