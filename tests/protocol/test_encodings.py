"""JSON and CBOR: what is read, what is refused, and what JavaScript gets to see."""

from __future__ import annotations

import datetime
import struct
import time
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

UTC = datetime.timezone.utc
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


def from_hex(text: str) -> Any:
    return CBOR.decode(bytes.fromhex(text))


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
        try:
            encoding.decode_as(data, schema)
        except DecodeFault:
            pass
    try:
        value = encoding.decode(data)
    except DecodeFault:
        return
    encoding.encode(value)
    msgspec.msgpack.encode(value)


@given(
    data=st.lists(
        st.sampled_from(
            [bytes.fromhex(item) for item in "81 82 a1 bf 9f ff 5f 7f 6161 4161 d9 0102".split()]
            + [bytes.fromhex(item) for item in "d84041ff d855 c2 c0 c1 fb f9 f7 f8 00 1b".split()]
            + [bytes.fromhex(item) for item in "d81c d81d d90103 d90102 d901 5b 9b bb 3b".split()]
        ),
        max_size=30,
    )
)
def test_random_cbor_items_are_read_or_refused(data: list[bytes]) -> None:
    """The same for bytes that look like CBOR, so that deeper places are reached."""
    try:
        msgspec.msgpack.encode(CBOR.decode(b"".join(data)))
    except DecodeFault:
        pass


@both
@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"k": inner}])
def test_depth_is_bounded(encoding: Encoding, wrap: Any) -> None:
    """A hundred containers inside one another are read; one more is refused."""
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    data = encoding.encode([value][0])
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


# --- JSON -------------------------------------------------------------------


def test_json_bytes_are_base64() -> None:
    """JSON has no bytes: they are sent as a base64 string."""
    assert JSON.encode([b"\xff\xfe"]) == b'["//4="]'


def test_json_reads_text_too() -> None:
    """Text frames are strings."""
    assert JSON.decode('{"ä":"😀"}') == {"ä": "😀"}


@pytest.mark.parametrize(
    "data",
    ["", "NaN", "[Infinity]", "1e400", "{", "1 2", "[1],", "{'a':1}", '"\\ud800"', "\ud800"]
    + ["18446744073709551616", "[-9223372036854775809]", "9" * 5000, "[" * 100_000]
    + [b'"\xff"', b'{"\xff":1}', b"\xef\xbb\xbf1", b"\xff\xfe1\x00"],
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


# --- CBOR, out --------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "00"),
        (-1, "20"),
        (2**32 - 1, "1affffffff"),
        (-(2**31), "3a7fffffff"),
        (2**32, "fb41f0000000000000"),
        (-(2**31) - 1, "fbc1e0000000200000"),
        (1_700_000_000_000, "fb4278bcfe56800000"),
        (2**53, "fb4340000000000000"),
        (2**53 + 1, "1b0020000000000001"),
        (-(2**53) - 1, "3b0020000000000000"),
        (2**64 - 1, "1bffffffffffffffff"),
        (-(2**63), "fbc3e0000000000000"),
        (1.5, "fb3ff8000000000000"),
        (True, "f5"),
        (None, "f6"),
        (b"\x01\x02", "d840420102"),
        (bytearray(b"\x01"), "d8404101"),
        (memoryview(b"\x01"), "d8404101"),
        (datetime.date(2024, 1, 2), "6a323032342d30312d3032"),
        ({"a": [1, "ü"]}, "a16161820162c3bc"),
        ({1: 2}, "a1613102"),
    ],
    ids=repr,
)
def test_cbor_as_javascript_expects_it(value: Any, expected: str) -> None:
    """Integers of more than 32 bits are floats where exact, else BigInts; bytes have a tag."""
    assert CBOR.encode(value).hex() == expected


