"""Requests and openings that are not as they should be, for hypothesis to draw from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from gateway_malformed import HEADER, PLAIN, SCALARS, Frame, damaged, spliced, written
from gateway_wire import get_or_create
from hypothesis import strategies as st

A = get_or_create("echo", "a")
KEYS = ("a", "b", "c", "é", "")
"""All there are, so that a server is not made to keep ever more actors."""


@dataclass(frozen=True)
class Opening:
    """What an opening says about itself; None where it is left out."""

    query: bytes | None
    encoding: str | None
    params: bytes | None


def _utf8(value: Any) -> bytes:
    return json.dumps(value).encode()


_FORM = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["echo", "gate", "nobody"]) | SCALARS,
        "key": st.lists(st.sampled_from([*KEYS, "x" * 129]) | st.integers() | st.none(), max_size=2)
        | SCALARS,
        "actorId": SCALARS,
        "input": PLAIN,
        "region": SCALARS,
    },
)
_FORMS = ("getForId", "getForKey", "getOrCreateForKey", "create", "other")
QUERIES = st.one_of(
    # The same few actors, whatever else is wrong.
    st.fixed_dictionaries({}, optional=dict.fromkeys(_FORMS, _FORM)).map(_utf8),
    st.builds(lambda form, found: _utf8({form: found}), st.sampled_from(_FORMS), _FORM),
    PLAIN.map(_utf8),
    damaged(written(st.just({"getForKey": {"name": "echo", "key": ["a"]}}))).map(
        lambda two: two[0]
    ),
    HEADER.map(lambda text: text.encode("latin-1")),
    st.integers(1, 3_000).map(lambda depth: b'{"create":' + b"[" * depth),
)
GOOD_QUERY = st.just(_utf8(A))
PARAMS = st.one_of(
    PLAIN.map(_utf8),
    HEADER.map(lambda text: text.encode("latin-1")),
    st.sampled_from(
        [b"", b"{", b"NaN", b"1e999", b"\xff", b'"\\ud800"', b'"' + b"x" * 4_095 + b'"']
    ),
    st.integers(1, 2_000).map(lambda depth: b"[" * depth),
    st.just(b'"let me in"'),
)
TOKEN = st.text(
    st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"), min_size=1, max_size=20
)


def openings(encoding: str) -> st.SearchStrategy[Opening]:
    """At least one thing is drawn to be wrong, though it may turn out right."""
    good, none = st.just(encoding), st.none()
    return st.one_of(
        st.builds(Opening, QUERIES, good, none | PARAMS),
        st.builds(Opening, GOOD_QUERY, TOKEN | none, none | PARAMS),
        st.builds(Opening, GOOD_QUERY, good, PARAMS),
        st.builds(Opening, none | QUERIES, none | TOKEN | good, none | PARAMS),
    )


def as_header(data: bytes) -> bytes:
    """What a header can carry of it."""
    return bytes(byte for byte in data if byte >= 32 and byte != 127).strip()


def subprotocols(encoding: str) -> st.SearchStrategy[tuple[Opening, list[str]]]:
    """An opening, and in which words it is said."""

    def said(opening: Opening, more: list[str], swap: bool) -> tuple[Opening, list[str]]:
        parts = [("query.", opening.query), ("conn_params.", opening.params)]
        words = [name + quote(data, safe="") for name, data in parts if data is not None]
        if opening.encoding is not None:
            words.insert(1, f"encoding.{opening.encoding}")
        return opening, [*(reversed(words) if swap else words), *more, "rivetkit"]

    noise = st.lists(TOKEN.map(lambda token: "x" + token), max_size=2)
    return st.builds(said, openings(encoding), noise, st.booleans())


def first_frames(encoding: str) -> st.SearchStrategy[Frame]:
    """The first message of the older form."""
    at = int(encoding == "cbor")
    shaped = st.one_of(
        st.builds(lambda value: {"b": {"i": {"p": value}}}, PLAIN),
        st.builds(lambda value: {"b": {"i": value}}, PLAIN),
        st.builds(lambda value: {"b": value}, PLAIN),
        st.just({"b": {"i": {}}}),
        st.just({"b": {"i": {"p": "x" * 5_000}}}),
        PLAIN,
    )
    data = st.one_of(
        written(shaped).map(lambda pair: pair[at]),
        damaged(written(shaped)).map(lambda pair: pair[at]),
        spliced(encoding),
        st.binary(max_size=30),
    )
    kinds = st.sampled_from([encoding == "json"] * 9 + [encoding != "json"])
    return st.builds(Frame, data, kinds)


# --- Below the dialect: HTTP and WebSocket themselves ---------------------------

_WORD = st.binary(min_size=1, max_size=8).map(
    lambda data: bytes(byte for byte in data if byte not in b"\r\n") or b"?"
)
_UPGRADE = {
    b"Host": b"localhost",
    b"Connection": b"Upgrade",
    b"Upgrade": b"websocket",
    b"Sec-WebSocket-Version": b"13",
    b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
}


@st.composite
def requests(draw: Any) -> bytes:
    """The head of an upgrade to a WebSocket, with one part of it wrong."""
    method, version = b"GET", b"HTTP/1.1"
    target = b"/registry/actors/connect/websocket"
    headers = list(_UPGRADE.items())
    match draw(st.integers(0, 5)):
        case 0:
            method = draw(_WORD)
        case 1:
            target = draw(st.just(target + b"?") | st.just(b"/") | st.just(b"")) + draw(_WORD)
            target += b"q" * draw(st.sampled_from([0, 9_000]))
        case 2:
            version = draw(
                st.sampled_from([b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"http/1.1", b""])
            )
        case 3:
            name = draw(st.sampled_from([name for name, _ in headers if name != b"Host"]))
            at = [name for name, _ in headers].index(name)
            headers[at] = (name, draw(_WORD))
        case 4:
            headers.append((draw(_WORD), draw(_WORD)))
        case _:
            more = draw(st.sampled_from([1, 127, 500]))
            word = draw(_WORD | st.just(b"query." + b"q" * 9_000))
            headers += [(b"Sec-WebSocket-Protocol", word)] * more
    lines = [b" ".join((method, target, version)), *(b": ".join(header) for header in headers)]
    return b"\r\n".join([*lines, b"", b""])


def _frame(first: int, data: bytes, *, masked: bool = True, length: int | None = None) -> bytes:
    """A frame of RFC 6455; the key of the mask is zero, so that what is masked is as it was."""
    size = len(data) if length is None else length
    mask = 128 if masked else 0
    if size < 126:
        head = bytes((first, mask | size))
    elif size < 65_536:
        head = bytes((first, mask | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, mask | 127)) + size.to_bytes(8, "big")
    return head + (bytes(4) if masked else b"") + data


BROKEN = st.one_of(
    # Reserved opcodes and bits, no mask, control frames that are long or in pieces.
    st.builds(
        _frame,
        st.sampled_from([0x83, 0x87, 0x8B, 0x8F, 0x91, 0xA1, 0xC2, 0xF1]),
        st.binary(max_size=9),
    ),
    st.builds(
        lambda first, data: _frame(first, data, masked=False),
        st.sampled_from([0x81, 0x82, 0x88, 0x89]),
        st.binary(max_size=9),
    ),
    st.builds(_frame, st.sampled_from([0x88, 0x89, 0x8A]), st.binary(min_size=126, max_size=130)),
    st.builds(_frame, st.sampled_from([0x08, 0x09, 0x0A]), st.binary(max_size=9)),
    # A piece of nothing, and a message inside another.
    st.builds(_frame, st.sampled_from([0x00, 0x80]), st.binary(max_size=9)),
    st.builds(lambda data: _frame(0x01, data) + _frame(0x81, data), st.binary(max_size=9)),
    # Closes that say nothing a close may say.
    st.builds(_frame, st.just(0x88), st.binary(min_size=1, max_size=1)),
    st.integers(0, 999).map(lambda code: _frame(0x88, code.to_bytes(2, "big"))),
    st.sampled_from([1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535]).map(
        lambda code: _frame(0x88, code.to_bytes(2, "big"))
    ),
    st.just(_frame(0x88, b"\x03\xe8\xff")),
    # Text that is not UTF-8, in one piece and in two; messages without end.
    st.binary(max_size=9).map(lambda data: _frame(0x81, b"\xff" + data)),
    st.just(_frame(0x01, b'"\xc3') + _frame(0x80, b"(")),
    st.sampled_from([2**24 + 1, 2**62, 2**63]).map(lambda size: _frame(0x82, b"", length=size)),
)
"""What may not stand on a WebSocket, whatever is spoken there."""
