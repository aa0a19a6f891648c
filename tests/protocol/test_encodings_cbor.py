"""CBOR, byte by byte: what JavaScript writes, and what it expects to be sent."""

from __future__ import annotations

import contextlib
import datetime
import struct
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.protocol.encodings import CBOR, DecodeFault

UTC = datetime.UTC


def from_hex(text: str) -> Any:
    return CBOR.decode(bytes.fromhex(text))


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
def test_as_javascript_expects_it(value: Any, expected: str) -> None:
    """Integers of more than 32 bits are floats where exact, else BigInts; bytes have a tag."""
    assert CBOR.encode(value).hex() == expected


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
        ("a16161f7", {}),
        ("82f701", [None, 1]),
        ("420102", b"\x01\x02"),
        ("d840420102", b"\x01\x02"),
        ("1bffffffffffffffff", 2**64 - 1),
        ("3b7fffffffffffffff", -(2**63)),
        ("c249000000000000000001", 1),
        ("c248ffffffffffffffff", 2**64 - 1),
        ("c3487fffffffffffffff", -(2**63)),
        ("c11a65937d25", datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("c1fb41d964df49600000", datetime.datetime(2024, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)),
        (
            "c074323032342d30312d30325430333a30343a30355a",
            datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        ),
        ("d90103a1616182f701", {"a": [None, 1]}),
        ("d9010283010281a0", [1, 2, [{}]]),
        ("d90102820101", [1, 1]),
        ("d90102d90103a0", DecodeFault),
        ("d81b8365526567457870626162616761", DecodeFault),
        ("d81b83665265674578706261626167", {"source": "ab", "flags": "g"}),
        ("d81b82654572726f72616d", {"name": "Error", "message": "m"}),
        ("d81b83654572726f72616df6", {"name": "Error", "message": "m", "cause": None}),
        ("d90103d9010280", DecodeFault),
    ],
    ids=str,
)
def test_that_javascript_writes(data: str, expected: Any) -> None:
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
def test_large_integers_come_as_floats(data: str, expected: float) -> None:
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
def test_typed_arrays(tag: int, form: str, elements: list[float]) -> None:
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
    "half of a surrogate in a text that is not UTF-8": "66eda080ff6161",
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
    "object without a name": "d81b8201616d",
    "object without members": "d81b81614e",
    "object of nothing": "d81b80",
    "object with more": "d81b8461616162616361",
    "object that is no list": "d81b616d",
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
def test_refused(data: str) -> None:
    """What is malformed, unbounded or without meaning to both sides ends in DecodeFault."""
    with pytest.raises(DecodeFault):
        from_hex(data)


@pytest.mark.parametrize(
    "data",
    [
        *("9b1000000000000000", "bb1000000000000000", "5b1000000000000000", "7b1000000000000000"),
        *("9bffffffffffffffff", "5bffffffffffffffff", "9a7fffffff", "ba7fffffff", "5a7fffffff"),
        *("d8555b1000000000000000", "c25b1000000000000000", "5f5b1000000000000000"),
        *("81" * 100_000, "d840" * 100_000, "9f" * 100_000, "a16161" * 100_000),
    ],
    ids=lambda data: data[:24],
)
def test_headers_that_promise_too_much(data: str) -> None:
    """A header costs nothing for what does not follow it."""
    started = time.perf_counter()
    with pytest.raises(DecodeFault):
        from_hex(data)
    assert time.perf_counter() - started < 1


def test_is_binary() -> None:
    """Text where CBOR is expected is refused."""
    with pytest.raises(DecodeFault):
        CBOR.decode("a0")


ITEMS = (
    "00 81 82 a1 bf 9f ff 5f 7f 6161 4161 d9 0102 d84041ff d855 c2 c0 c1 fb f9 f7 f8 1b 3b "
    "d81c d81d d90103 d90102 d901 5b 9b bb"
)


@given(items=st.lists(st.sampled_from(ITEMS.split()), max_size=30))
def test_random_items_are_read_or_refused(items: list[str]) -> None:
    """Whatever looks like CBOR is read as something that can be kept, or is a DecodeFault."""
    with contextlib.suppress(DecodeFault):
        msgspec.msgpack.encode(from_hex("".join(items)))
