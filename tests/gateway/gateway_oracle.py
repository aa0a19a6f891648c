"""What the specification says of bytes that a client sends: wire-protocol.md, A.1 to A.5.

Written from it, with nothing of ours; `gateway_reading` reads the bytes. Where the
documented dialect leaves a choice (how deep, how large, which tags of CBOR), either
answer is allowed; what is none of a client's own doing has one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from gateway_reading import (
    ODD,
    Malformed,
    NoText,
    holds_large,
    is_deep,
    is_heavy,
    is_odd,
    read,
    read_json,
)

LIMIT = 65_536
KEY_PART = 128
MOST_PARAMS = 4_096
QUERIES = ("getForId", "getForKey", "getOrCreateForKey", "create")

# --- Messages -----------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """What may come of something that was sent."""

    refusals: frozenset[str] = frozenset()
    """Codes with which it may be refused."""
    taken: bool = False
    """Whether it may be taken."""
    number: int | None = None
    """The action that is then answered."""
    output: Any = ODD
    """What that answer is, where it is known."""
    deep: bool = False
    """The answer may fail because clients could not read what it repeats."""
    large: bool = False
    """The answer may fail for an integer that a double does not hold (ADR 48)."""
    fails: bool = False
    """The action fails with `invalid_action_request`, and is not run (ADR 39)."""


def _refused(*codes: str) -> Expected:
    return Expected(frozenset(codes))


def of_frame(encoding: str, frame: bytes, *, text: bool) -> Expected:
    """A message on a WebSocket, as one frame."""
    if text is not (encoding == "json"):
        return _refused("malformed_message", *(["message_too_long"] * (len(frame) > LIMIT)))
    try:
        frame.decode("utf-8" if text else "latin-1")
    except UnicodeDecodeError:
        return _refused("malformed_message")
    return of_message(encoding, frame)


def of_message(encoding: str, data: bytes) -> Expected:
    """A message to the server, A.2."""
    if len(data) > LIMIT:
        return _refused("message_too_long")
    heavy = ["message_too_long"] * is_heavy(encoding, data)
    malformed = _refused("malformed_message", *heavy)
    try:
        found = _of_value(read(encoding, data), malformed)
        return replace(found, large=holds_large(encoding, data))
    except NoText as fault:
        found = _of_value(fault.instead, malformed)
        return malformed if found.number is None else replace(found, output=ODD, fails=True)
    except Malformed:
        return malformed


def _of_value(message: Any, malformed: Expected) -> Expected:
    if message is ODD:
        return Expected(malformed.refusals, True)
    if not isinstance(message, dict) or message.get("b", 0) is ODD:
        return malformed if not is_odd(message) else Expected(malformed.refusals, True)
    body = message.get("b")
    if not isinstance(body, dict):
        return malformed
    # null stands for nothing with some readers; two kinds at once are not described.
    kinds = [name for name in ("ar", "sr") if name in body]
    # What is odd beside a call fails that call, as what is odd inside (ADR 39).
    odd = is_odd({**message, "b": {**body, "ar": 0, "sr": 0}})
    forgiving = len(kinds) > 1 or odd
    for kind in kinds:
        found = _call(body["ar"]) if kind == "ar" else _subscription(body["sr"])
        if found.taken:
            refusals = malformed.refusals if forgiving else found.refusals
            output = ODD if odd else found.output
            return Expected(refusals, True, found.number, output, found.deep)
    return malformed


def _call(call: Any) -> Expected:
    malformed = frozenset({"malformed_message"})
    if call is ODD:
        return Expected(malformed, True)
    if not isinstance(call, dict):
        return Expected(malformed)
    number, name, arguments = (call.get(member) for member in ("i", "n", "a"))
    if isinstance(number, float) and number.is_integer():
        number = int(number)  # JavaScript has one kind of number.
    shaped = (
        (type(number) is int or number is ODD)
        and (isinstance(name, str) or name is ODD)
        and (isinstance(arguments, list) or arguments is ODD)
    )
    if not shaped:
        return Expected(malformed)
    if number is ODD or not 0 <= number <= 2**53:
        return Expected(malformed, True, None if number is ODD else number)
    if is_odd(call) or not isinstance(call["i"], int):
        return Expected(malformed, True, number, deep=is_deep(call))
    return Expected(frozenset(), True, number, arguments if name == "echo" else ODD)


def _subscription(wanted: Any) -> Expected:
    malformed = frozenset({"malformed_message"})
    if wanted is ODD:
        return Expected(malformed, True)
    if not isinstance(wanted, dict):
        return Expected(malformed)
    event, on = wanted.get("e"), wanted.get("s")
    if not (isinstance(event, str) or event is ODD) or not (type(on) is bool or on is ODD):
        return Expected(malformed)
    return Expected(malformed if is_odd(wanted) else frozenset(), True)


def of_body(encoding: str, data: bytes, action: str) -> Expected:
    """The body of an action's request."""
    heavy = ["message_too_long"] * is_heavy(encoding, data)
    refused = frozenset({"invalid_action_request", *heavy})
    try:
        body = read(encoding, data)
    except Malformed:
        return Expected(refused)
    arguments = body.get("a") if isinstance(body, dict) else body
    large = holds_large(encoding, data)
    if is_odd(body):
        return Expected(refused, True, deep=is_deep(body), large=large)
    if not isinstance(body, dict) or not isinstance(arguments, list):
        return Expected(refused)
    output = arguments if action == "echo" else ODD
    return Expected(frozenset(), True, None, output, large=large)


