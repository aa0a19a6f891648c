"""Long bodies of strangers hold up nobody: whatever they are made of, the loop has its turn.

Processor time is measured, and not the clock's, so that what else the machine does
does not count.
"""

from __future__ import annotations

import asyncio
import gc
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import cbor2
import pydantic
import pytest
from gateway_wire import Serve, Site, get_or_create

from rivet_ray import Actor, action
from rivet_ray.gateway import GatewaySettings
from rivet_ray.gateway.codec import SHORT

MEBIBYTE = 1024 * 1024
LONGEST = 20 * MEBIBYTE
LIMIT = 0.35
"""Seconds of the processor between two turns of the loop. Hostile bodies took 7 to 44."""

pytestmark = pytest.mark.parametrize("port", ["direct"])


@dataclass
class Point:
    x: int


class Place(pydantic.BaseModel):
    x: int


class Bulk(Actor[None]):
    public = True

    @action
    def count(self, *values: Any) -> int:
        return len(values)

    @action
    def points(self, values: list[Point]) -> int:
        return len(values)

    @action
    def places(self, values: list[Place]) -> int:
        return len(values)

    @action
    def texts(self, values: list[str]) -> int:
        return len(values)

    @action
    def repeat(self, value: Any, times: int) -> Any:
        return [value] * times

    @action
    def letters(self, text: str) -> int:
        return len(text)


ACTORS = {"bulk": Bulk}
A = get_or_create("bulk", "a")


class Turns:
    """How long the loop was held up."""

    longest = 0.0


@asynccontextmanager
async def turns() -> AsyncIterator[Turns]:
    found = Turns()

    async def beat() -> None:
        while True:
            begun = time.process_time()
            await asyncio.sleep(0.002)
            found.longest = max(found.longest, time.process_time() - begun)

    # What the tests before have left behind is not looked through each time.
    gc.collect()
    gc.freeze()
    beating = asyncio.create_task(beat())
    await asyncio.sleep(0)
    try:
        yield found
    finally:
        gc.unfreeze()
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


