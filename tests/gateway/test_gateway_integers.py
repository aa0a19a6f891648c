"""Integers that a number of JavaScript does not hold: refused by name, or exact for who says so."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_room import Room
from gateway_streams import streaming
from gateway_wire import Serve, Site, get_or_create
from websockets.typing import Subprotocol

from rivet_ray import UserError, action

LARGE = 1_700_000_000_123_456_789
EXACT = 2**60
"""Beyond 2**53, and a double all the same."""


class Clock(Room):
    @action
    def tick(self, value: int = LARGE) -> int:
        self.broadcast("ticked", value)
        self.broadcast("ticked", 7)
        return 1

    @action
    def fail(self) -> None:
        raise UserError("No.", code="no", metadata=LARGE)


ACTORS = {"clock": Clock}
A = get_or_create("clock", "a")
TEXT = f"holds the integer {LARGE}, which a number of JavaScript cannot hold exactly"


def check(error: Any) -> None:
    assert (error["c"], error["oc"]) == ("inexact_integer", "took_effect")
    assert TEXT in error["m"]
    assert "X-RivetKit-Integers: exact" in error["m"]


@pytest.mark.parametrize("value", [LARGE, [{"deep": -LARGE}], 2**53 + 1])
async def test_over_http(serve: Serve, value: Any) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, "echo", value)
    assert (answer.status, answer.code) == (406, "inexact_integer")
    assert answer.outcome == "took_effect"
    assert (await site.call(A, "echo", value, integers="exact")).output == value


async def test_what_a_double_holds(serve: Serve) -> None:
    site = await serve(ACTORS)
    values = [2**53, -(2**53), EXACT, 0.1 + 0.2, "1700000000123456789"]
    assert (await site.call(A, "echo", values)).output == values


async def test_an_error_goes_without_its_metadata(serve: Serve) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, "fail")
    assert (answer.status, answer.body) == (400, {"c": "no", "m": "No."})
    async with site.connect(A) as socket:
        await socket.call(3, "fail")
        error = (await socket.next())["e"]
        assert (error["ai"], error["c"]) == (3, "no")
        assert "md" not in error


async def test_on_a_websocket(serve: Serve) -> None:
    """C5: an event that is left out is told, once, and the connection goes on."""
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        await socket.call(3, "echo", LARGE)
        error = (await socket.next())["e"]
        assert error["ai"] == 3
        check(error)
        await socket.subscribe("ticked")
        for number in (4, 5):
            await socket.call(number, "tick")
            bodies = [await socket.next() for _ in range(3 if number == 4 else 2)]
            told = [body["e"] for body in bodies if "e" in body]
            assert len(told) == (number == 4)
            for error in told:
                assert "ai" not in error
                check(error)
            assert {"ev": {"n": "ticked", "a": [7]}} in bodies
            assert {"ar": {"i": number, "o": 1}} in bodies
        await socket.call(6, "tick", EXACT)
        bodies = [await socket.next() for _ in range(3)]
        assert {"ev": {"n": "ticked", "a": [EXACT]}} in bodies
    counts = (await site.http.get(f"http://{site.address}/metadata")).json()["gateway"]
    assert counts["leftOutEvents"] == 2


async def test_on_an_event_stream(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with streaming(site, A) as stream:
        await stream.subscribe("ticked")
        await stream.call(4, "tick")
        bodies = [await stream.next() for _ in range(3)]
        (error,) = [body["e"] for body in bodies if "e" in body]
        check(error)
        assert {"ev": {"n": "ticked", "a": [7]}} in bodies


def exact(site: Site) -> list[Subprotocol]:
    *first, last = site.protocols(A)
    return [*first, Subprotocol("integers.exact"), last]


async def test_a_connection_that_reads_them(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.offering(exact(site)) as socket, site.connect(A) as other:
        await socket.init()
        await socket.subscribe("ticked")
        await other.subscribe("ticked")
        assert await other.ask(1, "echo", 1) == 1
        await socket.call(4, "tick")
        bodies = [await socket.next() for _ in range(3)]
        assert {"ev": {"n": "ticked", "a": [LARGE]}} in bodies
        assert await socket.ask(5, "echo", LARGE) == LARGE
