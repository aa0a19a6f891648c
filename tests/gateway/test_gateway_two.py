"""A stream on one gateway, its messages on another: one host behind both."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from gateway_pair import pair
from gateway_room import Room, gate
from gateway_streams import Stream, streaming
from gateway_wire import Answer, Wire, eventually, get_or_create

from rivet_ray import Event, action
from rivet_ray.gateway import GatewaySettings
from rivet_ray.protocol.port import CALL_OVERHEAD
from rivet_ray.runtime import connection as runtime_connection


class Counter(Room):
    counted = Event[int]()

    @action
    def increment(self) -> int:
        self.state.lines.append("one more")
        self.broadcast(Counter.counted, len(self.state.lines))
        return len(self.state.lines)

    @action(readonly=True)
    def read(self) -> int:
        return len(self.state.lines)


ACTORS = {"counter": Counter}
A = get_or_create("counter", "a")


def increment(stream: Stream, number: int = 0, **more: Any) -> bytes:
    return stream.wire.dumps({"b": {"ar": {"i": number, "n": "increment", "a": [], **more}}})


async def test_actions_and_events(wire: Wire) -> None:
    async with pair(wire, ACTORS) as both, streaming(both.one, A) as stream:
        other = both.two
        assert await stream.ask(0, "increment", through=other) == 1
        await stream.subscribe("counted", through=other)
        await stream.call(1, "increment", through=other)
        received = [await stream.next() for _ in range(2)]
        assert {"ar": {"i": 1, "o": 2}} in received
        assert {"ev": {"n": "counted", "a": [2]}} in received
        await stream.subscribe("counted", False, through=other)
        assert await stream.ask(2, "increment", through=other) == 3
        assert await stream.ask(3, "increment") == 4


async def test_many_through_both_at_once(wire: Wire) -> None:
    async with pair(wire, ACTORS) as both, streaming(both.one, A) as stream:
        await stream.subscribe("counted", through=both.two)
        sites = (both.one, both.two)
        await asyncio.gather(
            *(stream.call(number, "increment", through=sites[number % 2]) for number in range(200))
        )
        received = [await stream.next() for _ in range(400)]
        events = [body["ev"]["a"][0] for body in received if "ev" in body]
        answers = {body["ar"]["i"]: body["ar"]["o"] for body in received if "ar" in body}
        assert events == list(range(1, 201))
        assert set(answers) == set(range(200))
        assert sorted(answers.values()) == list(range(1, 201))


async def test_one_after_another_they_keep_their_order(wire: Wire) -> None:
    async with pair(wire, ACTORS) as both, streaming(both.one, A) as stream:
        for number in range(40):
            await stream.call(number, "increment", through=(both.one, both.two)[number % 2])
        assert [await stream.answer(number) for number in range(40)] == list(range(1, 41))


async def test_refusals(wire: Wire) -> None:
    async with pair(wire, ACTORS) as both, streaming(both.one, A) as stream:

        async def refused(body: bytes, code: str, **changed: str | None) -> None:
            headers = stream.headers_of_message(**changed)
            answer = await stream.post(body, headers, through=both.two)
            assert (answer.status, answer.code, answer.outcome) == (400, code, "not_started")

        body = increment(stream)
        await refused(body, "incorrect_conn_token", conn_token=stream.init_message["ct"][:-1])
        await refused(body, "incorrect_conn_token", conn_token="")
        # Nobody learns from a refusal whether there is such an actor or connection.
        await refused(body, "incorrect_conn_token", conn=str(uuid.uuid4()))
        await refused(body, "incorrect_conn_token", actor="0123456789abcdef")
        other = (await both.two.resolve(get_or_create("counter", "b"))).body["i"]
        await refused(body, "incorrect_conn_token", actor=other)
        await refused(b"?", "malformed_message")
        await refused(increment(stream) + b" " * 70_000, "message_too_long")
        assert await stream.ask(9, "increment", through=both.two) == 1
        identity = stream.init_message["ci"]
        stream.abort()

        async def left() -> bool:
            members = (await both.two.call(A, "members")).output
            return identity not in members

        await eventually(left)
        await refused(body, "conn_not_found")


async def test_a_made_up_actor_reaches_no_host(wire: Wire) -> None:
    """Where each actor has a host of its own, asking for it would start one."""
    async with pair(wire, ACTORS) as both, streaming(both.one, A) as stream:
        headers = stream.headers_of_message(actor="0123456789abcdef")
        answer = await stream.post(increment(stream), headers, through=both.two)
        assert answer.code == "incorrect_conn_token"
        assert not both.second.calls.connected
        assert await stream.ask(0, "increment", through=both.two) == 1
        assert both.second.calls.connected


async def test_limits_are_those_of_the_connection(wire: Wire) -> None:
    """Which gateway a message came through makes no difference."""
    settings = GatewaySettings(max_in_flight=1, max_waiting_size=3 * CALL_OVERHEAD)
    async with pair(wire, ACTORS, settings) as both, streaming(both.one, A) as stream:
        await stream.call(0, "wait_for", "first", through=both.two)
        await gate("first").wait()
        for number in range(1, 6):
            await stream.call(number, "echo", 1, through=(both.one, both.two)[number % 2])
        refused = [await stream.next() for _ in range(4)]
        gate("first may go on").set()
        assert {item["e"]["c"] for item in refused} == {"overloaded"}
        assert {item["e"]["oc"] for item in refused} == {"not_started"}
        assert {(await stream.next())["ar"]["i"] for _ in range(2)} == {0, 1}


async def test_an_idempotency_key_through_both(wire: Wire) -> None:
    """C4."""
    async with pair(wire, ACTORS) as both, streaming(both.one, A) as stream:
        for number, site in enumerate((both.one, both.two, both.one)):
            answer = await stream.post(increment(stream, number, k="key"), through=site)
            assert answer.raw == b"{}"
            assert await stream.answer(number) == 1


async def finished(asking: asyncio.Task[Answer]) -> Answer:
    return await asyncio.wait_for(asking, 10.0)


async def test_it_waits_while_the_stream_s_gateway_comes_back(wire: Wire) -> None:
    async with pair(wire, ACTORS) as both, streaming(both.one, A) as stream:
        assert await stream.ask(0, "increment") == 1
        both.first.cut(back=False)

        async def noticed() -> bool:
            return not both.first.calls.connected

        await eventually(noticed)
        asking = asyncio.ensure_future(stream.post(increment(stream, 1), through=both.two))
        # Through its own gateway it is taken at once, and waits there.
        assert (await stream.post(increment(stream, 2))).raw == b"{}"
        assert (await both.two.call(A, "read")).output == 1
        assert not asking.done()
        both.first.may_connect = True
        assert (await finished(asking)).raw == b"{}"
        assert {(await stream.next())["ar"]["i"] for _ in range(2)} == {1, 2}
        assert (await both.two.call(A, "read")).output == 3


async def test_it_does_not_wait_for_ever(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detached is not found: nothing was started, and the client may say it again."""
    monkeypatch.setattr(runtime_connection, "RESUME_PATIENCE", 0.1)
    async with pair(wire, ACTORS) as both, streaming(both.one, A) as stream:
        both.first.cut(back=False)

        async def noticed() -> bool:
            return not both.first.calls.connected

        await eventually(noticed)
        answer = await stream.post(increment(stream), through=both.two)
        assert (answer.code, answer.outcome) == ("conn_not_found", "not_started")
        both.first.may_connect = True


async def test_it_waits_while_its_own_gateway_comes_back(wire: Wire) -> None:
    async with pair(wire, ACTORS) as both, streaming(both.one, A) as stream:
        assert await stream.ask(0, "increment", through=both.two) == 1
        both.second.cut(back=False)

        async def noticed() -> bool:
            return not both.second.calls.connected

        await eventually(noticed)
        asking = asyncio.ensure_future(stream.post(increment(stream, 1), through=both.two))
        assert await stream.ask(2, "read") == 1
        assert not asking.done()
        both.second.may_connect = True
        assert (await finished(asking)).raw == b"{}"
        assert await stream.answer(1) == 2