# --- Openings -----------------------------------------------------------------

TAKEN = Expected(taken=True)


def together(*parts: Expected) -> Expected:
    """Of an opening whose parts may each be refused."""
    refusals = frozenset[str]().union(*(part.refusals for part in parts))
    return Expected(refusals, all(part.taken for part in parts))


def of_query(text: bytes | None) -> Expected:
    """A.5. Text that is no JSON may be told from JSON that is no query, or not."""
    no_query = frozenset({"invalid_query_json", "invalid_request"})
    if text is None:
        return Expected(no_query)
    try:
        query = read_json(text)
    except Malformed:
        return Expected(no_query)
    if is_odd(query):
        # How far it is read before something is found differs.
        return Expected(no_query, True)
    wrong = _refused("invalid_request")
    forms = [form for form in QUERIES if form in query] if isinstance(query, dict) else []
    if len(forms) > 1 and any(query[form] is None for form in forms):
        return Expected(wrong.refusals, True)
    found = query[forms[0]] if len(forms) == 1 else None
    if not isinstance(found, dict):
        return wrong
    if forms[0] == "getForId":
        return TAKEN if isinstance(found.get("actorId"), str) else wrong
    key = found.get("key")
    if not (
        isinstance(found.get("name"), str)
        and isinstance(key, list)
        and all(isinstance(part, str) for part in key)
        and all(len(part.encode("utf-16-le")) <= 2 * KEY_PART for part in key)
    ):
        return wrong
    # What a query does not need is not described.
    spare = forms[0] == "getForKey" or isinstance(found.get("region"), str | None)
    return TAKEN if spare else Expected(wrong.refusals, True)


def of_params(text: bytes | None) -> Expected:
    """Connection parameters, which are JSON."""
    if text is None:
        return TAKEN
    refused = frozenset({"invalid_params"})
    try:
        value = read_json(text)
    except Malformed:
        return Expected(refused)
    if len(text) > MOST_PARAMS:
        return Expected(refused)
    return Expected(refused, True) if is_odd(value) else TAKEN


def of_encoding(name: str | None, code: str = "invalid_request") -> Expected:
    return TAKEN if name in ("json", "cbor") else _refused(code)


def of_first(encoding: str, frame: bytes, *, text: bool) -> Expected:
    """The first message of the older form, A.9."""
    refused = frozenset({"malformed_message", "invalid_params", "message_too_long"})
    if text is not (encoding == "json") or len(frame) > LIMIT:
        return Expected(refused)
    try:
        message = read(encoding, frame)
    except Malformed:
        return Expected(refused)
    if is_odd(message):
        return Expected(refused, True)
    body = message.get("b") if isinstance(message, dict) else None
    first = body.get("i") if isinstance(body, dict) else None
    if not isinstance(first, dict):
        return Expected(refused)
    fits = len(json.dumps(first.get("p"))) <= MOST_PARAMS
    return TAKEN if fits else Expected(refused, True)


def unescaped(text: str) -> bytes:
    """decodeURIComponent; what it refuses is no JSON either."""
    try:
        return unquote(text, errors="strict").encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return b"\xff"
