"""Server-sent events: what the server writes, and what the standard says of reading."""

from __future__ import annotations

import base64
import json
import random

import pytest

from rivet_ray.protocol import v0
from rivet_ray.protocol.encodings import CBOR, JSON, DecodeFault, Encoding
from rivet_ray.protocol.event_stream import (
    Ended,
    EventStreamReader,
    ServerSentEvent,
    close_event,
    ended_of,
    error_event,
    message_event,
    message_of,
)


def read(*chunks: bytes) -> list[tuple[str, str]]:
    reader = EventStreamReader()
    return [event[:2] for chunk in chunks for event in reader.feed(chunk)]


# --- What is written --------------------------------------------------------------


def test_the_bytes() -> None:
    assert message_event(JSON, b'{"b":{}}') == b'data: {"b":{}}\n\n'
    assert message_event(CBOR, b"\xa1\x61b\xa0") == b"data: oWFioA==\n\n"
    assert error_event("invalid_request") == b"event: error\ndata: invalid_request\n\n"
    assert close_event(1012, "resync") == b'event: close\ndata: {"code":1012,"reason":"resync"}\n\n'


@pytest.mark.parametrize("encoding", [JSON, CBOR])
@pytest.mark.parametrize("text", ["", "a\nb", "a\r\nb", "\r", "\u2028 é \U0001f600", "data: x\n\n"])
def test_a_message_is_one_line(encoding: Encoding, text: str) -> None:
    """A line break inside would be the end of the event."""
    error = v0.ErrorMessage("c", text)
    event = message_event(encoding, v0.encode_to_client(encoding, error))
    assert event.endswith(b"\n\n")
    assert not set(b"\r\n") & set(event[:-2])
    (found,) = EventStreamReader().feed(event)
    assert v0.decode_to_client(encoding, message_of(encoding, found)) == error


def test_a_reason_cannot_end_the_event() -> None:
    event = close_event(1000, 'a\n\ndata: "b"\r\n')
    (found,) = EventStreamReader().feed(event)
    assert found.name == "close"
    assert ended_of(found) == Ended(1000, 'a\n\ndata: "b"\r\n')


# --- What is read -----------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends(end: bytes) -> None:
    lines = [b": hello", b"event: a", b"data: 1", b"data:2", b"", b"data: 3", b"", b""]
    expected = [("a", "1\n2"), ("message", "3")]
    whole = end.join(lines)
    assert read(whole) == expected
    assert read(*(whole[at : at + 1] for at in range(len(whole)))) == expected


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data\n\n", [("message", "")]),
        (b"data\ndata\n\n", [("message", "\n")]),
        (b"data:\n\n", [("message", "")]),
        (b"data:  two\n\n", [("message", " two")]),
        (b"event: lonely\n\ndata: x\n\n", [("message", "x")]),
        (b"id: 1\nretry: 5\nunknown: y\n\n", []),
        (b"id: 1\ndata: x\n\n", [("message", "x")]),
        (b": only a comment\n\n", []),
        (b":\ndata: x\n:\ndata: y\n\n", [("message", "x\ny")]),
        (b"Data: x\n data: y\n\n", []),
        (b"data: cut off\n", []),
        (b"data: cut off", []),
        (b"\xef\xbb\xbfdata: mark\n\n", [("message", "mark")]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", "a")]),
        (b"data: \xff\n\n", [("message", "\ufffd")]),
        (b"\n\n\n", []),
        ("data: \u2028 is no line end\n\n".encode(), [("message", "\u2028 is no line end")]),
        (b"data: a:b: c\n\n", [("message", "a:b: c")]),
        (b"data: x\r\n\r\ndata: y\r\r", [("message", "x"), ("message", "y")]),
    ],
)
def test_the_standard(stream: bytes, expected: list[tuple[str, str]]) -> None:
    assert read(stream) == expected
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == expected


def test_any_cut() -> None:
    chance = random.Random(5)
    pieces = ["data: é".encode(), b"\r\n", b"\n", b"\r", b": c", b"event: e"]
    for _ in range(500):
        stream = b"".join(chance.choices(pieces, k=12))
        cuts = sorted(chance.sample(range(len(stream)), 4))
        parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert read(*parts) == read(stream), stream


def test_a_long_event_in_many_chunks_is_not_searched_again_and_again() -> None:
    event = message_event(JSON, json.dumps("x" * 2_000_000).encode())
    chunks = [event[at : at + 100] for at in range(0, len(event), 100)]
    (found,) = read(*chunks)
    assert len(found[1]) == 2_000_002


@pytest.mark.parametrize("data", ["é", "a", "ab=c", "oWFioA==\n", " oWFioA=="])
def test_what_is_not_base64(data: str) -> None:
    with pytest.raises(DecodeFault):
        message_of(CBOR, ServerSentEvent("message", data))


@pytest.mark.parametrize("data", ["", "{}", "[]", '{"code":"x","reason":""}'])
def test_a_close_that_cannot_be_read(data: str) -> None:
    with pytest.raises(DecodeFault):
        ended_of(ServerSentEvent("close", data))


def test_base64_is_the_standard_alphabet() -> None:
    payload = bytes(range(256))
    event = message_event(CBOR, payload)
    assert base64.b64decode(event.removeprefix(b"data: ").strip(), validate=True) == payload


@pytest.mark.parametrize("step", [1, 7, 1_000_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_of_an_event_that_is_too_long_the_start_is_kept(step: int, end: bytes) -> None:
    """What never ends used to be kept whole."""
    lines = [
        *(b"data: before", b"", b"event: x", b"data: " + b"a" * 9_000, b"data: more", b""),
        *(b": " + b"c" * 9_000, b"data: between", b""),
        *(b"data: " + b"d" * 50 for _ in range(200)),
        *(b"", b"data: after", b"", b""),
    ]
    whole = end.join(lines)
    reader = EventStreamReader(6_000)
    found: list[ServerSentEvent] = []
    for at in range(0, len(whole), step):
        found += reader.feed(whole[at : at + step])
        assert len(reader._rest) <= 6_000
    assert [event.name for event in found] == ["message", "x", "message", "message", "message"]
    assert [event.cut for event in found] == [False, True, False, True, False]
    assert found[1].data == "a" * 4_096
    assert [found[0].data, found[2].data, found[4].data] == ["before", "between", "after"]
    assert found[3].data.startswith("d" * 50 + "\n")
    assert len(found[3].data) < 6_000
