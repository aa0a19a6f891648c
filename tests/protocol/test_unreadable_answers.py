"""Whose message of a server it is, where its value cannot be read."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.protocol import v0
from rivet_ray.protocol.encodings import CBOR, JSON, DecodeFault, Encoding
from rivet_ray.protocol.unreadable_answers import Subject, subject_of

BOTH = pytest.mark.parametrize("encoding", [JSON, CBOR], ids=["json", "cbor"])


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def written(encoding: Encoding, body: Any) -> bytes:
    message = {"b": body}
    return cbor2.dumps(message) if encoding.binary else json.dumps(message).encode()


def read(encoding: Encoding, body: Any) -> v0.Arrived:
    data = written(encoding, body)
    return v0.decode_to_client(encoding, data if encoding.binary else data.decode())


@BOTH
@pytest.mark.parametrize("value", [deep(150), [float("nan")]], ids=["deep", "NaN"])
@pytest.mark.parametrize("number", [0, 24, 2**53])
def test_an_answer_that_cannot_be_read(encoding: Encoding, value: Any, number: int) -> None:
    message = read(encoding, {"ar": {"i": number, "o": value}})
    assert isinstance(message, v0.UnreadableAnswer)
    assert (message.id, message.took_effect) == (number, True)
    assert message.problem


@BOTH
def test_an_error_and_an_event_that_cannot_be_read(encoding: Encoding) -> None:
    failed = {"c": "closed", "m": "Not today.", "md": deep(150), "ai": 7}
    message = read(encoding, {"e": failed})
    assert isinstance(message, v0.UnreadableAnswer)
    assert (message.id, message.took_effect) == (7, False)
    event = read(encoding, {"ev": {"n": "tøld", "a": [deep(150)], "s": 12}})
    assert isinstance(event, v0.UnreadableEvent)
    assert (event.name, event.sequence) == ("tøld", 12)


NO_ANSWERS: list[Any] = [[], None, {"o": deep(150)}, deep(150)]
NO_EVENTS: list[Any] = [[], {"a": [deep(150)]}, {"n": 1, "a": [deep(150)]}, {"n": "x"}]
NOBODYS: list[Any] = [
    *({"ar": {"i": number, "o": deep(150)}} for number in (-1, 2**53 + 1, 1.5, "1", True)),
    *({"ar": answer} for answer in NO_ANSWERS),
    *({"ev": event} for event in NO_EVENTS),
    {"e": {"c": "x", "m": "", "md": deep(150)}},
    {"ev": {"n": "x", "a": []}, "ar": {"i": 1}},
    {"i": deep(150), "ar": {"i": 1}},
    {"x": deep(150)},
    {},
    [],
]


@BOTH
@pytest.mark.parametrize("body", NOBODYS)
def test_what_belongs_to_nobody(encoding: Encoding, body: Any) -> None:
    assert subject_of(encoding, written(encoding, body)) is None
    with pytest.raises(DecodeFault):
        read(encoding, body)


@BOTH
def test_the_start_of_an_answer_is_enough(encoding: Encoding) -> None:
    whole = written(encoding, {"ar": {"i": 5, "o": "x" * 10_000}})
    assert subject_of(encoding, whole[:5_000]) == Subject(5, answered=True)
    assert subject_of(encoding, whole[:8]) is None


@given(data=st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    for encoding in (JSON, CBOR):
        subject_of(encoding, data)
        with contextlib.suppress(DecodeFault):
            v0.decode_to_client(encoding, data)
    for start in (b"\xa1\x61b\xa1\x62ar\xa2\x61i\x07\x61o", b"\xa1\x61b\xa1\x62ev\xa2\x61n"):
        subject_of(CBOR, start + data)
    subject_of(JSON, b'{"b":{"ar":{"i":1,"o":' + data)
