"""JSON and CBOR: what is read, what is refused, and what JavaScript gets to see."""

from __future__ import annotations

import contextlib
import datetime
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rivet_ray.protocol.encodings import (
    CBOR,
    ENCODINGS,
    JSON,
    MAX_DEPTH,
    UNDEFINED,
    DecodeFault,
    EncodeFault,
    Encoding,
    Schema,
)

UTC = datetime.UTC
both = pytest.mark.parametrize("encoding", [JSON, CBOR], ids=["json", "cbor"])

finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | finite | text
json_like = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=30
)


def same(left: Any, right: Any) -> bool:
    """Equal, where 1 and 1.0 are equal as in JavaScript but 1 and True are not."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def test_names() -> None:
    """Header values, media types and frame kinds are those of the original."""
    assert {"json": JSON, "cbor": CBOR} == ENCODINGS
    assert [(e.name, e.content_type, e.binary) for e in (JSON, CBOR)] == [
        ("json", "application/json", False),
        ("cbor", "application/octet-stream", True),
    ]


# --- Both -------------------------------------------------------------------


@both
@given(value=json_like)
@example(value=2**53)
@example(value=-(2**63))
@example(value=2**64 - 1)
@example(value=[None, {"null": None}, 2**60, 1e300, -0.0, "\0;:\x1b😀"])
def test_values_survive(encoding: Encoding, value: Any) -> None:
    """Every JSON-like value arrives as it was sent, numbers as JavaScript counts them."""
    assert same(encoding.decode(encoding.encode(value)), value)


@both
@given(data=st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(encoding: Encoding, data: bytes) -> None:
    """Whatever arrives, the only fault is DecodeFault, and what is read can be sent."""
    for schema in (Schema(object), Schema(dict[str, Any])):
        with contextlib.suppress(DecodeFault):
            encoding.decode_as(data, schema)
    try:
        value = encoding.decode(data)
    except DecodeFault:
        return
    encoding.encode(value)
    msgspec.msgpack.encode(value)


@both
@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"k": inner}])
def test_depth_is_bounded(encoding: Encoding, wrap: Any) -> None:
    """A hundred containers inside one another are read; one more is refused."""
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    data = encoding.encode(value)
    assert encoding.decode(data) == value
    with pytest.raises(DecodeFault, match=r"deep|depth"):
        encoding.decode(encoding.encode(wrap(value)))
    with pytest.raises(DecodeFault, match=r"deep|depth"):
        encoding.decode_as(encoding.encode(wrap(value)), Schema(object))


@both
def test_wide_is_not_deep(encoding: Encoding) -> None:
    """Many containers beside one another are read, and so are brackets in strings."""
    value = [[{}] * 200, "[" * 1000]
    assert encoding.decode(encoding.encode(value)) == value


@both
def test_last_of_two_keys_wins(encoding: Encoding) -> None:
    """A key that is there twice has its last value."""
    data = b'{"a":1,"a":2}' if encoding is JSON else bytes.fromhex("a2616101616102")
    assert encoding.decode(data) == {"a": 2}


@both
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: [n], lambda n: {"a": [None, n]}])
def test_not_finite_numbers_are_not_sent(encoding: Encoding, number: float, wrap: Any) -> None:
    """NaN and Infinity are refused instead of becoming null silently."""
    with pytest.raises(EncodeFault, match="NaN"):
        encoding.encode(wrap(number))


@both
@pytest.mark.parametrize(
    "value",
    [object(), {None: 1}, {(1, 2): 3}, "\ud800", 2**64, -(2**63) - 1, [2**70], {"a": {3j}}],
    ids=repr,
)
def test_what_has_no_form_is_refused(encoding: Encoding, value: Any) -> None:
    """What cannot be sent ends in EncodeFault, before anything is sent."""
    with pytest.raises(EncodeFault):
        encoding.encode(value)


@both
def test_a_cycle_is_refused(encoding: Encoding) -> None:
    """A list that holds itself ends in EncodeFault."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(EncodeFault):
        encoding.encode(value)