# --- CBOR, in ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("b90001616101", {"a": 1}),  # cbor-x: 16-bit length
        ("ba00000001616101", {"a": 1}),
        ("bf616101ff", {"a": 1}),
        ("9f01820203ff", [1, [2, 3]]),
        ("7f61616162ff", "ab"),
        ("5f41014102ff", b"\x01\x02"),
        ("f6", None),
        ("f7", None),
        ("a16161f7", {"a": None}),
        ("82f701", [None, 1]),
        ("420102", b"\x01\x02"),
        ("d840420102", b"\x01\x02"),
        ("1bffffffffffffffff", 2**64 - 1),
        ("3b7fffffffffffffff", -(2**63)),
        ("c249000000000000000001", 1),
        ("c248ffffffffffffffff", 2**64 - 1),
        ("c3487fffffffffffffff", -(2**63)),
        ("c11a65937d45", datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("c1fb41d964df51600000", datetime.datetime(2024, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)),
        (
            "c074323032342d30312d30325430333a30343a30355a",
            datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        ),
        ("d90103a1616182f701", {"a": [None, 1]}),
        ("d9010283010281a0", [1, 2, [{}]]),
        ("d90102820101", [1, 1]),
        ("d90102d90103a0", DecodeFault),
        ("d90103d9010280", DecodeFault),
    ],
    ids=str,
)
def test_cbor_that_javascript_writes(data: str, expected: Any) -> None:
    """Maps of any length form, dates, bytes, Maps, Sets and bigints are understood."""
    if expected is DecodeFault:
        with pytest.raises(DecodeFault):
            from_hex(data)
        return
    found = from_hex(data)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("fb41f0000000000000", 2**32),
        ("fb4278bcfe56800000", 1_700_000_000_000),
        ("fbc1e0000000200000", -(2**31) - 1),
        ("fb4340000000000000", 2**53),
        ("fb4350000000000000", float(2**54)),
        ("fb3ff0000000000000", 1.0),
        ("fbc1e0000000000000", float(-(2**31))),
        ("fb41efffffffe00000", float(2**32 - 1)),
        ("fb41f0000000080000", 2**32 + 0.5),
        ("f93c00", 1.0),
        ("fa3fc00000", 1.5),
    ],
    ids=str,
)
def test_cbor_large_integers_come_as_floats(data: str, expected: float) -> None:
    """A float of JavaScript that is an integer of more than 32 bits is an int; others stay."""
    for wrapped, unwrap in ((data, lambda x: x), (f"81a16161{data}", lambda x: x[0]["a"])):
        found = unwrap(from_hex(wrapped))
        assert found == expected
        assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("tag", "form", "elements"),
    [
        (65, ">H", [1, 65535]),
        (66, ">I", [1, 2**32 - 1]),
        (67, ">Q", [1, 2**64 - 1]),
        (68, ">B", [1, 255]),
        (69, "<H", [1, 65535]),
        (70, "<I", [1, 2**32 - 1]),
        (71, "<Q", [1, 2**64 - 1]),
        (72, ">b", [-1, 127]),
        (73, ">h", [-1, 2**15 - 1]),
        (74, ">i", [-1, 2**31 - 1]),
        (75, ">q", [-1, -(2**63)]),
        (77, "<h", [-1, 2**15 - 1]),
        (78, "<i", [-1, 2**31 - 1]),
        (79, "<q", [-1, -(2**63)]),
        (80, ">e", [1.5, -2.0]),
        (81, ">f", [1.5, -2.0]),
        (82, ">d", [0.1, 1e300]),
        (84, "<e", [1.5, -2.0]),
        (85, "<f", [1.5, -2.0]),
        (86, "<d", [0.1, 1e300]),
    ],
)
def test_cbor_typed_arrays(tag: int, form: str, elements: list[float]) -> None:
    """Typed arrays (RFC 8746) become lists of numbers, in either byte order."""
    packed = b"".join(struct.pack(form, element) for element in elements)
    data = bytes([0xD8, tag, 0x40 + len(packed)]) + packed
    assert CBOR.decode(data) == elements
    assert CBOR.decode(bytes([0xD8, tag, 0x40])) == []
    if len(packed) > len(elements):
        short = bytes([0xD8, tag, 0x40 + len(packed) - 1]) + packed[:-1]
        with pytest.raises(DecodeFault, match=f"tag {tag}"):
            CBOR.decode(short)


REFUSED = {
    "nothing": "",
    "trailing byte": "0100",
    "trailing break": "01ff",
    "second item": "a0a0",
    "cut short": "8201",
    "cut in string": "6261",
    "unknown length": "1c",
    "break alone": "ff",
    "break in array": "82ff01",
    "break as value": "bf6161ff",
    "bad utf-8": "61ff",
    "surrogate": "63eda080",
    "mixed chunks": "7f4161ff",
    "NaN": "fb7ff8000000000000",
    "NaN, half": "81f97e00",
    "Infinity": "a16161fb7ff0000000000000",
    "NaN in typed array": "d855440000c07f",
    "below -2**63": "3b8000000000000000",
    "bignum too large": "c249010000000000000000",
    "bignum too small": "c3488000000000000000",
    "huge bignum": "c258ff" + "ff" * 255,
    "bignum of a list": "c280",
    "tag 64 of text": "d8406161",
    "typed array of text": "d8456161",
    "float128": "d85350" + "00" * 16,
    "float128, little": "d85750" + "00" * 16,
    "unassigned typed array": "d84c4100",
    "Error or RegExp": "d81b82616101",
    "decimal": "c48221196ab3",
    "bigfloat": "c5821b7fffffffffffffff01",
    "rational": "d81e820102",
    "uuid": "d82550" + "00" * 16,
    "regexp": "d8236161",
    "mime": "d8246161",
    "network": "d9010444c0a80001",
    "unknown tag": "c6f6",
    "tag that describes itself": "d9d9f700",
    "shared": "d81c80",
    "cycle": "d81c81d81d00",
    "reference": "d81d00",
    "string references": "d90100826161d81900",
    "string reference": "d81900",
    "simple value": "e0",
    "simple value, two bytes": "f8ff",
    "simple value, malformed": "f800",
    "integer key": "a10102",
    "Map with integer key": "d90103a10102",
    "list as key": "a1810100",
    "undefined key": "a1f700",
    "date too late": "c11bffffffffffffffff",
    "invalid Date": "c1fb7ff8000000000000",
    "date without zone": "c073323032342d30312d30325430333a30343a3035",
    "date of a number": "c001",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_cbor_refused(data: str) -> None:
    """What is malformed, unbounded or without meaning to both sides ends in DecodeFault."""
    with pytest.raises(DecodeFault):
        from_hex(data)


@pytest.mark.parametrize(
    "data",
    ["9b1000000000000000", "bb1000000000000000", "5b1000000000000000", "7b1000000000000000"]
    + ["9bffffffffffffffff", "5bffffffffffffffff", "9a7fffffff", "ba7fffffff", "5a7fffffff"]
    + ["d8555b1000000000000000", "c25b1000000000000000", "5f5b1000000000000000"]
    + ["81" * 100_000, "d840" * 100_000, "9f" * 100_000, "a16161" * 100_000],
    ids=lambda data: data[:24],
)
def test_cbor_headers_that_promise_too_much(data: str) -> None:
    """A header costs nothing for what does not follow it."""
    started = time.perf_counter()
    with pytest.raises(DecodeFault):
        from_hex(data)
    assert time.perf_counter() - started < 1


def test_cbor_is_binary() -> None:
    """Text where CBOR is expected is refused."""
    with pytest.raises(DecodeFault):
        CBOR.decode("a0")


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
