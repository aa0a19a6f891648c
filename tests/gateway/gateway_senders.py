"""Send what is malformed to an actor that is reached, and look at what comes of it."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import Any

import gateway_oracle as oracle
from gateway_malformed import Frame
from gateway_openings import A
from gateway_oracle import Expected
from gateway_reading import ODD, is_inexact
from gateway_streams import Stream, streaming
from gateway_tally import CALL_ERRORS, Tally, refusal, said, send_frame
from gateway_wire import PATIENCE, Site, Socket
from websockets.exceptions import ConnectionClosed

PROTOCOL_FAULTS = (1002, 1007, 1009)
"""RFC 6455, 7.4.1."""
INTERNAL = 1011
TOO_DEEP = "internal_error"
"""Of an action whose answer clients could not read."""
INEXACT = "inexact_integer"


_probes = itertools.count(7_000_000_000_000_000)


# --- Messages -----------------------------------------------------------------


def _check_answer(body: Any, expected: Expected) -> None:
    """The answer to an action: its output, or an error that an action has."""
    ((kind, found),) = body.items()
    if expected.fails:
        assert (kind, found.get("c")) == ("e", "invalid_action_request"), body
    elif kind == "e" and found["c"] == INEXACT:
        assert _may_be_inexact(expected), f"{found}, and not {expected.output}"
    elif kind == "e":
        assert found["c"] in CALL_ERRORS or (expected.deep and found["c"] == TOO_DEEP), found
        assert expected.output is ODD, f"{found}, and not {expected.output}"
    elif expected.output is not ODD:
        assert not is_inexact(expected.output), f"{found} with an inexact integer"
        assert found["o"] == expected.output, f"{found['o']}, and not {expected.output}"


def _may_be_inexact(expected: Expected) -> bool:
    known = expected.output is not ODD
    return is_inexact(expected.output) if known else expected.large


def _number(body: Any) -> Any:
    ((kind, found),) = body.items()
    assert kind in ("ar", "e"), body
    return found["i"] if kind == "ar" else found["ai"]


async def _frame(socket: Socket, frame: Frame, tally: Tally) -> bool:
    """Send one; whether its connection can be used on. A call behind it tells."""
    expected = oracle.of_frame(socket.wire.name, frame.data, text=frame.text)
    probe = next(_probes)
    answers: dict[int, Any] = {}
    wanted = {probe} | ({expected.number} if expected.number is not None else set())
    try:
        with suppress(ConnectionClosed):
            await send_frame(socket, frame)
            await socket.call(probe, "echo", probe)
        while not (probe in answers and (expected.number is None or wanted <= set(answers))):
            body = await socket.next()
            answers[_number(body)] = body
    except ConnectionClosed as end:
        reason = said(end, 1007, 1011)
        if answers:
            raise AssertionError(f"answered, and then closed: {answers}") from end
        tally.check("frames", expected, reason, set())
        return False
    tally.check("frames", expected, None, set())
    assert answers[probe] == {"ar": {"i": probe, "o": [probe]}}
    if expected.number is not None:
        _check_answer(answers[expected.number], expected)
    elif expected.refusals:
        return False  # Its number may be one that only some read: its answer may yet come.
    else:
        assert set(answers) == wanted, "an answer to nothing"
    return True


async def send_frames(site: Site, tally: Tally, frames: list[Frame]) -> None:
    """On one connection for as long as it lives, then on the next."""
    waiting = iter(frames)
    frame = next(waiting, None)
    while frame is not None:
        async with site.connect(A) as socket:
            while frame is not None:
                alive = await _frame(socket, frame, tally)
                frame = next(waiting, None)
                if not alive:
                    break


async def send_posted(site: Site, tally: Tally, bodies: list[bytes]) -> None:
    """As posted messages; the stream goes on, whatever they are."""
    waiting = iter(bodies)
    body = next(waiting, None)
    while body is not None:
        async with streaming(site, A) as stream:
            known = True
            while body is not None and known:
                known = await _post(site, tally, stream, body)
                body = next(waiting, None)
            if known:
                probe = next(_probes)
                assert await stream.ask(probe, "echo", "last") == ["last"]


async def _post(site: Site, tally: Tally, stream: Stream, body: bytes) -> bool:
    """Post one; whether all that comes of it has come."""
    expected = oracle.of_message(site.wire.name, body)
    answer = await stream.post(body)
    if answer.status != 200:
        tally.check("posted", expected, refusal(site, answer), set())
        return True
    assert answer.raw == b"{}"
    tally.check("posted", expected, None, set())
    if expected.number is not None:
        told = await stream.next()
        assert _number(told) == expected.number
        _check_answer(told, expected)
        return True
    # Its number may be one that only some read, or too deep inside: its answer may yet come.
    return not expected.refusals


async def send_message_headers(
    site: Site, tally: Tally, drawn: list[tuple[str, str | None]]
) -> None:
    """Posted messages with one header that is wrong, or missing."""
    async with streaming(site, A) as stream:
        for name, value in drawn:
            answer = await stream.post(
                site.wire.dumps({"b": {"sr": {"e": "said", "s": True}}}),
                stream.headers_of_message(**{name: value}),
            )
            encoding = value if name == "encoding" else None
            code = refusal(site, answer, "json" if value is None else encoding)
            assert code == "missing" if value is None else code in MESSAGE_HEADERS[name], code
            tally.count("message headers", taken=False)
        assert await stream.ask(1, "echo", "last") == ["last"]


# A token proves its actor and connection, and is looked at before anything else.
MESSAGE_HEADERS = {
    "actor": {"incorrect_conn_token"},
    "conn": {"incorrect_conn_token"},
    "conn_token": {"incorrect_conn_token"},
    "encoding": {"invalid_request"},
}


async def send_body(site: Site, tally: Tally, body: bytes, action: str, older: bool) -> None:
    """The body of an action, with headers of either form."""
    expected = oracle.of_body(site.wire.name, body, action)
    headers = site.headers(A)
    if older:
        headers = {name.replace("X-RivetKit-", "X-AC-"): value for name, value in headers.items()}
    answer = await site.post(f"/registry/actors/actions/{action}", headers, body)
    if answer.status == 500 and expected.deep:
        assert site.wire.loads(answer.raw)["c"] == TOO_DEEP
        tally.count("bodies", taken=True)
        return
    if answer.status != 200:
        code = refusal(site, answer)
        if code == INEXACT and _may_be_inexact(expected):
            tally.count("bodies", taken=True)
            return
        tally.check("bodies", expected, code, CALL_ERRORS if expected.output is ODD else set())
        return
    tally.check("bodies", expected, None, set())
    if expected.output is not ODD:
        assert not is_inexact(expected.output), answer.output
        assert answer.output == expected.output


# --- Below the dialect --------------------------------------------------------


async def send_request(site: Site, tally: Tally, request: bytes) -> None:
    """Bytes that may be no HTTP: a status for each, and none of the server's faults."""
    host, _, port = site.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(request)
            head = await reader.readuntil(b"\r\n")
    finally:
        writer.close()
    status = int(head.split()[1])
    assert status == 101 or 400 <= status < 500 or status == 200, head
    tally.count("requests", taken=status in (101, 200))


async def send_broken(site: Site, tally: Tally, data: bytes) -> None:
    """Bytes on a WebSocket that are no frame: the codes of RFC 6455.

    If they begin as a frame that says it is too long, it is refused as a message that is.
    """
    async with site.connect(A) as socket:
        socket.connection.transport.write(data)
        try:
            body = await socket.next()
        except ConnectionClosed as end:
            if end.rcvd is None or end.rcvd.reason != "message_too_long":
                said(end, *PROTOCOL_FAULTS)
            else:
                said(end, INTERNAL)
        else:
            raise AssertionError(f"answered with {body}")
    tally.count("broken", taken=False)