@dataclass
class Point:
    x: int
    at: datetime.datetime


@both
def test_python_values_take_their_json_form(encoding: Encoding) -> None:
    """Dates, dataclasses, decimals, sets and keys arrive alike in both encodings."""
    moment = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    value = {
        "point": Point(1, moment),
        "naive": moment.replace(tzinfo=None),
        "price": Decimal("1.50"),
        "set": {1},
        "tuple": (1, 2),
        1: "one",
        b"\xff": "bytes",
    }
    assert encoding.decode(encoding.encode(value)) == {
        "point": {"x": 1, "at": "2024-01-02T03:04:05Z"},
        "naive": "2024-01-02T03:04:05",
        "price": "1.50",
        "set": [1],
        "tuple": [1, 2],
        "1": "one",
        "/w==": "bytes",
    }


def test_undefined_is_kept_for_messages() -> None:
    """`decode_as` tells undefined from null, `decode` does not."""
    data = bytes.fromhex("83f7f6fb41f0000000000000")
    assert CBOR.decode(data) == [None, None, 2**32]
    assert CBOR.decode_as(data, Schema(list[Any])) == [UNDEFINED, None, 2**32]


def test_decode_as_checks_the_type() -> None:
    """A value of the wrong shape ends in DecodeFault."""
    for encoding in (JSON, CBOR):
        assert encoding.decode_as(encoding.encode({"a": 1}), Schema(dict[str, int])) == {"a": 1}
        with pytest.raises(DecodeFault):
            encoding.decode_as(encoding.encode({"a": "1"}), Schema(dict[str, int]))


@given(value=json_like)
def test_cbor_agrees_with_cbor2(value: Any) -> None:
    """What plain cbor2 writes is read with the same meaning."""
    assert same(CBOR.decode(cbor2.dumps(value)), value)


# --- JSON -------------------------------------------------------------------


def test_json_bytes_are_base64() -> None:
    """JSON has no bytes: they are sent as a base64 string."""
    assert JSON.encode([b"\xff\xfe"]) == b'["//4="]'


def test_json_reads_text_too() -> None:
    """Text frames are strings."""
    assert JSON.decode('{"ä":"😀"}') == {"ä": "😀"}


@pytest.mark.parametrize(
    "data",
    [
        *("", "NaN", "[Infinity]", "1e400", "{", "1 2", "[1],", "{'a':1}", "\ud800"),
        *("18446744073709551616", "[-9223372036854775809]", "9" * 5000, "[" * 100_000),
        *(b'"\xff"', b'{"\xff":1}', b"\xef\xbb\xbf1", b"\xff\xfe1\x00"),
    ],
    ids=lambda data: ascii(data[:24]),
)
def test_json_refused(data: bytes | str) -> None:
    """Text that is not JSON, or holds what cannot travel, ends in DecodeFault."""
    with pytest.raises(DecodeFault):
        JSON.decode(data)


def test_json_long_digits_in_strings_are_no_integers() -> None:
    """Only integers are limited, not digits in strings or fractions."""
    value = ["9" * 40, 2**64 - 1, -(2**63), 0.12345678901234567]
    assert JSON.decode(JSON.encode(value)) == value


# --- Time -------------------------------------------------------------------


def _cpu(function: Callable[[], object]) -> float:
    """Seconds of this thread; the best of three."""
    best = math.inf
    for _ in range(3):
        begun = time.thread_time()
        function()
        best = min(best, time.thread_time() - begun)
    return best


@both
@pytest.mark.parametrize("part", ["x", "123456789012345678 ", "null "])
def test_a_long_text_takes_little_more_than_its_encoding(encoding: Encoding, part: str) -> None:
    """No pass over the bytes is slow: each holds the interpreter, and so everybody."""
    text = part * (4_000_000 // len(part))
    least = _cpu(lambda: msgspec.json.encode(text))
    data = encoding.encode(text)
    assert _cpu(lambda: encoding.encode(text)) < 40 * least
    assert _cpu(lambda: encoding.decode(data)) < 40 * least
