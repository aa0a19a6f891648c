"""Open what is malformed, and look at what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import gateway_oracle as oracle
from gateway_malformed import Frame
from gateway_openings import Opening, as_header
from gateway_oracle import Expected
from gateway_raw import raw_socket
from gateway_streams import opening as open_stream
from gateway_tally import CALL_ERRORS, QUERY_ERRORS, Tally, refusal, said, send_frame
from gateway_wire import PATIENCE, WIRES, Site, Socket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

MOST_LINE = 8_000
"""From here on an upgrade may be refused for the length of a line of it."""
TOO_LONG = "too long"
TOO_LONG_LINE = Expected(frozenset({TOO_LONG}))

# --- Openings -----------------------------------------------------------------


def _headers(opening: Opening, older: bool = False) -> list[tuple[str, bytes]]:
    parts = (
        ("Query", opening.query),
        ("Encoding", None if opening.encoding is None else opening.encoding.encode()),
        ("Conn-Params", opening.params),
    )
    prefix = "X-AC-" if older else "X-RivetKit-"
    return [(prefix + name, as_header(data)) for name, data in parts if data is not None]


def _of_headers(opening: Opening, code: str = "invalid_request") -> Expected:
    """What headers are refused with; JSON means the same without its control characters."""
    query, params = (
        None if data is None else as_header(data) for data in (opening.query, opening.params)
    )
    encoding = oracle.of_encoding(opening.encoding, code)
    if opening.encoding is None:
        encoding = Expected(frozenset({"missing"}))
    return oracle.together(oracle.of_query(query), oracle.of_params(params), encoding)


async def send_headers(site: Site, tally: Tally, opening: Opening, path: str, older: bool) -> None:
    """To `resolve`, to an action, or to an actor's own HTTP."""
    raw = path.startswith("raw/")
    body = site.wire.dumps({"a": [1]})
    answer = await site.post(f"/registry/actors/{path}", _headers(opening, older), body)  # type: ignore[arg-type]
    encoding = opening.encoding or "json"
    if raw:
        expected = oracle.together(
            oracle.of_query(None if opening.query is None else as_header(opening.query)),
            oracle.of_params(None if opening.params is None else as_header(opening.params)),
        )
    else:
        code = "invalid_encoding" if path == "resolve" else "invalid_request"
        expected = _of_headers(opening, code)
        if opening.query is None and path == "resolve":
            expected = Expected(expected.refusals | {"missing"})
    beyond = QUERY_ERRORS | ({"fetch_handler_not_defined"} if raw else CALL_ERRORS)
    told = None if answer.status == 200 else refusal(site, answer, encoding)
    tally.check("raw http" if raw else "headers", expected, told, beyond)


async def send_stream(site: Site, tally: Tally, opening: Opening, older: bool) -> None:
    """An event stream; its refusals are its only event, A.4."""
    expected = _of_headers(opening)
    headers = {name: value.decode("latin-1") for name, value in _headers(opening, older)}
    async with open_stream(site, headers) as stream:
        if stream.status != 200:
            assert stream.status == 400
            assert opening.query is None or opening.encoding is None
            assert b"ZodError" in await stream.whole()
            tally.count("streams", taken=False)
            return
        assert opening.query is not None
        if opening.encoding != site.wire.name:
            event = await stream.event()
            assert event is not None
            name, code = event
            assert (name, code) == ("error", "invalid_request"), event
        else:
            body = await stream.next()
            code = body["e"]["c"] if "e" in body else ""
            assert code or set(body) == {"i"}, body
        if code:
            assert await stream.event() is None, "nothing comes behind a refusal"
    tally.check("streams", expected, code or None, QUERY_ERRORS)


async def _opened(socket: Socket) -> str | None:
    """The code with which an opening is refused, or None for an Init."""
    frames: list[Any] = []
    try:
        async with asyncio.timeout(PATIENCE):
            frames.append(await socket.connection.recv())
            message = WIRES["json" if isinstance(frames[0], str) else "cbor"].loads(
                _bytes(frames[0])
            )
            if "i" in message["b"]:
                return None
            frames.append(await socket.connection.recv())
    except ConnectionClosed as end:
        reason = said(end, 1007, 1011)
        if frames and message["b"]["e"]["c"] != reason:
            raise AssertionError(f"{frames}, and then {reason}") from end
        return reason
    raise AssertionError(f"two messages and no close: {frames}")


def _bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


def _protocols(words: list[str]) -> list[Subprotocol]:
    return [Subprotocol(word) for word in words]


async def send_subprotocols(
    site: Site, tally: Tally, drawn: tuple[Opening, list[str]], raw: bool
) -> None:
    """A WebSocket, of the dialect or of an actor's own."""
    opening, words = drawn
    expected = oracle.together(
        oracle.of_query(opening.query),
        oracle.of_params(opening.params),
    )
    if not raw:
        unnamed = opening.encoding is None and opening.query is None
        code = "invalid_query_json" if unnamed else "invalid_request"
        encoding = oracle.of_encoding(opening.encoding, code)
        expected = oracle.together(expected, encoding)
    kind, opened = (
        ("raw sockets", _raw(site, words))
        if raw
        else ("subprotocols", _documented(site, _protocols(words)))
    )
    told = await _or_too_long(opened, sum(map(len, words)))
    if told == TOO_LONG:
        expected = TOO_LONG_LINE
    tally.check(kind, expected, told, QUERY_ERRORS)


async def _documented(site: Site, words: list[Subprotocol]) -> str | None:
    async with site.offering(words) as socket:
        return await _opened(socket)


async def _raw(site: Site, words: list[str]) -> str | None:
    async with raw_socket(site, None, "/x", offered=_protocols(words)) as connection:
        return await _echoed(connection)


async def _or_too_long(opened: Awaitable[str | None], size: int) -> str | None:
    """What it says, or TOO_LONG where the upgrade is refused for its length."""
    try:
        return await opened
    except InvalidStatus as error:
        if not 400 <= error.response.status_code < 500 or size < MOST_LINE:
            raise
        return TOO_LONG


async def _echoed(connection: Any) -> str | None:
    try:
        async with asyncio.timeout(PATIENCE):
            await connection.send("hi")
            assert await connection.recv() == "hi"
    except ConnectionClosed as end:
        return said(end, 1011)
    return None


async def send_address(site: Site, tally: Tally, opening: Opening, first: Frame) -> None:
    """A WebSocket of the older form, A.9: an address, then parameters."""
    parts = (("query", opening.query), ("encoding", opening.encoding))
    address = "&".join(
        f"{name}={quote(value, safe='')}" for name, value in parts if value is not None
    )
    unnamed = opening.encoding is None and opening.query is None
    expected = oracle.together(
        oracle.of_query(opening.query),
        oracle.of_encoding(
            opening.encoding, "invalid_query_json" if unnamed else "invalid_request"
        ),
    )
    if expected.taken:
        encoding = opening.encoding or "json"
        expected = oracle.together(expected, oracle.of_first(encoding, first.data, text=first.text))
    told = await _or_too_long(_older(site, address, first), len(address))
    if told == TOO_LONG:
        expected = TOO_LONG_LINE
    tally.check("addresses", expected, told, QUERY_ERRORS)


async def _older(site: Site, address: str, first: Frame) -> str | None:
    async with site.offering(None, query=f"?{address}") as socket:
        with suppress(ConnectionClosed):
            await send_frame(socket, first)
        return await _opened(socket)
