"""Frames: any split of the stream reads the same; nothing unreadable passes."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.link.faults import LinkGarbled
from rivet_ray.link.frames import (
    Beat,
    FrameReader,
    TooLong,
    Unreadable,
    decode_to_gateway,
    decode_to_host,
    encode_batch,
    frame,
)
from rivet_ray.protocol.caller import Caller, Message, RequestInfo
from rivet_ray.protocol.port import (
    Attached,
    Call,
    Cancel,
    Close,
    Deliver,
    Reply,
    ToGateway,
    ToHost,
)

TO_HOST: list[ToHost | Beat] = [
    Call(1, "a", "increment", b"\x91\x01", caller=Caller(b"p", None, RequestInfo("GET", "/", []))),
    Cancel(1),
    Beat(True),
]
TO_GATEWAY: list[ToGateway | Beat] = [
    Reply(1, None),
    Attached(2),
    Deliver("a", "e", b"\x90", None, 7),
    Close("c", 1000, "bye"),
    Beat(False),
]


def read(reader: FrameReader, *chunks: bytes) -> list[bytes]:
    found: list[bytes] = []
    for chunk in chunks:
        reader.feed(chunk)
        while (payload := reader.next()) is not None:
            found.append(payload)
    return found


def never(message: Message, fault: Exception) -> Sequence[Message]:
    raise AssertionError((message, fault))


def test_every_cut_of_a_stream_reads_the_same() -> None:
    payloads = [b"", b"one", b"x" * 300, b"two"]
    stream = b"".join(frame(payload) for payload in payloads)
    for cut in range(len(stream) + 1):
        assert read(FrameReader(300), stream[:cut], stream[cut:]) == payloads
    assert read(FrameReader(300), *(stream[i : i + 1] for i in range(len(stream)))) == payloads


@given(st.lists(st.binary(max_size=2000)), st.data())
def test_any_split_reads_the_same(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frame(payload) for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    ends = [0, *cuts, len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(ends)]
    assert read(FrameReader(2000), *chunks) == payloads


def test_a_long_frame_is_refused_by_its_length_alone() -> None:
    reader = FrameReader(10)
    assert read(reader, frame(b"x" * 10)) == [b"x" * 10]
    reader.feed((11).to_bytes(4, "big"))
    with pytest.raises(LinkGarbled, match="11 bytes; 10 is the limit"):
        reader.next()


def test_the_limit_holds_from_the_next_frame_on() -> None:
    reader = FrameReader(2)
    reader.feed(frame(b"ab") + frame(b"abcdef"))
    assert reader.next() == b"ab"
    reader.limit = 6
    assert reader.next() == b"abcdef"
    assert reader.next() is None


def test_a_batch_is_one_frame_and_comes_back_equal() -> None:
    [to_host] = encode_batch(TO_HOST, 1000, never)
    [to_gateway] = encode_batch(TO_GATEWAY, 1000, never)
    assert [decode_to_host(payload) for payload in read(FrameReader(1000), bytes(to_host))] == [
        TO_HOST
    ]
    assert decode_to_gateway(bytes(to_gateway[4:])) == TO_GATEWAY


@given(st.lists(st.integers(0, 200), max_size=30), st.integers(30, 500))
def test_a_batch_is_split_at_the_limit_and_keeps_its_order(sizes: list[int], limit: int) -> None:
    messages = [Reply(number, b"x" * size) for number, size in enumerate(sizes)]
    left_out: list[Message] = []

    def unsendable(message: Message, fault: Exception) -> Sequence[Message]:
        assert isinstance(fault, TooLong)
        left_out.append(message)
        return ()

    frames = encode_batch(messages, limit, unsendable) if messages else []
    payloads = read(FrameReader(limit), *(bytes(item) for item in frames))
    arrived = [message for payload in payloads for message in decode_to_gateway(payload)]
    assert arrived == [message for message in messages if message not in left_out]
    for message in messages:
        alone = len(msgspec.msgpack.encode([message]))
        assert (message in left_out) == (alone > limit)


@pytest.mark.parametrize("instead", [[], [Cancel(4)], [Cancel(4), Cancel(5)]])
def test_what_cannot_be_encoded_is_left_out_alone(instead: list[Cancel]) -> None:
    """What replaces it goes in its place, so that the order stays."""
    left_out: list[tuple[Message, type[Exception]]] = []
    bad = Call(2, "a", "\ud800", b"\x90")

    def unsendable(message: Message, fault: Exception) -> Sequence[Message]:
        left_out.append((message, type(fault)))
        return instead

    frames = encode_batch([Cancel(1), bad, Cancel(3)], 1000, unsendable)
    assert left_out == [(bad, UnicodeEncodeError)]
    arrived = [m for f in frames for m in decode_to_host(bytes(f[4:]))]
    assert arrived == [Cancel(1), *instead, Cancel(3)]


@given(st.binary(max_size=200))
def test_random_bytes_are_garbled_or_a_batch(data: bytes) -> None:
    for decode in (decode_to_host, decode_to_gateway):
        with contextlib.suppress(LinkGarbled):
            assert isinstance(decode(data), list)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\x91\xc6\xff\xff\xff\xff",
        b"\x91\x01",
        b"\x91\x90",
        b"\x91\x91\x01",
        b"\x91\x93\xa6cancel\x01" + b"\x91" * 100_000,
        b"\x90\x90",
    ],
)
def test_garbage_is_named(data: bytes) -> None:
    with pytest.raises(LinkGarbled, match="cannot be read"):
        decode_to_host(data)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x92\xa6cancel\xa1x", "cancel"),
        (b"\x92\xa7unknown\x01", "unknown"),
        (b"\x92\xa5reply\x01", "reply"),
        (b"\x95\xa4call\x01\xa1\xff\xa1a\xc4\x00", "call"),
    ],
)
def test_garbage_in_a_whole_frame_leaves_its_neighbours_alone(data: bytes, kind: str) -> None:
    whole = msgspec.msgpack.encode(Cancel(1))
    first, found, last = decode_to_host(b"\x93" + whole + data + whole)
    assert (first, last) == (Cancel(1), Cancel(1))
    assert isinstance(found, Unreadable)
    assert found.kind == kind
