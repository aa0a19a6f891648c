"""`@action`: two faces, names on the wire, options, inheritance."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from rivet_ray import Action, Actor, DefinitionError, action
from rivet_ray.definition import ActorDefinition


@dataclass
class CounterState:
    count: int = 0


class Counter(Actor[CounterState]):
    @action
    def increment(self, amount: int = 1) -> int:
        """Add to the count."""
        self.state.count += amount
        return self.state.count

    @action
    async def slowly(self, amount: int) -> int:
        return await self.increment(amount)

    @action
    def twice(self) -> int:
        self.increment.local()
        return self.increment.local(1)

    @action
    def reset(self) -> None:
        self.state.count = 0

    def helper(self) -> int:
        return self.state.count


def definition(actor: type[Actor[Any, Any, Any, Any, Any]]) -> ActorDefinition:
    return actor.__definition__


@pytest.fixture
def counter() -> Counter:
    found = Counter()
    found.state = CounterState()
    return found


# --- Two faces ------------------------------------------------------------------


def test_on_the_class_it_is_a_reference() -> None:
    assert isinstance(Counter.increment, Action)
    assert Counter.increment is Counter.increment
    assert (Counter.increment.name, Counter.increment.attribute) == ("increment", "increment")
    assert Counter.increment.__doc__ == "Add to the count."
    assert repr(Counter.increment) == "<action increment>"


async def test_on_an_actor_it_is_a_coroutine_function(counter: Counter) -> None:
    """The same for plain and for `async` methods, as it is on a handle."""
    assert await counter.increment(5) == 5
    assert await counter.slowly(amount=2) == 7
    assert await counter.twice() == 9
    assert await counter.reset() is None


async def test_local_calls_the_method_itself(counter: Counter) -> None:
    assert counter.increment.local(5) == 5
    coroutine = counter.slowly.local(1)
    assert inspect.iscoroutine(coroutine)
    assert await coroutine == 6


async def test_nothing_runs_before_it_is_awaited(counter: Counter) -> None:
    coroutine = counter.increment(5)
    assert counter.state.count == 0
    await coroutine
    assert counter.state.count == 5


# --- What is compiled -------------------------------------------------------------


def test_actions_are_compiled() -> None:
    found = definition(Counter)
    assert list(found.actions) == ["increment", "slowly", "twice", "reset"]
    assert found.actions == found.attributes
    increment = found.actions["increment"]
    assert increment.action is Counter.increment
    assert (increment.name, increment.timeout, increment.returns) == ("increment", None, int)
    assert increment.arguments.names == ["amount"]
    assert increment.function(type("Self", (), {"state": CounterState(2)})(), 3) == 5


def test_plain_and_async_are_told_apart() -> None:
    found = definition(Counter).actions
    assert {name: item.is_async for name, item in found.items()} == {
        "increment": False,
        "slowly": True,
        "twice": False,
        "reset": False,
    }


def test_nothing_is_told_from_null() -> None:
    """`-> None` gives the caller no output at all; without annotation it is null."""

    class Quiet(Actor):
        @action
        def annotated(self) -> None: ...

        @action
        def bare(self): ...  # type: ignore[no-untyped-def]

        @action
        def maybe(self) -> int | None: ...

    found = definition(Quiet).actions
    assert [found[name].returns_nothing for name in ("annotated", "bare", "maybe")] == [
        True,
        False,
        False,
    ]
    assert found["bare"].returns is Any


def test_only_actions_are_reachable() -> None:
    """C6: neither hooks nor helpers nor attributes."""

    class Guarded(Actor):
        limit = 5

        async def on_start(self) -> None: ...

        def helper(self) -> None: ...

        @property
        def half(self) -> int:
            return 2

        @staticmethod
        def fixed() -> int:
            return 1

        @action
        def reachable(self) -> None: ...

    assert list(definition(Guarded).actions) == ["reachable"]


# --- Options --------------------------------------------------------------------------


def test_options() -> None:
    class Options(Actor):
        @action(name="wire-name", timeout=2.5)
        def python_name(self) -> int:
            return 1

        @action(timeout=timedelta(minutes=1))
        async def long(self) -> None: ...

        @action()
        def plain(self) -> None: ...

    found = definition(Options)
    assert list(found.actions) == ["wire-name", "long", "plain"]
    assert list(found.attributes) == ["python_name", "long", "plain"]
    assert found.attributes["python_name"] is found.actions["wire-name"]
    assert [item.timeout for item in found.actions.values()] == [2.5, 60.0, None]
    assert Options.python_name.name == "wire-name"
    assert Options.python_name.attribute == "python_name"


def test_names_swap() -> None:
    """The wire name of one may be the Python name of another."""

    class Swapped(Actor):
        @action(name="b")
        def a(self) -> int: ...

        @action(name="a")
        def b(self) -> str: ...

    found = definition(Swapped)
    assert found.actions["b"] is found.attributes["a"]
    assert found.actions["a"] is found.attributes["b"]


def test_an_action_is_named_after_its_attribute() -> None:
    def shout(self: Any, text: str) -> str:
        return text.upper()

    class Named(Actor):
        loud = action(shout)
        called = action(name="shout")(shout)

    assert definition(Named).actions.keys() == {"loud", "shout"}
    assert definition(Named).attributes.keys() == {"loud", "called"}


def test_a_second_name_is_refused() -> None:
    """One reference cannot stand for two wire names."""
    with pytest.raises(DefinitionError, match="action 'two': it is the action 'one' already"):

        class Twice(Actor):
            @action
            def one(self) -> None: ...

            two = one


def test_an_action_of_another_actor_keeps_its_name() -> None:
    with pytest.raises(DefinitionError, match="it is the action 'increment' already"):

        class Thief(Actor):
            add = Counter.increment

    assert (Counter.increment.name, Counter.increment.attribute) == ("increment", "increment")
    assert "increment" in definition(Counter).actions


# --- Inheritance ------------------------------------------------------------------------


def test_actions_are_inherited_and_overridden() -> None:
    class Child(Counter):
        @action
        def increment(self, amount: int = 1, note: str = "") -> int:
            return amount

        @action
        def more(self) -> None: ...

    found = definition(Child)
    assert list(found.actions) == ["increment", "slowly", "twice", "reset", "more"]
    assert found.actions["increment"].action is Child.increment
    assert found.actions["increment"].arguments.names == ["amount", "note"]
    assert found.actions["slowly"].action is Counter.slowly
    assert definition(Counter).actions["increment"].arguments.names == ["amount"]
    assert found.types["State"] is CounterState


async def test_an_overriding_action_can_use_the_one_it_overrides() -> None:
    class Child(Counter):
        @action
        async def increment(self, amount: int = 1) -> int:
            return 100 + await super().increment(amount)

    child = Child()
    child.state = CounterState()
    assert await child.increment(5) == 105


def test_an_action_can_be_taken_back() -> None:
    class Reduced(Counter):
        reset = None  # type: ignore[assignment]

        def twice(self) -> int:  # type: ignore[override]
            return 2

    assert list(definition(Reduced).actions) == ["increment", "slowly"]
    assert "reset" in definition(Counter).actions


def test_actions_of_a_mixin_are_actions() -> None:
    class Named:
        @action
        def rename(self, name: str) -> str:  # type: ignore[misc]
            return name

    class Person(Named, Actor): ...

    class Place(Named, Actor): ...

    for actor in (Person, Place):
        assert list(definition(actor).actions) == ["rename"]


def test_two_bases() -> None:
    class Other(Actor[CounterState]):
        @action
        def other(self) -> None: ...

    class Both(Counter, Other): ...

    assert set(definition(Both).actions) == {"increment", "slowly", "twice", "reset", "other"}
    assert definition(Both).types["State"] is CounterState


def test_a_wire_name_can_move_to_another_method() -> None:
    class Child(Counter):
        increment = None  # type: ignore[assignment]

        @action(name="increment")
        def add(self, amount: float) -> float:
            return amount

    found = definition(Child)
    assert found.actions["increment"].action is Child.add
    assert "increment" not in found.attributes
