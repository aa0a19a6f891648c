"""What came of what was sent, held against what may come of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from gateway_malformed import Frame
from gateway_oracle import Expected
from gateway_wire import JSON, PATIENCE, WIRES, Answer, Site, Socket
from websockets.exceptions import ConnectionClosed

CALL_ERRORS = {"action_not_found", "invalid_action_request", "user_error"}
QUERY_ERRORS = {"actor_not_found", "actor_already_exists", "user_error", "forbidden"}
"""What a well-formed opening may be refused with."""


class Tally:
    """How much was sent, and what came of it, by kind."""

    def __init__(self) -> None:
        self.refused = Counter[str]()
        self.taken = Counter[str]()

    def count(self, kind: str, *, taken: bool) -> None:
        (self.taken if taken else self.refused)[kind] += 1

    def check(self, kind: str, expected: Expected, code: str | None, beyond: set[str]) -> None:
        """Taken where `code` is None; `beyond` are the refusals of what can be read."""
        if code is None or (expected.taken and code in beyond):
            assert expected.taken, f"taken, though it is {set(expected.refusals)}"
        else:
            assert code in expected.refusals, f"{code}, and not {expected}"
        self.count(kind, taken=code is None)

    def __str__(self) -> str:
        return "\n".join(
            f"{kind:14} {self.refused[kind]:6} refused {self.taken[kind]:6} taken"
            for kind in sorted(self.refused | self.taken)
        )


async def volume(test: Callable[[], None]) -> None:
    """Run a test of hypothesis beside the event loop of its server or clients."""
    await asyncio.to_thread(test)


def on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    asyncio.run_coroutine_threadsafe(work, loop).result(10 * PATIENCE)


def said(end: ConnectionClosed, *codes: int) -> str:
    """The reason of a close that has one of the codes."""
    if end.rcvd is None or end.rcvd.code not in codes:
        raise AssertionError(f"not closed with one of {codes}: {end}") from end
    return end.rcvd.reason


def refusal(site: Site, answer: Answer, encoding: str | None = None) -> str:
    """The code of an error, A.1.3; the report of missing headers is `missing`."""
    assert 400 <= answer.status < 500, (answer.status, answer.raw)
    wire = WIRES.get(encoding or site.wire.name, JSON)
    if answer.headers["content-type"].startswith("application/json"):
        body = JSON.loads(answer.raw)
        assert body["success"] is False, body
        assert body["error"]["name"] == "ZodError", body
        assert body["error"]["issues"], body
        return "missing"
    body = wire.loads(answer.raw)
    assert {"c", "m"} <= set(body) <= {"c", "m", "md"}, body
    assert answer.outcome in ("not_started", "took_effect", "unknown"), answer.headers
    code: str = body["c"]
    return code


def _pieces(frame: Frame) -> Sequence[bytes]:
    size = -(-len(frame.data) // frame.pieces) or 1
    return [frame.data[at : at + size] for at in range(0, len(frame.data), size)] or [b""]


async def send_frame(socket: Socket, frame: Frame) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in _pieces(frame):
            yield piece

    if frame.pieces == 1:
        await socket.connection.send(frame.data, text=frame.text)
    else:
        await socket.connection.send(pieces(), text=frame.text)
