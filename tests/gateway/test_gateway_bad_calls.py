"""A call whose arguments cannot be read fails alone; its connection goes on (C8)."""

from __future__ import annotations

from typing import Any

import cbor2
from gateway_pair import pair
from gateway_room import Room, gate
from gateway_streams import streaming
from gateway_wire import Serve, Wire, get_or_create

from rivet_ray import action


class Open(Room):
    @action
    def optional(self, first: int = 5, second: str = "x", *rest: int) -> list[Any]:
        return [first, second, *rest]


ACTORS = {"room": Open}
A = get_or_create("room", "a")


def nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


CBOR_ARGUMENTS: dict[str, bytes] = {
    "NaN": cbor2.dumps(float("nan")),
    "Infinity": cbor2.dumps({"deep": [float("-inf")]}),
    "a Map with keys that are numbers": cbor2.dumps(cbor2.CBORTag(259, {1: 2})),
    "an integer beyond 64 bits": cbor2.dumps(2**70),
    "a text that is not UTF-8": b"\x62\xff\xff",
    "a tag without meaning": cbor2.dumps(cbor2.CBORTag(1_234_567, 1)),
    "an invalid Date": b"\xc1" + cbor2.dumps(float("nan")),
    "too deep": cbor2.dumps(nested(150)),
}
JSON_ARGUMENTS: dict[str, bytes] = {
    "an integer beyond 64 bits": b"1180591620717411303424",
    "a number beyond doubles": b"[1e999]",
    "too deep": b"[" * 150 + b"]" * 150,
}


def arguments_of(wire: Wire) -> dict[str, bytes]:
    return JSON_ARGUMENTS if wire.name == "json" else CBOR_ARGUMENTS


def call(wire: Wire, number: int, argument: bytes, name: str = "echo") -> bytes:
    """A call with one argument, in bytes."""
    if wire.name == "json":
        return b'{"b":{"ar":{"i":%d,"n":"%s","a":[%s]}}}' % (number, name.encode(), argument)
    # As cbor-x writes it: maps have 16-bit lengths.
    head = b"\xb9\x00\x01\x61b\xb9\x00\x01\x62ar\xb9\x00\x03"
    return b"".join(
        (head, b"\x61i", cbor2.dumps(number), b"\x61n", cbor2.dumps(name), b"\x61a\x81", argument)
    )


def frame(wire: Wire, data: bytes) -> str | bytes:
    return data.decode() if wire.name == "json" else data


def check(body: Any, number: int, case: str) -> None:
    error = body["e"]
    told = (error["ai"], error["c"], error["oc"])
    assert told == (number, "invalid_action_request", "not_started"), case
    assert "cannot be read: " in error["m"]


async def test_on_a_websocket(serve: Serve, wire: Wire) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        await socket.call(1, "wait_for", "another call")
        for case, argument in arguments_of(wire).items():
            await socket.connection.send(frame(wire, call(wire, 7, argument)))
            check(await socket.next(), 7, case)
        gate("another call may go on").set()
        assert await socket.answer(1) == "another call"


async def test_on_an_event_stream(serve: Serve, wire: Wire) -> None:
    """The answer comes on the stream, where clients of the original wait for it."""
    site = await serve(ACTORS)
    async with streaming(site, A) as stream:
        for case, argument in arguments_of(wire).items():
            answer = await stream.post(call(wire, 7, argument))
            assert (answer.status, answer.raw) == (200, b"{}"), case
            check(await stream.next(), 7, case)
        assert await stream.ask(8, "echo", 1) == 1


async def test_on_the_stream_of_another_gateway(wire: Wire) -> None:
    async with pair(wire, ACTORS) as both, streaming(both.one, A) as stream:
        for case, argument in arguments_of(wire).items():
            answer = await stream.post(call(wire, 7, argument), through=both.two)
            assert (answer.status, answer.raw) == (200, b"{}"), case
            check(await stream.next(), 7, case)
        assert await stream.ask(8, "echo", 1, through=both.two) == 1


async def test_over_http(serve: Serve, wire: Wire) -> None:
    site = await serve(ACTORS)
    for case, argument in arguments_of(wire).items():
        body = b'{"a":[%s]}' % argument if wire.name == "json" else b"\xa1\x61a\x81" + argument
        answer = await site.post("/registry/actors/actions/echo", site.headers(A), body)
        assert (answer.status, answer.code) == (400, "invalid_action_request"), case
        assert answer.outcome == "not_started"


async def test_half_of_a_surrogate_pair(serve: Serve, wire: Wire) -> None:
    """`"🎉".slice(0, 1)` in JavaScript: U+FFFD, as wherever the web makes UTF-8 of a text."""
    argument = rb'"\ud83c!"' if wire.name == "json" else b"\x64\xed\xa0\xbc!"
    site = await serve(ACTORS)
    async with site.connect(A) as socket, streaming(site, A) as stream:
        await socket.connection.send(frame(wire, call(wire, 7, argument)))
        assert await socket.answer(7) == "\ufffd!"
        await stream.post(call(wire, 7, argument))
        assert await stream.answer(7) == "\ufffd!"
    body = b'{"a":[%s]}' % argument if wire.name == "json" else b"\xa1\x61a\x81" + argument
    answer = await site.post("/registry/actors/actions/echo", site.headers(A), body)
    assert answer.output == "\ufffd!"


async def test_half_of_a_surrogate_pair_in_headers(serve: Serve) -> None:
    """In parameters and input it is U+FFFD; a key that has it names no actor, and is refused."""
    site = await serve(ACTORS)
    half = "🎉".encode("utf-16-be", "surrogatepass")[:2].decode("utf-16-be", "surrogatepass")
    query = {"getOrCreateForKey": {"name": "room", "key": ["a"], "input": half}}
    assert (await site.call(query, "echo", 1, params={half: half})).output == 1
    answer = await site.call(get_or_create("room", half), "echo", 1)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert "half of a surrogate pair" in answer.body["m"]


async def test_arguments_that_are_undefined(serve: Serve, wire: Wire) -> None:
    """JavaScript's `optional(undefined, "y")` and `optional(1, undefined)`: defaults apply."""
    undefined = b"null" if wire.name == "json" else b"\xf7"
    text = b'"y"' if wire.name == "json" else b"\x61y"
    site = await serve(ACTORS)
    for arguments, expected in (
        ([undefined, text], [5, "y"]),
        ([undefined, undefined], [5, "x"]),
        ([undefined], [5, "x"]),
    ):
        if wire.name == "json":
            body = b'{"a":[%s]}' % b",".join(arguments)
        else:
            body = b"\xa1\x61a" + bytes([0x80 + len(arguments)]) + b"".join(arguments)
        answer = await site.post("/registry/actors/actions/optional", site.headers(A), body)
        assert answer.output == expected
