"""Ids, keys and tokens."""

from __future__ import annotations

import base64
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray import ids

keys = st.lists(st.text(st.characters()), max_size=5)


def test_the_id_of_the_original() -> None:
    """Taken from a running rivetkit 0.9.9: ids that its users wrote down stay valid."""
    assert ids.actor_id("default", "counter", ["a"]) == "704e99e868244ebb"
    assert ids.actor_id("default", "counter", ("a",), 1) == "704e99e868244ebb"


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("counter", [], "76dea91135f9a6b0"),
        ("counter", [""], "0b161eb62086e5a2"),
        ("counter", ["a", "b"], "b086235de070f0cf"),
        ("é", ["\u4e2d", "\U0001f600"], "987a5200f28c4691"),
        ("c", ['"', "\\", "/", "\n", "\x01"], "64853663836cfd8b"),
        ("c", ["\x7f", "\u2028"], "f9fdd94b9a15ad02"),
    ],
)
def test_ids_as_node_computes_them(name: str, key: list[str], expected: str) -> None:
    """By Node 24: the first 16 hex digits of the sha256 of `JSON.stringify([name, key])`."""
    assert ids.actor_id("default", name, key) == expected


def test_namespaces_have_ids_of_their_own() -> None:
    found = {ids.actor_id(space, "counter", ["a"]) for space in ("default", "other", "", "Other")}
    assert len(found) == 4
    # Not the id of an actor called "other" with a key that happens to look like it.
    assert ids.actor_id("other", "counter", []) != ids.actor_id("default", "other", ["counter"])


def test_generations() -> None:
    first = ids.actor_id("default", "counter", ["a"])
    assert ids.actor_id("default", "counter", ["a"], 2) == f"{first}-2"
    assert ids.actor_id("default", "counter", ["a"], 13) == f"{first}-13"


def test_lone_surrogates_have_ids_too() -> None:
    """Not those of the original, which escapes them; no encoding of ours carries them."""
    found = ids.actor_id("default", "counter", ["\ud800"])
    assert len(found) == 16
    assert found != ids.actor_id("default", "counter", ["\udc00"])
    assert found != ids.actor_id("default", "counter", ["\\ud800"])


@given(keys, keys)
def test_different_keys_have_different_ids(one: list[str], two: list[str]) -> None:
    same = ids.actor_id("default", "counter", one) == ids.actor_id("default", "counter", two)
    assert same == (one == two)


@given(keys)
def test_the_kind_of_sequence_does_not_matter(key: list[str]) -> None:
    assert ids.actor_id("default", "c", key) == ids.actor_id("default", "c", tuple(key))


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (None, ()),
        ("", ("",)),
        ("abc", ("abc",)),
        ([], ()),
        (["a", "b"], ("a", "b")),
        (("a",), ("a",)),
    ],
)
def test_keys_that_callers_mean(value: str | list[str] | None, key: ids.Key) -> None:
    assert ids.key_from(value) == key


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a:b"),
        (["a:b"], r"a\:b"),
        (["a\\", "b"], r"a\\:b"),
        (["a\\:b"], r"a\\\:b"),
        (["", ""], ":"),
        (["é", "\U0001f600"], "é:\U0001f600"),
    ],
)
def test_escaped_keys(key: list[str], text: str) -> None:
    assert ids.escape_key(key) == text


def unescape(text: str) -> list[str]:
    parts, rest = [""], iter(text)
    for character in rest:
        if character == ":":
            parts.append("")
        else:
            parts[-1] += next(rest) if character == "\\" else character
    return parts


@given(keys.filter(bool))
def test_an_escaped_key_can_be_read_back(key: list[str]) -> None:
    """So no two keys share one text, but for `()` and `("",)`, which both are empty."""
    assert unescape(ids.escape_key(key)) == key


def test_tokens_are_random_and_of_their_form() -> None:
    connections = {ids.connection_id() for _ in range(100)}
    assert len(connections) == 100
    assert all(
        uuid.UUID(text).version == 4 and str(uuid.UUID(text)) == text for text in connections
    )
    tokens = {ids.connection_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(base64.b64decode(token, validate=True)) == 16 for token in tokens)
    owners = {ids.owner_token() for _ in range(100)}
    assert len(owners) == 100
    assert all(len(bytes.fromhex(token)) == 8 for token in owners)
