"""The structure of CBOR is found without its values, in bounded work."""

from __future__ import annotations

import contextlib
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.protocol.cbor_scan import MAX_ITEMS, Scanner, Unscannable

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text()
    | st.binary()
    | st.just(cbor2.undefined),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.builds(cbor2.CBORTag, st.just(1234), inner)
    ),
)
OPEN = bytes.fromhex("bf6161 9f01 9f ff 7f6162ff 5f4101ff ff 6162 c1 00 ff")
"""A map, arrays, a text and bytes of open lengths."""


def members(data: bytes) -> list[bytes]:
    scanner, found = Scanner(data), []
    for name in scanner.members():
        found.append(name)
        scanner.skip()
    assert scanner.at == len(data)
    return found


@given(value=values)
def test_an_item_is_skipped_as_a_whole(value: Any) -> None:
    data = cbor2.dumps(value)
    scanner = Scanner(data + b"\x00")
    scanner.skip()
    assert scanner.at == len(data)


def test_open_lengths() -> None:
    scanner = Scanner(OPEN)
    scanner.skip()
    assert scanner.at == len(OPEN)
    assert members(OPEN) == [b"a", b"b"]


@pytest.mark.parametrize(
    "data",
    ["", "ff", "81ff", "9f", "1c", "1f", "df", "62ff", "5bffffffffffffffff", "a101", "bf01ff"],
)
def test_what_is_not_cbor(data: str) -> None:
    with pytest.raises(Unscannable):
        members(bytes.fromhex(data))
    if data not in ("a101", "bf01ff"):  # well-formed, with a key that is not a text
        with pytest.raises(Unscannable):
            Scanner(bytes.fromhex(data)).skip()


@pytest.mark.parametrize(
    "item",
    ["7f00ff", "7f4161ff", "7f7f6161ffff", "5f6161ff", "f800", "f818", "f81f", "bf6161ff"],
)
def test_what_no_reader_may_take(item: str) -> None:
    """Chunks of another kind, needless bytes, a key without a value (RFC 8949, 3.2 and 3.3)."""
    with pytest.raises(Unscannable):
        Scanner(bytes.fromhex(item)).skip()
    with pytest.raises(Unscannable):
        Scanner(b"\x81" + bytes.fromhex(item)).skip()


@given(data=st.binary())
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(Unscannable):
        Scanner(data).skip()


def test_the_work_is_bounded() -> None:
    Scanner(b"\x81" * (MAX_ITEMS - 1) + b"\x00").skip()
    with pytest.raises(Unscannable):
        Scanner(b"\x81" * MAX_ITEMS + b"\x00").skip()
