"""Reading what a request says about itself: encoding, query, parameters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.types import Scope

from rivet_ray.budget import Budget
from rivet_ray.errors import (
    ActionTimedOut,
    InvalidParams,
    InvalidRequest,
    MessageTooLong,
    Outcome,
    RivetError,
)
from rivet_ray.gateway.codec import SHORT
from rivet_ray.protocol import older, v0, values
from rivet_ray.protocol.caller import RequestInfo
from rivet_ray.protocol.encodings import ENCODINGS, Encoding
from rivet_ray.protocol.half_pairs import whole_json
from rivet_ray.protocol.queries import ActorQuery, decode_query
from rivet_ray.protocol.subprotocols import Resume, parse_resume

QUERY = b"x-rivetkit-query"
ENCODING = b"x-rivetkit-encoding"
PARAMS = b"x-rivetkit-conn-params"
ACTOR = b"x-rivetkit-actor"
CONNECTION = b"x-rivetkit-conn"
TOKEN = b"x-rivetkit-conn-token"
SEEN = v0.SEEN_HEADER.lower().encode()
INTEGERS = v0.INTEGERS_HEADER.lower().encode()
EXACT = v0.EXACT.encode()
KEY = v0.KEY_HEADER.lower().encode()
MAX_KEY = 255
LONGEST_ESCAPE = 6
r"""Bytes of `\u0041`, the longest form of one that JSON has."""

_INTERNAL = frozenset(
    name.lower().encode() for name in (*v0.INTERNAL_HEADERS, *older.INTERNAL_HEADERS)
)
_OLDER = {name.lower().encode(): new.lower().encode() for name, new in older.HEADERS.items()}
_OLDER_NAMES = frozenset(_OLDER)
_BY_HEADER = {
    (name.encode(), integers): encoding if integers == EXACT else encoding.for_doubles
    for name, encoding in ENCODINGS.items()
    for integers in (EXACT, None)
}


def resume_of(headers: Mapping[bytes, bytes]) -> Resume | None:
    """How far a client got that counts events, and the connection that it goes on with."""
    seen, connection, token = (
        None if (value := headers.get(name)) is None else value.decode("latin-1")
        for name in (SEEN, CONNECTION, TOKEN)
    )
    return parse_resume(seen, connection, token)


class MissingHeaders(Exception):
    """A required header is not there; the original answers with its validator's report."""

    def __init__(self, names: Sequence[bytes]) -> None:
        super().__init__(", ".join(name.decode() for name in names))
        self.body = msgspec.json.encode(
            {
                "success": False,
                "error": {
                    "issues": [
                        {
                            "code": "invalid_type",
                            "expected": "string",
                            "received": "undefined",
                            "path": [name.decode()],
                            "message": "Required",
                        }
                        for name in names
                    ],
                    "name": "ZodError",
                },
            }
        )


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The headers of a request; of repeated ones the last.

    One with an older name is there under the newer one, unless that was sent too. Who
    sends older names reads integers as they are: no client in JavaScript does.
    """
    found: dict[bytes, bytes] = dict(scope["headers"])
    if not _OLDER_NAMES.isdisjoint(found):
        for name, new in _OLDER.items():
            if name in found:
                found.setdefault(new, found[name])
        found[INTEGERS] = EXACT
    return found


def require(headers: dict[bytes, bytes], *names: bytes) -> None:
    """Raise MissingHeaders with every header that is not there."""
    missing = [name for name in names if name not in headers]
    if missing:
        raise MissingHeaders(missing)


def encoding_of(
    headers: dict[bytes, bytes], otherwise: type[RivetError] = InvalidRequest
) -> Encoding:
    """The encoding that the client chose. Raises `otherwise` for an unknown one."""
    name = headers.get(ENCODING, b"")
    found = _by_header(headers, name)
    return found or encoding_named(name.decode("latin-1"), exact=False, otherwise=otherwise)


def encoding_named(
    name: str | None, *, exact: bool, otherwise: type[RivetError] = InvalidRequest
) -> Encoding:
    encoding = ENCODINGS.get(name or "")
    if encoding is None:
        raise otherwise(f"The encoding must be json or cbor, not {(name or '')[:40]!r}.")
    return encoding if exact else encoding.for_doubles


def fallback_encoding(headers: dict[bytes, bytes]) -> Encoding:
    """The encoding for an error when even the encoding may be wrong."""
    found = _by_header(headers, headers.get(ENCODING, b""))
    return found or ENCODINGS["json"].for_doubles


def _by_header(headers: dict[bytes, bytes], name: bytes) -> Encoding | None:
    exact = EXACT if headers.get(INTEGERS) == EXACT else None
    return _BY_HEADER.get((name, exact))


def query_of(headers: dict[bytes, bytes]) -> ActorQuery:
    """The actor that the client means."""
    if QUERY not in headers:
        raise InvalidRequest("The header X-RivetKit-Query is missing.")
    return decode_query(_as_utf_8(headers[QUERY]))


def _as_utf_8(header: bytes) -> bytes:
    """JSON in a header, which `fetch` of a browser or of Node sends as Latin-1."""
    if not header.isascii():
        try:
            header.decode()
        except UnicodeDecodeError:
            return header.decode("latin-1").encode()
    return header


def params_of(text: str | bytes | None, limit: int) -> bytes | None:
    """Connection parameters from JSON to msgpack. Raises InvalidParams.

    They are measured as JSON in its shortest form, however they are written: a header
    holds ASCII only, where a letter may take six bytes as an escape.
    """
    if text is None:
        return None
    data = text.encode() if isinstance(text, str) else _as_utf_8(text)
    if len(data) > LONGEST_ESCAPE * limit:
        raise _params_too_long(limit)
    try:
        value = _json(data)
        params = values.encode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError) as error:
        raise InvalidParams(f"The connection parameters are not JSON: {error}") from error
    _measure(value, limit)
    return params


def _json(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        repaired = whole_json(data)
        if repaired is None:
            raise
        return msgspec.json.decode(repaired)


def first_params(encoding: Encoding, frame: bytes | str, limit: int) -> bytes | None:
    """Parameters that come as a message, as msgpack; they are measured as JSON too."""
    if len(frame) > LONGEST_ESCAPE * limit:
        raise _params_too_long(limit)  # Nobody has let the client in: it is not read.
    params = older.decode_first(encoding, frame)
    if params is not None:
        _measure(values.decode(params), limit)
    return params


def _measure(params: Any, limit: int) -> None:
    if len(ENCODINGS["json"].encode(params)) > limit:
        raise _params_too_long(limit)


def _params_too_long(limit: int) -> InvalidParams:
    return InvalidParams(f"Connection parameters have at most {limit} bytes, as JSON in UTF-8.")


def key_of(headers: dict[bytes, bytes]) -> str | None:
    """The idempotency key of a call, if it has one."""
    key = headers.get(KEY)
    if key is None:
        return None
    if not 0 < len(key) <= MAX_KEY:
        raise InvalidRequest(f"An idempotency key has 1 to {MAX_KEY} characters.")
    return key.decode("latin-1")


def request_info(scope: Scope) -> RequestInfo:
    """The request as hooks see it; internal headers never come in from outside."""
    headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    decoded = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name not in _INTERNAL
    ]
    host = next((value for name, value in decoded if name == "host"), "localhost")
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope["query_string"]
    target = path.decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
    url = f"{scope['scheme']}://{host}{target}"
    peer: tuple[str, int] | None = scope.get("client")
    client = None if peer is None else peer[0] or None
    return RequestInfo(scope.get("method", "GET"), url, decoded, client)


@asynccontextmanager
async def reading_body(
    receive: Any,
    headers: dict[bytes, bytes],
    limit: int,
    timeout: float,
    budget: Budget,
    *,
    status: int = 413,
) -> AsyncGenerator[bytes]:
    """A request's whole body; a long one counts against the budget until the end of the block.

    Raises Overloaded, and what `read_body` raises.
    """
    held = Held(budget)
    try:
        yield await read_body(receive, headers, limit, timeout, status=status, held=held)
    finally:
        held.end()


class Held:
    """What a body that is being read counts for."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def grown(self, size: int) -> None:
        """So much of it is there; what is short counts for nothing. Raises Overloaded."""
        if size > SHORT:
            self._budget.take(size - self._size)
            self._size = size

    def end(self) -> None:
        if self._size:
            self._budget.give_back(self._size)
            self._size = 0


async def read_body(
    receive: Any,
    headers: dict[bytes, bytes],
    limit: int,
    timeout: float,
    *,
    status: int = 413,
    held: Held | None = None,
) -> bytes:
    """A request's whole body.

    Raises MessageTooLong without reading on, and ActionTimedOut after `timeout` seconds.
    """
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit:
        raise _body_too_long(limit, status)
    try:
        async with asyncio.timeout(timeout):
            return await _gathered(receive, limit, status, held)
    except TimeoutError as error:
        late = f"The request's body did not come within {timeout:g} s."
        raise ActionTimedOut(late, outcome=Outcome.NOT_STARTED) from error


async def _gathered(receive: Any, limit: int, status: int, held: Held | None) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        if chunk:
            size += len(chunk)
            if size > limit:
                raise _body_too_long(limit, status)
            if held is not None:
                held.grown(size)
            chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _body_too_long(limit: int, status: int) -> MessageTooLong:
    error = MessageTooLong(f"A body has at most {limit} bytes.")
    error.status = status
    return error


class ClientGone(Exception):
    """The client left before it had sent its request."""
