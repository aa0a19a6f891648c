"""Registries: which actor types there are; `setup` and `merge`."""

from __future__ import annotations

from typing import Any

import pytest

from rivet_ray import Actor, DefinitionError, Registry, action, setup, use
from rivet_ray.definition import ActorRegistry, Use
from rivet_ray.registry import merge


class Counter(Actor):
    @action
    def increment(self, amount: int) -> int: ...


class Room(Actor): ...


class App(Registry):
    counter = use(Counter)
    room = use(Room, name="chatRoom")


class Caller:
    """Tells what it was asked for."""

    def accessor(self, name: str, actor: type[Any]) -> Any:
        return (name, actor)

    async def aclose(self) -> None: ...


def test_a_registry_lists_its_actors() -> None:
    assert App.definitions() == {
        "counter": Counter.__definition__,
        "chatRoom": Room.__definition__,
    }


def test_on_the_class_a_use_is_itself() -> None:
    assert isinstance(App.counter, Use)
    assert (App.counter.actor, App.counter.name) == (Counter, "counter")
    assert (App.room.actor, App.room.name) == (Room, "chatRoom")


def test_on_a_client_it_leads_to_the_actors() -> None:
    """By the name on the wire, not the attribute's."""
    client: Any = App(Caller())
    assert client.counter == ("counter", Counter)
    assert client.room == ("chatRoom", Room)


def test_one_actor_class_may_have_two_names() -> None:
    class Two(Registry):
        one = use(Counter)
        other = use(Counter)

    assert list(Two.definitions()) == ["one", "other"]


def test_registries_are_inherited() -> None:
    class More(App):
        extra = use(Room)

    class Shop(Registry):
        till = use(Counter)

    class Both(App, Shop): ...

    assert list(More.definitions()) == ["counter", "chatRoom", "extra"]
    assert list(App.definitions()) == ["counter", "chatRoom"]
    assert list(Both.definitions()) == ["counter", "chatRoom", "till"]


def test_an_empty_registry() -> None:
    class Empty(Registry): ...

    assert Empty.definitions() == {}
    assert ActorRegistry.definitions() == {}


def test_all_faults_of_a_registry_are_told_together() -> None:
    with pytest.raises(DefinitionError) as raised:

        class Wrong(App):
            client = use(Counter)  # type: ignore[assignment]
            aclose = use(Counter)  # type: ignore[assignment]
            number = use(int)  # type: ignore[type-var]
            instance = use(Counter())  # type: ignore[arg-type, var-annotated]
            text = use("Counter")  # type: ignore[arg-type, var-annotated]
            base = use(Actor)
            one = use(Counter, name="same")
            two = use(Room, name="same")
            counter = use(Room)  # type: ignore[assignment]

    assert raised.value.faults == [
        "'client' is a name of Registry itself",
        "'aclose' is a name of Registry itself",
        "'number' is no subclass of Actor",
        "'instance' is no subclass of Actor",
        "'text' is no subclass of Actor",
        "'base' is no subclass of Actor",
        "two actor types are called 'same'",
        "two actor types are called 'counter'",
    ]
    assert str(raised.value).startswith("Registry test_all_faults")


def test_two_bases_must_agree() -> None:
    class Other(Registry):
        counter = use(Room)

    with pytest.raises(DefinitionError, match="two actor types are called 'counter'"):

        class Both(App, Other):  # type: ignore[misc]
            ...


# --- setup ---------------------------------------------------------------------------


def test_setup() -> None:
    registry = setup(use={"counter": Counter, "chat-room": Room})
    assert issubclass(registry, Registry)
    assert registry.definitions() == {
        "counter": Counter.__definition__,
        "chat-room": Room.__definition__,
    }
    assert setup(use={}).definitions() == {}


def test_setup_tells_all_faults() -> None:
    wrong: Any = {"a": int, "b": "no", "counter": Counter}
    with pytest.raises(DefinitionError) as raised:
        setup(use=wrong)
    assert raised.value.faults == ["'a' is no subclass of Actor", "'b' is no subclass of Actor"]


# --- merge -----------------------------------------------------------------------------


def test_merge() -> None:
    class Shop(Registry):
        till = use(Counter)
        counter = use(Counter)

    found = merge([App, Shop])
    assert list(found.definitions()) == ["counter", "chatRoom", "till"]
    assert list(App.definitions()) == ["counter", "chatRoom"]
    assert merge([App]) is App


def test_merge_takes_any_names() -> None:
    """Also names that could be no attributes of a registry."""

    class Odd(Registry):
        odd = use(Counter, name="client")

    assert list(merge([App, Odd]).definitions()) == ["counter", "chatRoom", "client"]


def test_merge_tells_every_clash() -> None:
    class Clash(Registry):
        counter = use(Room)
        chat = use(Counter, name="chatRoom")

    with pytest.raises(DefinitionError) as raised:
        merge([App, Clash])
    assert raised.value.subject.startswith("App + ")
    assert raised.value.faults == [
        "two actor types are called 'counter'",
        "two actor types are called 'chatRoom'",
    ]
