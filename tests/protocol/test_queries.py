"""Actor queries: which actor a client means."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.errors import InvalidQueryJSON, InvalidRequest
from rivet_ray.protocol.queries import (
    ActorQuery,
    Create,
    GetById,
    GetByKey,
    GetOrCreate,
    check_key,
    decode_query,
    encode_query,
)

FORMS: list[tuple[ActorQuery, str]] = [
    (GetById("a1"), '{"getForId":{"actorId":"a1"}}'),
    (GetByKey("chat", ["a", "b"]), '{"getForKey":{"name":"chat","key":["a","b"]}}'),
    (GetOrCreate("chat", []), '{"getOrCreateForKey":{"name":"chat","key":[]}}'),
    (Create("chat", ["a"]), '{"create":{"name":"chat","key":["a"]}}'),
    (
        GetOrCreate("chat", ["a"], msgspec.Raw(b'{"x":[1]}'), "eu"),
        '{"getOrCreateForKey":{"name":"chat","key":["a"],"input":{"x":[1]},"region":"eu"}}',
    ),
    (
        Create("chat", ["a"], msgspec.Raw(b"null")),
        '{"create":{"name":"chat","key":["a"],"input":null}}',
    ),
]


@pytest.mark.parametrize(("query", "text"), FORMS)
def test_forms(query: ActorQuery, text: str) -> None:
    """Each form is, character for character, the one that the original writes."""
    assert encode_query(query) == text
    for received in (text, text.encode()):
        read = decode_query(received)
        assert type(read) is type(query)
        assert encode_query(read) == text


def test_input_stays_json() -> None:
    """The input is not read here; absent and null are told apart."""
    absent = decode_query('{"create":{"name":"a","key":[]}}')
    null = decode_query('{"create":{"name":"a","key":[],"input":null}}')
    assert isinstance(absent, Create)
    assert isinstance(null, Create)
    assert absent.input is msgspec.UNSET
    assert isinstance(null.input, msgspec.Raw)
    assert bytes(null.input) == b"null"


def test_intents() -> None:
    """What a caller must be allowed: to get, to create, or both."""
    assert GetById("a").intents == {"get"}
    assert GetByKey("a", []).intents == {"get"}
    assert GetOrCreate("a", []).intents == {"get", "create"}
    assert Create("a", []).intents == {"create"}


def test_members_that_the_client_spreads_are_ignored() -> None:
    """`client.create` sends its own options along."""
    text = '{"create":{"name":"a","key":["k"],"params":{"t":1},"signal":{}},"x":1}'
    assert decode_query(text) == Create("a", ["k"])


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "nope", '{"getForId":}', "{} {}", '{"x":' + "[" * 100_000, "\ud800"),
        *(b"\xff", b'{"getForId":{"actorId":"\xff"}}'),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_not_json(text: str | bytes) -> None:
    """Text that is not JSON is InvalidQueryJSON."""
    with pytest.raises(InvalidQueryJSON):
        decode_query(text)


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        '"a"',
        "{}",
        '{"getForId":null}',
        '{"getForId":{}}',
        '{"getForId":{"actorId":1}}',
        '{"getForKey":{"name":"a"}}',
        '{"getForKey":{"key":[]}}',
        '{"getForKey":{"name":"a","key":"k"}}',
        '{"getForKey":{"name":"a","key":[1]}}',
        '{"getForKey":{"name":"a","key":[null]}}',
        '{"getOrCreateForKey":{"name":1,"key":[]}}',
        '{"create":{"name":"a","key":[],"region":1}}',
        '{"getForId":{"actorId":"a"},"getForKey":{"name":"a","key":[]}}',
        '{"create":{"name":"a","key":[]},"getOrCreateForKey":{"name":"a","key":[]}}',
    ],
)
def test_not_a_query(text: str) -> None:
    """JSON that is not exactly one query is InvalidRequest."""
    with pytest.raises(InvalidRequest):
        decode_query(text)


@pytest.mark.parametrize("part", ["a" * 128, "é" * 128, "😀" * 64, ""])
def test_key_parts_within_the_limit(part: str) -> None:
    """A part has up to 128 UTF-16 units: an emoji counts twice, an accent once."""
    check_key([part, part])
    query = GetByKey("a", [part])
    assert decode_query(encode_query(query)) == query


@pytest.mark.parametrize("form", ["getForKey", "getOrCreateForKey", "create"])
@pytest.mark.parametrize("part", ["a" * 129, "é" * 129, "😀" * 64 + "a", "😀" * 65])
def test_key_parts_beyond_the_limit(form: str, part: str) -> None:
    """One unit more is refused, in every form that has a key."""
    text = msgspec.json.encode({form: {"name": "a", "key": ["ok", part]}})
    with pytest.raises(InvalidRequest, match="128"):
        decode_query(text)


@given(name=st.text(st.characters(exclude_categories=["Cs"])), data=st.data())
def test_round_trip(name: str, data: st.DataObject) -> None:
    """Any name and key arrive as they were sent."""
    part = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
    key = data.draw(st.lists(part, max_size=4))
    for query in (GetById(name), GetByKey(name, key), GetOrCreate(name, key), Create(name, key)):
        assert decode_query(encode_query(query)) == query


@given(text=st.text() | st.binary())
def test_anything_may_arrive(text: str | bytes) -> None:
    """Random text raises one of the two documented errors or nothing."""
    with contextlib.suppress(InvalidQueryJSON, InvalidRequest):
        decode_query(text)