def filled(part: bytes, size: int = LONGEST) -> list[bytes]:
    return [part * (size // len(part))]


def hostile(wire: str) -> dict[str, bytes]:
    """20 MiB each, well-formed as far as anybody looks."""
    room = LONGEST - 64
    if wire == "json":
        items = {
            "lists": b"[],",
            "objects": b"{},",
            "nested": b"[[[[]]]],",
            "members": b'{"a":1},',
            "numbers": b"1,",
            "floats": b"0.5,",
            "texts": b'"",',
            "constants": b"null,",
            "spaces": b" 1, ",
            "digits": b"9" * 4_000 + b",",
            "fractions": b"0." + b"9" * 4_000 + b",",
        }
        found = {
            name: b'{"a":[' + part * (room // len(part)) + b"0]}" for name, part in items.items()
        }
        found["deep"] = b'{"a":' + b"[" * room
        found["names"] = b'{"a":[{' + b'"":1,' * (room // 5) + b'"":1}]}'
        return found
    items = {
        "lists": b"\x80",
        "objects": b"\xa0",
        "nested": b"\x81\x81\x81\x80",
        "members": b"\xa1\x61a\x01",
        "numbers": b"\x01",
        "texts": b"\x60",
        "undefined": b"\xf7",
        "large": b"\xc2\x49" + b"\xff" * 9,
        "open": b"\x9f\xff",
    }
    found = {}
    for name, part in items.items():
        count = room // len(part)
        found[name] = b"\xa1\x61a\x9a" + struct.pack(">I", count) + part * count
    found["typed array"] = b"\xa1\x61a\x81\xd8\x44\x5a" + struct.pack(">I", room) + bytes(room)
    found["typed array in pieces"] = (
        b"\xa1\x61a\x81\xd8\x44\x5f\x5a" + struct.pack(">I", room) + bytes(room) + b"\xff"
    )
    found["open texts"] = b"\xa1\x61a\x81\x7f" + b"\x60" * room + b"\xff"
    return found


SHAPES = sorted({*hostile("json"), *hostile("cbor")})


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_hostile_body(shape: str, serve: Serve) -> None:
    """It is refused, and meanwhile the loop turns."""
    site = await serve(ACTORS)
    bodies = hostile(site.wire.name)
    if shape not in bodies:
        pytest.skip("has no form in this encoding")
    await site.call(A, "count")
    async with turns() as found:
        answer = await site.post("/actors/actions/count", site.headers(A), bodies[shape])
    assert answer.code in ("message_too_long", "invalid_action_request"), answer.raw
    assert answer.status in (400, 413)
    assert answer.outcome == "not_started"
    assert found.longest < LIMIT
    await still_serves(site)


async def still_serves(site: Site) -> None:
    assert (await site.call(A, "count", 1, 2)).output == 2


async def metadata(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = (await site.http.get(f"http://{site.address}/metadata")).json()
    return found["gateway"]


MOST: dict[str, tuple[str, Any, int]] = {
    "lists": ("count", [], 250_000 // 9 - 9),
    "members": ("count", {"a": 1}, 250_000 // 14 - 9),
    "numbers": ("count", 1, 245_000),
    "floats": ("count", 0.123456789, 245_000),
    "texts": ("texts", "a text of some letters", 245_000),
    "points": ("points", {"x": 1}, 250_000 // 14 - 9),
    "places": ("places", {"x": 1}, 250_000 // 14 - 9),
}


@pytest.mark.parametrize("shape", MOST)
async def test_as_much_as_there_may_be(shape: str, serve: Serve) -> None:
    site = await serve(ACTORS)
    name, item, count = MOST[shape]
    values = [item] * count
    body = site.wire.dumps({"a": values if name == "count" else [values]})
    await still_serves(site)
    async with turns() as found:
        answer = await site.post(f"/actors/actions/{name}", site.headers(A), body)
    assert answer.output == count
    assert found.longest < LIMIT


@pytest.mark.parametrize("part", [",", '\\"[', "é", "漢"])
async def test_one_long_text_is_no_hostile_body(part: str, serve: Serve) -> None:
    """What is in a text counts for nothing but its bytes."""
    site = await serve(ACTORS)
    text = part * (3_000_000 // len(part.encode()))
    body = site.wire.dumps({"a": [text]})
    await still_serves(site)
    async with turns() as found:
        answer = await site.post("/actors/actions/letters", site.headers(A), body)
    assert answer.output == len(text)
    assert found.longest < LIMIT


@pytest.mark.parametrize("value", [[], {"a": 1}, 2**53, "a text", "x" * 100])
async def test_a_large_answer(value: Any, serve: Serve) -> None:
    site = await serve(ACTORS)
    body = site.wire.dumps({"a": [value, 120_000]})
    await still_serves(site)
    async with turns() as found:
        url = f"http://{site.address}/actors/actions/repeat"
        answer = await site.http.post(url, headers=site.headers(A), content=body)
    assert answer.status_code == 200
    assert len(answer.content) > 120_000
    assert found.longest < LIMIT


# --- The bound --------------------------------------------------------------------------


async def test_the_most_items(serve: Serve) -> None:
    """In bodies, and in messages of both kinds of connections that are longer than `SHORT`."""
    settings = GatewaySettings(max_body_items=10_000)
    site = await serve(ACTORS, settings=settings)
    longest = [0] * 20_000
    assert (await site.call(A, "count", *longest[:9_000])).output == 9_000
    answer = await site.call(A, "count", *longest)
    found = answer.status, answer.code, answer.outcome
    assert found == (413, "message_too_long", "not_started")
    assert (await metadata(site))["tooManyItems"] == 1
    async with site.connect(A) as socket:
        assert await socket.ask(0, "count", *longest[:9_000]) == 9_000
        await socket.call(1, "count", *longest)
        assert await socket.closed() == (1011, "message_too_long", [])
    assert (await metadata(site))["tooManyItems"] == 2


async def test_messages_stay_in_order(serve: Serve) -> None:
    """A long one is read elsewhere, and those behind it wait."""
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        text = "x" * 2 * SHORT
        for number in range(0, 20, 2):
            await socket.call(number, "letters", text)
            await socket.call(number + 1, "letters", "abc")
        for number in range(0, 20, 2):
            assert await socket.answer(number) == 2 * SHORT
            assert await socket.answer(number + 1) == 3


async def test_cbor_that_lies_about_its_length(serve: Serve) -> None:
    site = await serve(ACTORS)
    if site.wire.name == "cbor":
        body = b"\xa1\x61a\x9b" + b"\xff" * 8 + bytes(SHORT)
        answer = await site.post("/actors/actions/count", site.headers(A), body)
        assert (answer.status, answer.code) == (400, "invalid_action_request")
        body = cbor2.dumps({"a": [1]}) + bytes(2 * SHORT)
        answer = await site.post("/actors/actions/count", site.headers(A), body)
        assert (answer.status, answer.code) == (400, "invalid_action_request")
