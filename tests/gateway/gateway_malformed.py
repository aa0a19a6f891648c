"""What people send that is not as it should be, for hypothesis to draw from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import cbor2
from hypothesis import strategies as st

# --- Values -------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["a", "i", "n", "ar", "sr", "b", "e", "s", "echo", "typed"]),
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
TAGGED = st.recursive(
    SCALARS | st.binary(max_size=8) | st.just(cbor2.undefined) | st.datetimes(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=4) | st.integers(0, 300), inner, max_size=4),
        st.builds(cbor2.CBORTag, st.integers(0, 300) | st.integers(0, 2**63), inner),
        st.builds(cbor2.CBORSimpleValue, st.integers(32, 255) | st.integers(0, 19)),
    ),
    max_leaves=12,
)
ACTIONS = st.sampled_from(["echo", "typed", "", "__init__", "nope"])


def written(values: Any) -> st.SearchStrategy[tuple[bytes, bytes]]:
    """The same value in both encodings, as far as they go."""
    return values.map(lambda value: (_json(value), _cbor(value)))


def _json(value: Any) -> bytes:
    return json.dumps(value, default=repr, skipkeys=True).encode("utf-8", "surrogatepass")


def _cbor(value: Any) -> bytes:
    return cbor2.dumps(value, timezone=UTC)


def damaged(
    pairs: st.SearchStrategy[tuple[bytes, bytes]],
) -> st.SearchStrategy[tuple[bytes, bytes]]:
    """Well-formed messages with a few bytes cut out or put in."""

    def damage(pair: tuple[bytes, bytes], at: int, cut: int, put: bytes) -> tuple[bytes, bytes]:
        left, right = (
            data[: at % (len(data) + 1)] + put + data[at % (len(data) + 1) + cut :] for data in pair
        )
        return left, right

    return st.builds(damage, pairs, st.integers(0, 500), st.integers(0, 3), st.binary(max_size=3))


VALUES = PLAIN | TAGGED
BODIES = st.one_of(
    written(st.fixed_dictionaries({"a": st.lists(VALUES, max_size=4)})),
    written(st.fixed_dictionaries({"a": VALUES}, optional={"b": VALUES})),
    written(VALUES),
    damaged(written(st.fixed_dictionaries({"a": st.lists(VALUES, max_size=4)}))),
    st.binary(max_size=64).map(lambda data: (data, data)),
    st.integers(1, 3_000).map(
        lambda depth: (
            b'{"a":' + b"[" * depth + b"]" * depth + b"}",
            b"\xa1\x61a" + b"\x81" * (depth - 1) + b"\x80",
        )
    ),
)
IDS = st.integers(0, 20) | SCALARS
CALLS = st.fixed_dictionaries(
    {"i": IDS, "n": ACTIONS | SCALARS, "a": st.lists(VALUES, max_size=3) | VALUES}
)
SUBSCRIPTIONS = st.fixed_dictionaries(
    {"e": st.text(max_size=5) | SCALARS}, optional={"s": st.booleans() | SCALARS}
)
MESSAGES = st.one_of(
    CALLS.map(lambda call: {"b": {"ar": call}}),
    SUBSCRIPTIONS.map(lambda wanted: {"b": {"sr": wanted}}),
    st.fixed_dictionaries({"b": VALUES}),
    VALUES,
)
FRAMES = st.one_of(
    written(MESSAGES),
    damaged(written(MESSAGES)),
    st.binary(max_size=40).map(lambda data: (data,) * 2),
)
# What HTTP itself lets through: no control characters.
HEADER = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=60
).map(lambda text: text.strip(" "))
QUERIES = st.one_of(
    HEADER,
    PLAIN.map(json.dumps),
    st.fixed_dictionaries(
        {},
        optional={
            form: st.fixed_dictionaries(
                {},
                optional={
                    "name": st.just("echo") | SCALARS,
                    "key": st.lists(st.text(max_size=130) | SCALARS, max_size=3) | SCALARS,
                    "actorId": SCALARS,
                    "input": PLAIN,
                    "region": SCALARS,
                },
            )
            for form in ("getForId", "getForKey", "getOrCreateForKey", "create")
        },
    ).map(json.dumps),
)


# --- One encoding, byte by byte -----------------------------------------------

JSON_ITEMS = [
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "-0", "01", "0x1", "1.", ".5"),
    *("+1", "1e", "1.0", "9007199254740993", "18446744073709551616", "-9223372036854775809"),
    *("9" * 400, "9" * 5_000, "1" + "0" * 20, "undefined", "True", "nul", "", ",", "'a'", "`a`"),
    *('"', '"\\', '"\\ud800"', '"\\udc00\\ud800"', '"\\u00"', '"\\x41"', '"\x01"', '"\\u0000"'),
    *('"a"b', "[1,]", "[,1]", "[1 2]", '{"a":1,}', '{"a"}', "{1:2}", "{a:1}", '{"a":1 "b":2}'),
    *(
        "//",
        "/**/1",
        "]",
        "}",
        "[[",
        "1]}}}",
        '1,"i":"x"',
        '0,"n":1',
        '1,"a":{}',
        '{"__proto__":1}',
    ),
]
CBOR_ITEMS = [
    bytes.fromhex(item)
    for item in (
        # Floats that are none, undefined, simple values, and reserved ones.
        *("f97e00", "f97c00", "f9fc00", "fa7fc00000", "fb7ff8000000000001", "fbfff0000000000000"),
        *("f7", "e0", "f820", "f8ff", "f818", "f800", "fc", "fd", "fe", "ff", "f9", "fb00"),
        # Integers of 64 bits, and with more bytes than they need.
        *("1bffffffffffffffff", "3bffffffffffffffff", "1b0020000000000001", "1900ff", "1c", "3e"),
        *("1b0000000000000001", "fb4340000000000001", "fb3ff0000000000000", "fa47c35000", "1f"),
        # Lengths that promise too much, and that are open.
        *("9bffffffffffffffff", "bbffffffffffffffff", "5bffffffffffffffff", "7b7fffffffffffffff"),
        *(
            "9affffffff00",
            "9fff",
            "9f01",
            "9f9fff",
            "bfff",
            "bf6161ff",
            "bf616101ff",
            "5fff",
            "5f41",
        ),
        *("7f6161ff", "7f4161ff", "7f7f6161ffff", "5f5f4101ffff", "7f61c361a9ff", "9f0102ff", "5e"),
        # Text that is none, keys that are none, keys twice.
        *(
            "61ff",
            "62c328",
            "63eda080",
            "7801",
            "a10101",
            "a1f601",
            "a14101ff",
            "a1804100",
            "a1616101",
        ),
        *("a2616101616102", "a2616961016169", "a1", "a161", "bfa0a0ff", "a1fb7ff800000000000001"),
        # Tags: numbers without end, shared and repeated values, dates, typed arrays.
        *(
            "c249010000000000000000",
            "c349ffffffffffffffffff",
            "c240",
            "c201",
            "c2f6",
            "c4821903e801",
        ),
        *(
            "c5821b7fffffffffffffff01",
            "d81e820100",
            "d81e8201c0",
            "d81c81d81d00",
            "d81d00",
            "d81d17",
        ),
        *(
            "d9010081d81900",
            "d8196161",
            "d8236128",
            "d82361285b",
            "d82550ff",
            "d82401",
            "d9010481ff",
        ),
        *(
            "c06161",
            "c001",
            "c1fb7ff8000000000000",
            "c11bffffffffffffffff",
            "c1f6",
            "c13bffffffffffffff",
        ),
        *("d84101", "d8414101", "d8454100", "d8554101", "d84ef6", "d84041", "d840f6", "d8404101"),
        *(
            "d9010201",
            "d9010280",
            "d9010301",
            "d90103a0",
            "d9d9f700",
            "c0",
            "d8",
            "dbffffffffffffffff00",
        ),
        *(
            "d81b8263466f6f80",
            "d9ffff00",
            "d903ec6161",
            "d8644101",
            "d9a7f880",
            "c6c6c6c6c6c6c601",
            "d8",
        ),
    )
]
DEPTHS = st.integers(1, 120) | st.integers(120, 12_000)


def _nested_json(depth: int, kind: int, closed: bool) -> str:
    opened, end = (("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"))[kind]
    return opened * depth + "1" + (end * depth if closed else "")


def _nested_cbor(depth: int, kind: int, closed: bool) -> bytes:
    opened, end = ((b"\x81", b""), (b"\xa1\x61a", b""), (b"\xc6", b""), (b"\x9f", b"\xff"))[kind]
    return opened * depth + b"\x01" + (end * depth if closed else b"")


JSON_ITEM = st.one_of(
    st.sampled_from(JSON_ITEMS),
    st.builds(_nested_json, DEPTHS, st.integers(0, 2), st.booleans()),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
).map(lambda text: text.encode())
CBOR_ITEM = st.one_of(
    st.sampled_from(CBOR_ITEMS),
    st.builds(_nested_cbor, DEPTHS, st.integers(0, 3), st.booleans()),
    st.binary(max_size=12),
)
_JSON_CALL = (b'{"b":{"ar":{"i":', b',"n":', b',"a":[', b"]}}}")
_CBOR_CALL = (b"\xa1\x61b\xa1\x62ar\xa3\x61i", b"\x61n", b"\x61a\x81", b"")


@st.composite
def spliced(draw: Any, encoding: str) -> bytes:
    """A call whose text is right but for one of its members."""
    json_ = encoding == "json"
    item = JSON_ITEM if json_ else CBOR_ITEM
    good = [json.dumps(1).encode(), b'"echo"', b"7"] if json_ else [b"\x01", b"\x64echo", b"\x07"]
    good[draw(st.integers(0, 2))] = draw(item)
    parts = _JSON_CALL if json_ else _CBOR_CALL
    whole = b"".join(a + b for a, b in zip(parts, [*good, b""], strict=True))
    cut = draw(st.just(0) | st.integers(0, 12))
    return draw(st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf", b" ", b"\0"])) + (
        whole[:-cut] if cut else whole
    )


@st.composite
def mutated(draw: Any) -> Any:
    """A message as it should be, but for one member: gone, another, of another type, or more."""
    call = {"i": draw(st.integers(0, 99)), "n": draw(ACTIONS), "a": [1]}
    kind = draw(st.sampled_from(["ar", "sr"]))
    inner: dict[Any, Any] = call if kind == "ar" else {"e": "said", "s": draw(st.booleans())}
    body: dict[Any, Any] = {kind: inner}
    message: dict[Any, Any] = {"b": body}
    where = draw(st.sampled_from([message, body, inner, inner, inner]))
    name = draw(st.sampled_from(sorted(where)))
    match draw(st.integers(0, 3)):
        case 0:
            del where[name]
        case 1:
            where[draw(st.sampled_from(["x", "", "B", "ar ", "__proto__", "constructor"]))] = draw(
                PLAIN
            )
        case 2:
            where[draw(st.sampled_from(["ar", "sr", "i", "ev", "e"]))] = draw(PLAIN)
        case _:
            where[name] = draw(VALUES)
    return message


def messages(encoding: str) -> st.SearchStrategy[bytes]:
    """Messages to the server, as bytes; most of them malformed."""
    at = int(encoding == "cbor")
    return st.one_of(
        written(mutated()).map(lambda pair: pair[at]),
        damaged(written(mutated())).map(lambda pair: pair[at]),
        written(MESSAGES).map(lambda pair: pair[at]),
        spliced(encoding),
        spliced(encoding),
        st.binary(max_size=40),
        st.integers(65_500, 66_000).map(lambda size: _of_size(encoding, size)),
    )


def _of_size(encoding: str, size: int) -> bytes:
    """A call that is as it should be, and so long."""
    if encoding == "json":
        head, tail = b'{"b":{"ar":{"i":1,"n":"echo","a":["', b'"]}}}'
        return head + b"x" * (size - len(head) - len(tail)) + tail
    head = b"\xa1\x61b\xa1\x62ar\xa3\x61i\x01\x61n\x64echo\x61a\x81\x7a"
    rest = size - len(head) - 4
    return head + rest.to_bytes(4, "big") + b"x" * rest


def bodies(encoding: str) -> st.SearchStrategy[bytes]:
    """Bodies of actions; most of them malformed."""
    at = int(encoding == "cbor")
    head, tail = ((b'{"a":[', b"]}"), (b"\xa1\x61a\x81", b""))[at]
    item = (JSON_ITEM, CBOR_ITEM)[at]
    return BODIES.map(lambda pair: pair[at]) | item.map(lambda data: head + data + tail)


@dataclass(frozen=True)
class Frame:
    """One message on a WebSocket."""

    data: bytes
    text: bool
    pieces: int = 1


def frames(encoding: str) -> st.SearchStrategy[Frame]:
    """In a frame of the wrong type now and then, or in several."""
    right = encoding == "json"
    kinds = st.sampled_from([right] * 9 + [not right])
    return st.builds(Frame, messages(encoding), kinds, st.sampled_from([1, 1, 1, 2, 3]))
