"""Dates go out as JavaScript writes them, in both encodings."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivet_ray.protocol import dates, v0, values
from rivet_ray.protocol.encodings import CBOR, JSON

UTC = datetime.UTC
MOMENT = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
CASES = [
    (0, "2024-01-02T03:04:05.000Z"),
    (123_000, "2024-01-02T03:04:05.123Z"),
    (120_000, "2024-01-02T03:04:05.120Z"),
    (123_456, "2024-01-02T03:04:05.123456Z"),
    (1, "2024-01-02T03:04:05.000001Z"),
]


@pytest.mark.parametrize(("microsecond", "text"), CASES)
def test_digits(microsecond: int, text: str) -> None:
    """Three digits of a second, as `Date.toISOString` writes them, or six where it takes them."""
    value = {"at": [MOMENT.replace(microsecond=microsecond)], "text": text[:19] + "Z"}
    for encoding in (JSON, CBOR):
        body = v0.encode_action_response(encoding, values.encode(value))
        assert encoding.decode(body) == {"o": {"at": [text], "text": text[:19] + "Z"}}
        event = v0.EventMessage("ticked", values.encode([value["at"][0]]))
        read = v0.encode_to_client(encoding, event)
        assert encoding.decode(read) == {"b": {"ev": {"n": "ticked", "a": [text]}}}


@pytest.mark.parametrize("year", [1, 1969, 1970, 2106, 2107, 9999])
def test_every_form_of_msgpack(year: int) -> None:
    """It has three for dates, by how far they are from 1970."""
    moment = MOMENT.replace(year=year, microsecond=5_000)
    data = values.encode(moment)
    assert dates.may_have_dates(data)
    assert dates.written(values.decode(data)) == f"{year:04}-01-02T03:04:05.005Z"


def test_a_time_zone_of_its_own() -> None:
    """Saved and sent values are in UTC."""
    zone = datetime.timezone(datetime.timedelta(hours=2))
    data = values.encode(MOMENT.astimezone(zone))
    assert dates.written(values.decode(data)) == CASES[0][1]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=plain, extension=st.sampled_from([b"\xd6\xff", b"\xd7\xff", b"\xc7\x0c\xff"]))
def test_other_values_stay(value: Any, extension: bytes) -> None:
    """Also beside bytes that look like a date."""
    both = [value, extension]
    assert dates.may_have_dates(values.encode(both))
    assert dates.written(both) == both
