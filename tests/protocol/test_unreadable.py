"""Which call a message is, where its arguments cannot be read."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.errors import MalformedMessage
from rivet_ray.protocol import v0
from rivet_ray.protocol.encodings import CBOR, JSON
from rivet_ray.protocol.unreadable import call_of

NAN = float("nan")


def message(**changed: Any) -> Any:
    call: dict[str, Any] = {"i": 7, "n": "add", "a": [NAN]}
    return {"b": {"ar": {name: value for name, value in (call | changed).items() if value != ""}}}


@pytest.mark.parametrize("number", [0, 23, 24, 2**32 - 1, float(2**32), 2**53, float(2**53)])
def test_the_number_of_a_call_in_cbor(number: float) -> None:
    """From 2**32 on JavaScript writes integers as floats."""
    read = v0.decode_to_server(CBOR, cbor2.dumps(message(i=number)))
    assert isinstance(read, v0.UnreadableRequest)
    assert (read.id, type(read.id)) == (number, int)
    assert "NaN" in read.problem


WRONG: list[Any] = [
    *({"i": number} for number in (-1, 2**53 + 1, 1.5, NAN, float("inf"), "1", True, None, "")),
    *({"n": name} for name in (1, None, [], "")),
    *({"a": arguments} for arguments in (NAN, {"a": NAN}, None, "")),
]


@pytest.mark.parametrize("changed", WRONG, ids=str)
def test_what_is_not_a_call(changed: Any) -> None:
    wrong = message(**changed)
    assert call_of(CBOR, cbor2.dumps(wrong)) is None
    text = json.dumps(message(**({"a": [1]} | changed)), default=str)
    assert call_of(JSON, text) is None


def test_messages_around_a_call() -> None:
    call = {"i": 1, "n": "a", "a": [NAN]}
    wanted = {"e": "x", "s": True}
    for other in ({}, [], {"b": []}, {"b": {"ar": []}}, {"b": {"ar": call, "sr": wanted}}):
        assert call_of(CBOR, cbor2.dumps(other)) is None
        with pytest.raises(MalformedMessage):
            v0.decode_to_server(CBOR, cbor2.dumps(other))
    more = {"x": [1], "b": {"y": NAN, "ar": call | {"k": "key", "z": {}}}, "b2": None}
    assert call_of(CBOR, cbor2.dumps(more)) == 1
    assert call_of(CBOR, cbor2.dumps(more) + b"\x00") is None
    assert (
        call_of(JSON, b'{"b":{"ar":{"i":1,"n":"a","a":[1e999]},"sr":{"e":"x","s":true}}}') is None
    )
    assert call_of(JSON, b'{"x":1,"b":{"y":1,"ar":{"i":1,"z":1,"n":"a","a": [1e999]}}}') == 1


@given(data=st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    for encoding in (JSON, CBOR):
        call_of(encoding, data)
    with contextlib.suppress(MalformedMessage):
        v0.decode_to_server(CBOR, b"\xa1\x61b\xa1\x62ar\xa3\x61i\x07\x61n\x61x\x61a\x81" + data)
