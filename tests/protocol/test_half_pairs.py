"""Halves of surrogate pairs become U+FFFD, whole pairs and bytes stay."""

from __future__ import annotations

import json
import time
from typing import Any

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.protocol.half_pairs import LONGEST_RUN, MAX_ESCAPES, whole_cbor, whole_json

halves = st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF)
texts = st.text(st.characters(exclude_categories=[]) | halves | st.sampled_from("\\ud8ü🎉"))


def whole(text: str) -> str:
    """What JavaScript makes of a text: `text.toWellFormed()`."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@given(text=texts, as_text=st.booleans())
def test_json(text: str, as_text: bool) -> None:
    data = json.dumps({text: [text]})
    found = whole_json(data if as_text else data.encode())
    expected = {whole(text): [whole(text)]}
    if found is None:
        assert json.loads(data) == expected
    else:
        assert json.loads(found) == expected


def test_json_without_any() -> None:
    for text in (
        "",
        '"é"',
        r'"\u00e9"',
        r'"\ud83c\udf89"',
        r'"\\ud83c"',
        r'"\uD83C\uDF89"',
        "\ud83c",
    ):
        assert whole_json(text) is None
    assert whole_json(r'"\uD83C\\ud83c\\\ud83c"') == rb'"\ufffd\\ud83c\\\ufffd"'


def test_the_work_is_bounded() -> None:
    half = rb"\ud83c"
    assert whole_json(half * (MAX_ESCAPES - 1)) == rb"\ufffd" * (MAX_ESCAPES - 1)
    assert whole_json(half * (MAX_ESCAPES + 1)) is None
    assert whole_json(b"\\" * (LONGEST_RUN + 2) + half) is None
    begun = time.process_time()
    for data in (b"\\" * 20_000_000 + b"u", half * 3_000_000, rb"\\ud83c" * 3_000_000):
        assert whole_json(data) is None
    assert time.process_time() - begun < 3


values = st.recursive(
    texts | st.binary() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)


def written(value: Any) -> bytes:
    """In CBOR, with halves of pairs as cbor-x writes them."""
    if isinstance(value, str):
        pairs = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        data = pairs.encode("utf-8", "surrogatepass")
        return _head(3, len(data)) + data
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(written(item) for item in value)
    if isinstance(value, dict):
        pairs_ = [written(part) for pair in value.items() for part in pair]
        return _head(5, len(value)) + b"".join(pairs_)
    return cbor2.dumps(value)


def _head(major: int, size: int) -> bytes:
    return bytes([major * 32 + 26]) + size.to_bytes(4, "big")


def read(value: Any) -> Any:
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, list):
        return [read(item) for item in value]
    if isinstance(value, dict):
        return {whole(name): read(item) for name, item in value.items()}
    return value


@given(value=values)
def test_cbor(value: Any) -> None:
    data = written(value)
    found = whole_cbor(data)
    assert len(found) == len(data)
    assert cbor2.loads(found) == read(value)


@given(data=st.binary())
def test_any_bytes(data: bytes) -> None:
    assert len(whole_cbor(data)) == len(data)
    whole_json(data)


def test_bytes_stay() -> None:
    half = "\ud83c".encode("utf-8", "surrogatepass")
    data = b"\x83\x64" + half + b"!" + b"\x44" + half + b"!" + b"\x7f\x63" + half + b"\xff"
    assert cbor2.loads(whole_cbor(data)) == ["\ufffd!", half + b"!", "\ufffd"]
