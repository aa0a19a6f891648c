"""The older form: wire-protocol.md, A.9."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import quote

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.errors import InvalidQueryJSON, MalformedMessage
from rivet_ray.protocol import older, values
from rivet_ray.protocol.encodings import CBOR, ENCODINGS, JSON
from rivet_ray.protocol.subprotocols import Connect


def test_the_names_of_headers() -> None:
    assert older.HEADERS == {
        "X-AC-Query": "X-RivetKit-Query",
        "X-AC-Encoding": "X-RivetKit-Encoding",
        "X-AC-Conn-Params": "X-RivetKit-Conn-Params",
        "X-AC-Actor": "X-RivetKit-Actor",
        "X-AC-Conn": "X-RivetKit-Conn",
        "X-AC-Conn-Token": "X-RivetKit-Conn-Token",
    }
    assert older.INTERNAL_HEADERS == ("X-AC-Auth-Data", "X-AC-Expose-Internal-Error")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["json", "cbor", "x"]))
def test_an_address_round_trips(query: str, encoding: str) -> None:
    address = f"encoding={encoding}&query={quote(query, safe='')}"
    assert older.parse_address(address.encode()) == Connect(query, encoding, None, exact=True)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (b"", Connect(None, None, None, exact=True)),
        (b"query=", Connect("", None, None, exact=True)),
        (b"encoding=json&other=1", Connect(None, "json", None, exact=True)),
        (b"query=1&query=2&encoding=cbor&encoding=json", Connect("1", "cbor", None, exact=True)),
        (b"query=a+b%2Bc&params=7", Connect("a b+c", None, None, exact=True)),
    ],
)
def test_addresses(address: bytes, expected: Connect) -> None:
    assert older.parse_address(address) == expected


@pytest.mark.parametrize("address", [b"query=%ff", b"query=\xff", b"&".join([b"a=1"] * 33)])
def test_addresses_that_cannot_be_read(address: bytes) -> None:
    with pytest.raises(InvalidQueryJSON):
        older.parse_address(address)


@pytest.mark.parametrize("params", [None, 0, "", [], {"token": ["é", 1, None]}])
def test_the_first_message(params: Any) -> None:
    for encoding in ENCODINGS.values():
        frame = encoding.encode({"b": {"i": {"p": params}}})
        found = older.decode_first(encoding, frame if encoding.binary else frame.decode())
        assert found is not None
        assert values.decode(found) == params


def test_a_first_message_without_parameters() -> None:
    assert older.decode_first(JSON, '{"b":{"i":{}}}') is None
    assert older.decode_first(CBOR, cbor2.dumps({"b": {"i": {}}})) is None
    assert older.decode_first(CBOR, cbor2.dumps({"b": {"i": {"p": cbor2.undefined}}})) is None


@pytest.mark.parametrize(
    "frame",
    ["", "{", "{}", "[]", '{"b":{}}', '{"b":{"i":null}}', '{"b":{"sr":{"e":"x","s":true}}}', b"{}"],
)
def test_first_messages_that_cannot_be_read(frame: str | bytes) -> None:
    with pytest.raises(MalformedMessage):
        older.decode_first(JSON, frame)
    with pytest.raises(MalformedMessage):
        older.decode_first(CBOR, frame.decode() if isinstance(frame, bytes) else frame)


@given(st.binary(max_size=40))
def test_any_bytes(data: bytes) -> None:
    for encoding, frame in ((CBOR, data), (JSON, data.decode("latin-1"))):
        with contextlib.suppress(MalformedMessage):
            older.decode_first(encoding, frame)
