"""Fields that pydantic would write as something else are faults of the definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pydantic
import pytest

from rivet_ray import Actor, DefinitionError, Event, action
from rivet_ray.definition.models import excluded_fields, secret_fields

T = TypeVar("T")


class Login(pydantic.BaseModel):
    name: str = ""
    password: pydantic.SecretStr = pydantic.SecretStr("")


class Account(pydantic.BaseModel):
    logins: dict[str, list[Login | None]] = {}


class Partial(pydantic.BaseModel):
    name: str = ""
    cache: int = pydantic.Field(0, exclude=True)


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T] = []


@dataclass
class State:
    accounts: dict[str, Account] = field(default_factory=dict)


def test_secrets_are_found_at_any_depth() -> None:
    assert secret_fields([Login]) == ["Login.password"]
    assert secret_fields([Account]) == ["Login.password"]
    assert secret_fields([Page[Login]]) == ["Login.password"]
    assert secret_fields([Partial, int]) == []


def test_excluded_fields_are_found() -> None:
    assert excluded_fields([Page[Partial]]) == ["Partial.cache"]
    assert excluded_fields([Account]) == []


@pytest.mark.parametrize("kind", [Login, Account, State], ids=["itself", "inner", "in a dataclass"])
def test_a_secret_in_the_state_is_refused_with_the_cure(kind: Any) -> None:
    """Row B1: it came back as `**********`."""
    with pytest.raises(DefinitionError, match=r"Login\.password.*declare it as str"):

        class Vault(Actor[kind]):
            pass


def test_a_secret_is_refused_wherever_it_would_be_written() -> None:
    """Row B9: arguments, results and events are written as the state is."""
    with pytest.raises(DefinitionError) as caught:

        class Vault(Actor[None]):
            opened = Event[Login]()

            @action
            def open(self, login: Login) -> Login:
                return login

    assert str(caught.value).count("Login.password") == 3


def test_an_excluded_field_is_refused_in_what_is_saved_only() -> None:
    """Row B2: it came back as its default. A result may leave fields out."""

    class Lister(Actor[None]):
        @action
        def show(self) -> Partial:
            return Partial()

    with pytest.raises(DefinitionError, match=r"Partial\.cache.*remove exclude=True"):

        class Keeper(Actor[Partial]):
            pass
