"""What a client offers as subprotocols, and how a server reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.protocol.subprotocols import Connect, Resume, connect_protocols, parse_protocols

text = st.text(st.characters(exclude_categories=["Cs"]))
CLAIM = Connect(None, None, None, Resume("c", "a+b", 7))


def test_protocols_are_encoded_as_javascript_does() -> None:
    """The offer is what `encodeURIComponent` makes of the query, then `rivetkit`."""
    query = '{"getForKey":{"name":"a b","key":["é/😀","~!*\'()-_."]}}'
    expected = (
        "query.%7B%22getForKey%22%3A%7B%22name%22%3A%22a%20b%22%2C%22key%22%3A%5B%22"
        "%C3%A9%2F%F0%9F%98%80%22%2C%22~!*'()-_.%22%5D%7D%7D"
    )
    assert connect_protocols(query, "cbor", None) == [expected, "encoding.cbor", "rivetkit"]
    assert connect_protocols("{}", "json", '{"t":1}') == [
        "query.%7B%7D",
        "encoding.json",
        "conn_params.%7B%22t%22%3A1%7D",
        "rivetkit",
    ]
    # A lone surrogate cannot be offered; in JavaScript it is a URIError.
    with pytest.raises(UnicodeEncodeError):
        connect_protocols("\ud800", "json", None)


@given(
    query=text,
    params=st.none() | text,
    resume=st.none()
    | st.builds(Resume, st.none(), st.none(), st.integers(0, 2**53))
    | st.builds(Resume, text, text, st.integers(0, 2**53)),
)
def test_protocols_round_trip(query: str, params: str | None, resume: Resume | None) -> None:
    """What was offered is what is read, whatever the text."""
    offered = connect_protocols(query, "json", params, resume)
    assert parse_protocols(offered) == Connect(query, "json", params, resume)


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ([], Connect(None, None, None)),
        (["rivetkit"], Connect(None, None, None)),
        (["query.1"], Connect("1", None, None)),
        (["encoding.json", "query.1"], Connect("1", "json", None)),
        (["query.1", "query.2"], Connect("1", None, None)),
        (["query.1", "rivetkit", "encoding.json", "conn_params.2"], Connect("1", None, None)),
        (["query.%ff", "encoding.%63bor"], Connect("%ff", "%63bor", None)),
        (["query.", "conn_params."], Connect("", None, "")),
        (["graphql-ws", "query.1%2b+1"], Connect("1++1", None, None)),
        (["conn_seen.7"], Connect(None, None, None, Resume(seen=7))),
        (["conn_seen.7", "conn.c"], Connect(None, None, None, Resume(seen=7))),
        (["conn_seen.7", "conn.c", "conn_token.a%2Bb"], CLAIM),
        (["conn.c", "conn_token.a%2Bb"], Connect(None, None, None)),
        (["conn_seen.-7"], Connect(None, None, None)),
        (["conn_seen.²"], Connect(None, None, None)),
        (["conn_seen." + "9" * 17], Connect(None, None, None)),
    ],
    ids=str,
)
def test_parse_protocols(offered: list[str], expected: Connect) -> None:
    """Offers of the user, after `rivetkit`, are not ours; bad escapes stay as they are."""
    assert parse_protocols(offered) == expected


@given(offered=st.lists(st.text() | st.sampled_from(["query.%", "conn_params.%ff", "query.%e9"])))
def test_parse_protocols_never_raises(offered: list[str]) -> None:
    """Whatever a client offers can be read."""
    parse_protocols(offered)
