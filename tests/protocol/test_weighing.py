"""Weighing: never too little for what a decoder makes, never by what is inside of texts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rivet_ray.protocol import weighing
from rivet_ray.protocol.encodings import CBOR, JSON
from rivet_ray.protocol.faults import DecodeFault
from rivet_ray.protocol.weighing import CONTAINER, MAX_DEPTH, NAME, weigh_cbor, weigh_json

MOST = 10**9
text = st.text(st.characters(exclude_categories=["Cs"])) | st.text('",:[]{}\\', max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=40,
)


def containers(value: Any) -> Iterator[list[Any] | dict[str, Any]]:
    if isinstance(value, (list, dict)):
        yield value
        for member in value.values() if isinstance(value, dict) else value:
            yield from containers(member)


def names(value: Any) -> int:
    return sum(len(found) for found in containers(value) if isinstance(found, dict))


# --- JSON -------------------------------------------------------------------


@given(values, st.integers(1, 40), st.booleans())
@example(["\\" * 9 + '"'], 4, False)
def test_the_weight_of_json(value: Any, size: int, escaped: bool) -> None:
    """Of its items alone, wherever it is cut into slices."""
    data = json.dumps(value, ensure_ascii=escaped).encode()
    found = list(containers(value))
    expected = 1 + sum(CONTAINER + max(len(one) - 1, 0) for one in found) + NAME * names(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weighing, "SLICE", size)
        assert weigh_json(data, MOST) == expected


@given(st.binary(max_size=200), st.integers(1, 20))
def test_any_bytes_have_a_weight_as_json(data: bytes, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weighing, "SLICE", size)
        assert weigh_json(data, MOST) >= 1


def test_names_that_come_twice_count_twice() -> None:
    assert weigh_json(b'{"a":1,"a":1}', MOST) == 1 + CONTAINER + 1 + 2 * NAME


@pytest.mark.parametrize("size", [3, 1_000, 100_000])
def test_depth(size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weighing, "SLICE", size)
        deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
        assert weigh_json(deepest * 9, MOST) == 1 + CONTAINER * MAX_DEPTH * 9
        assert weigh_json(b'"' + b"[" * 500 + b'"', MOST) == 1
        with pytest.raises(DecodeFault, match="deeper"):
            weigh_json(b"[" + deepest + b"]", MOST)
        with pytest.raises(DecodeFault, match="deeper"):
            weigh_json(b'[{"a":' * 51, MOST)


def test_numbers_of_very_many_digits() -> None:
    for number in (b"9" * 1_000, b"0." + b"9" * 1_000):
        for spaces in range(0, weighing.SLICE, 1_111):
            with pytest.raises(DecodeFault, match="digits"):
                weigh_json(b" " * spaces + number, MOST)
    assert weigh_json(b'"' + b"9" * 100_000 + b'"', MOST) == 1
    assert weigh_json(b"9" * 499, MOST) == 1


# --- CBOR -------------------------------------------------------------------

tagged = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | text
    | st.binary()
    | st.just(cbor2.undefined)
    | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(text | st.integers(), inner),
    max_leaves=40,
)


@given(tagged)
def test_the_weight_of_cbor(value: Any) -> None:
    data = cbor2.dumps(value, timezone=UTC)
    found = list(containers(value))
    items = 1 + sum(len(one) for one in found)
    least = items + (CONTAINER - 1) * len(found) + NAME * names(value)
    assert least <= weigh_cbor(data, MOST) <= least + 1 + 10 * items  # Some have tags.


@given(st.binary(max_size=200))
def test_any_bytes_have_a_weight_as_cbor(data: bytes) -> None:
    assert weigh_cbor(data, MOST) >= 1


def test_open_lengths() -> None:
    assert weigh_cbor(b"\x9f" + b"\x80" * 10 + b"\xff", MOST) >= 11 * CONTAINER
    assert weigh_cbor(b"\xbf" + b"\x61a\x01" * 10 + b"\xff", MOST) >= CONTAINER + 10 * (NAME + 1)
    assert weigh_cbor(b"\x7f" + b"\x61a" * 10 + b"\xff", MOST) >= 10


def test_typed_arrays_weigh_by_their_elements() -> None:
    """The decoder makes a list of numbers of each; but bytes stay bytes."""
    block = (16_000).to_bytes(2, "big") + bytes(16_000)
    for tag, size in ((68, 1), (69, 2), (70, 4), (86, 8)):
        head = b"\xd8" + bytes([tag])
        assert weigh_cbor(head + b"\x59" + block, MOST) >= 16_000 // size
        assert weigh_cbor(head + b"\x5f\x59" + block + b"\xff", MOST) >= 16_000 // size
    assert weigh_cbor(b"\xd8\x40\x59" + block, MOST) < 20
    assert weigh_cbor(b"\x5f\x59" + block + b"\xff\x59" + block, MOST) < 20


@pytest.mark.parametrize("head", ["9b", "bb", "5b", "7b"])
def test_lengths_that_promise_too_much(head: str) -> None:
    assert weigh_cbor(bytes.fromhex(head) + b"\xff" * 8, MOST) >= 1


# --- Both -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weigh", "data"),
    [
        (weigh_json, b"[[]" + b",[]" * 1_000_000),
        (weigh_cbor, b"\x9a\x00\xff\xff\xff" + b"\x80" * 10**6),
    ],
)
def test_it_stops_where_it_is_too_much(weigh: Callable[[bytes, int], int], data: bytes) -> None:
    assert 1_000 < weigh(data, 1_000) < 200_000


def test_what_is_inside_of_a_text_weighs_nothing() -> None:
    commas = ',[{"a\\":' * 100_000
    assert JSON.weigh(json.dumps([commas]), MOST) == 1 + CONTAINER
    assert CBOR.weigh(cbor2.dumps([commas]), MOST) == 2 + CONTAINER


@pytest.mark.parametrize(
    "data",
    [
        b'"' + b"," * 4_000_000 + b'"',
        b'"' + b'\\"' * 2_000_000 + b'"',
        b'"' + b"\\\\" * 2_000_000 + b'"',
        b" " * 4_000_000,
        b"[" + b"0.1234567890123456," * 200_000,
    ],
    ids=["commas", "quotes", "backslashes", "spaces", "floats"],
)
def test_weighing_takes_about_30_ms_for_a_megabyte_at_most(data: bytes) -> None:
    begun = time.thread_time()
    weigh_json(data, MOST)
    assert time.thread_time() - begun < 1.0
