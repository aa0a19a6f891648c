"""Who a caller is: what `on_auth` returned says it, or a hook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from rivet_ray import Actor
from rivet_ray.definition.identity import identity_of
from rivet_ray.protocol import values


class Plain(Actor[None]): ...


@dataclass
class User:
    name: str


class Typed(Actor[None, None, Any, Any, User]): ...


class Named(Typed):
    @classmethod
    def caller_identity(cls, auth: User | None) -> str | None:
        return None if auth is None else auth.name


class Either(Actor[None]):
    @classmethod
    def caller_identity(cls, auth: Any) -> str | None:
        return super().caller_identity(auth) or auth.get("id")


def identity(actor: type[Any], auth: Any) -> str | None:
    return identity_of(actor.__definition__, None if auth is None else encode(auth))


def encode(auth: Any) -> bytes:
    return values.encode(auth)


def test_issuer_and_subject_and_nothing_else_of_a_token() -> None:
    claims = {"iss": "https://id.example.com", "sub": "ann", "iat": 1, "exp": 2, "role": "guest"}
    found = identity(Plain, claims)
    assert found is not None
    assert identity(Plain, claims | {"iat": 3, "exp": 4, "role": "admin"}) == found
    others = [
        {"sub": "bob"},
        {"sub": 1},
        {"iss": "https://id.example.org"},
        {"iss": None},
        {"iss": "https://id.example.comann", "sub": ""},
    ]
    different = [identity(Plain, claims | changed) for changed in others]
    assert len({found, *different}) == 6


def test_the_same_text_of_another_kind_is_somebody_else() -> None:
    everybody = [
        {"sub": "ann"},
        {"sub": "1"},
        {"sub": 1},
        {"key_id": "ann"},
        {"iss": "ann", "sub": "ann"},
        {"sub": '"ann"'},
    ]
    found = [identity(Plain, auth) for auth in everybody]
    assert None not in found
    assert len(set(found)) == len(everybody)
    assert identity(Plain, {"sub": "ann", "key_id": "k"}) == identity(Plain, {"sub": "ann"})


@pytest.mark.parametrize(
    "auth",
    [None, "ann", 7, {}, {"name": "ann"}, {"sub": None}, {"sub": ""}, {"sub": True}, ["sub"]],
)
def test_nobody(auth: Any) -> None:
    assert identity(Plain, auth) is None


def test_a_type_of_its_own_may_leave_the_subject_out() -> None:
    assert identity(Typed, {"name": "ann", "sub": "1"}) == identity(Plain, {"sub": "1"})
    assert identity(Typed, User("ann")) is None


def test_a_hook_has_what_the_actor_has() -> None:
    assert identity(Named, User("ann")) == "caller:ann"
    assert identity(Named, {"name": "ann", "sub": "1"}) == "caller:ann"
    assert identity(Named, None) is None
    assert identity(Either, {"sub": "1", "id": "x"}) == identity(Plain, {"sub": "1"})
    assert identity(Either, {"id": "x"}) == "caller:x"


@pytest.mark.parametrize("returned", ["", 7, b"ann", ["ann"]])
def test_what_is_no_identity(returned: Any) -> None:
    class Wrong(Actor[None]):
        @classmethod
        def caller_identity(cls, auth: Any) -> str | None:
            return returned  # type: ignore[no-any-return]

    with pytest.raises(TypeError, match="return a text, or None"):
        identity(Wrong, None)


def test_a_long_one_is_kept_short_and_any_text_can_be_sent() -> None:
    names = ["a" * 10_000, "a" * 10_001, "\ud800", "\udfff", "?"]

    class Long(Actor[None]):
        @classmethod
        def caller_identity(cls, auth: Any) -> str | None:
            return names[auth]

    found = [identity(Long, number) for number in range(len(names))]
    assert len(set(found)) == len(names)
    assert all(one is not None and len(encode(one)) < 100 for one in found)
