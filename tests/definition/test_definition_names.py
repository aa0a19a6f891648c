"""Names that one way to an action could not carry are refused when the class is made."""

from __future__ import annotations

from typing import Any

import pytest

from rivet_ray import Actor, DefinitionError, Event, Registry, action, use

NOWHERE = ["a\nb", "\0", "\x7f", "\ud83c"]
NOT_IN_A_PATH = ["a/b", "/", "a\\b", ".", ".."]
WORKS = ["a.b", "a b", "a?b", "a#b", "a%2Fb", "größe", "🎉", "a:b", "a+b", "...", "a&b=c"]


def work(self: Any) -> None: ...


@pytest.mark.parametrize("name", [*NOWHERE, *NOT_IN_A_PATH])
def test_actions(name: str) -> None:
    with pytest.raises(DefinitionError, match=r"action 'a': '"):
        type("Wrong", (Actor,), {"a": action(name=name)(work)})


@pytest.mark.parametrize("name", [*NOWHERE, ""])
def test_events_and_actor_types(name: str) -> None:
    if name:
        with pytest.raises(DefinitionError, match=r"surrogate|control"):
            type("Wrong", (Actor,), {"a": Event[int](name=name)})
        with pytest.raises(DefinitionError, match=r"surrogate|control"):
            type("App", (Registry,), {"a": use(type("Fine", (Actor,), {}), name=name)})


@pytest.mark.parametrize("name", WORKS)
def test_what_works(name: str) -> None:
    made: Any = type("Fine", (Actor,), {"a": action(name=name)(work), "b": Event[int](name=name)})
    assert list(made.__definition__.actions) == list(made.__definition__.events) == [name]
    assert list(type("App", (Registry,), {"a": use(made, name=name)}).definitions()) == [name]


def test_slashes_in_other_names() -> None:
    """They travel in messages and headers, not in paths."""
    made: Any = type("Fine", (Actor,), {"b": Event[int](name="a/b")})
    assert list(type("App", (Registry,), {"a": use(made, name="a/b")}).definitions()) == ["a/b"]
