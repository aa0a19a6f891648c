"""WebSockets of the documented dialect: set-up, messages, events."""

from __future__ import annotations

import asyncio
import base64
import math
import uuid
from typing import Any

import pytest
from gateway_room import Room, gate
from gateway_wire import (
    HIDDEN,
    Serve,
    by_id,
    create,
    get,
    get_or_create,
)

from rivet_ray import Event, UserError, action
from rivet_ray.gateway import GatewaySettings


class Hall(Room):
    """A room with what cannot be told."""

    count = Event[int](name="theCount")

    @action
    def announce(self, count: int) -> None:
        self.broadcast(Hall.count, count)

    @action
    def announce_nonsense(self) -> str:
        self.broadcast("theCount", math.nan)
        return "announced"

    @action
    def untold(self) -> None:
        raise UserError("Cannot be told.", code="untold", metadata=math.nan)

    @action
    def half_a_letter(self) -> None:
        raise UserError("Half a letter: \ud83d")

    @action
    def not_finite(self) -> float:
        return math.nan


ACTORS = {"room": Hall}
A = get_or_create("room", "a")


# --- Opening ----------------------------------------------------------------------


@pytest.mark.parametrize("mount", ["", "/registry"])
async def test_the_upgrade(serve: Serve, mount: str) -> None:
    site = await serve(ACTORS)
    async with site.connecting(A, mount=mount) as socket:
        assert socket.connection.subprotocol == "rivetkit", "the query stays out of the response"
        await socket.init()
        assert await socket.ask(0, "echo", 1) == 1


async def test_no_deflate_though_the_client_offers_it(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A, compression="deflate") as socket:
        assert socket.connection.request is not None
        assert "permessage-deflate" in socket.connection.request.headers["Sec-WebSocket-Extensions"]
        assert socket.connection.response is not None
        assert "Sec-WebSocket-Extensions" not in socket.connection.response.headers
        assert await socket.ask(0, "echo", "x" * 50_000) == "x" * 50_000


async def test_init_comes_first(serve: Serve) -> None:
    """A.2: actor id, UUIDv4, base64 of 32 random bytes."""
    site = await serve(ACTORS)
    seen: set[str] = set()
    for _ in range(2):
        async with site.connecting(get_or_create("room", "é")) as socket:
            await socket.call(0, "me")
            init = await socket.init()
            assert set(init) == {"ai", "ci", "ct"}
            assert init["ai"] == (await site.resolve(get("room", "é"))).body["i"]
            assert uuid.UUID(init["ci"]).version == 4
            assert str(uuid.UUID(init["ci"])) == init["ci"]
            assert len(base64.b64decode(init["ct"], validate=True)) == 32
            seen |= {init["ci"], init["ct"]}
            assert await socket.answer(0) == init["ci"], "conn.id is what the client was told"
    assert len(seen) == 4


async def test_every_form_of_query(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connecting(create("room", "a", input=None, params={})) as socket:
        actor = (await socket.init())["ai"]
    for query in (get("room", "a"), A, by_id(actor)):
        async with site.connecting(query) as socket:
            assert (await socket.init())["ai"] == actor
    async with site.connecting(create("room", "a")) as socket:
        code, reason, before = await socket.closed()
        assert (code, reason) == (1011, "actor_already_exists")
        assert [set(body) for body in before] == [{"e"}]


# --- Actions ----------------------------------------------------------------------


async def test_answers_come_when_they_are_ready(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        await socket.call(0, "wait_for", "slow")
        await socket.call(1, "echo", "fast")
        assert await socket.answer(1) == "fast"
        gate("slow may go on").set()
        assert await socket.answer(0) == "slow"


async def test_nothing_and_null(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        await socket.call(0, "nothing")
        assert await socket.next() == {"ar": {"i": 0}}
        await socket.call(1, "echo", None)
        assert await socket.next() == {"ar": {"i": 1, "o": None}}


async def test_an_error_on_action_0_is_about_that_action(serve: Serve) -> None:
    """Not so in the original, A.7: `ai: 0` must be there for clients that look."""
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        await socket.call(7, "wait_for", "other")
        await socket.call(0, "fail")
        body = await socket.next()
        assert set(body) == {"e"}
        error = body["e"]
        assert error["ai"] == 0
        assert {name: error[name] for name in ("c", "m", "md")} == {
            "c": "wished",
            "m": "As you wish.",
            "md": [1],
        }
        gate("other may go on").set()
        assert await socket.answer(7) == "other"
        assert await socket.ask(1, "echo", 5) == 5


async def test_every_error_names_its_action_and_outcome(serve: Serve) -> None:
    """C8, and ADR 17: the outcome is the extra member `oc`."""
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        for number, (name, args, code, outcome) in enumerate(
            [
                ("unknown", [], "action_not_found", "not_started"),
                ("_secret", [], "action_not_found", "not_started"),
                ("say", [1], "user_error", "not_started"),
                ("say", [], "user_error", "not_started"),
                ("fail", [], "wished", "took_effect"),
                ("boom", [], "internal_error", "took_effect"),
            ]
        ):
            await socket.call(number, name, *args)
            error = (await socket.next())["e"]
            assert (error["ai"], error["c"], error["oc"]) == (number, code, outcome)
            if code == "internal_error":
                assert (error["m"], error["md"]) == (HIDDEN, {})


@pytest.mark.parametrize("name", ["not_finite", "untold", "half_a_letter"])
async def test_an_answer_without_a_wire_form_still_answers_its_action(
    serve: Serve, name: str
) -> None:
    """Otherwise the caller waits for ever, and an `e` without `ai` ends the others too."""
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        await socket.call(3, name)
        error = (await socket.next())["e"]
        assert error.get("ai") == 3
        assert error["c"] in ("internal_error", "untold", "user_error")
        assert error.get("oc") in ("took_effect", "unknown")
        assert await socket.ask(4, "echo", 1) == 1


async def test_many_actions_in_flight(serve: Serve) -> None:
    site = await serve(ACTORS, settings=GatewaySettings(max_in_flight=20))
    async with site.connect(A) as socket:
        for number in range(200):
            await socket.call(number, "echo", number)
        answers = [(await socket.next())["ar"] for _ in range(200)]
        assert answers == [{"i": number, "o": number} for number in range(200)]


# --- Events -----------------------------------------------------------------------


async def test_subscribe_event_unsubscribe(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        await socket.call(0, "announce", 1)
        assert await socket.next() == {"ar": {"i": 0}}, "not subscribed yet"
        await socket.subscribe("theCount")
        await socket.subscribe("theCount")
        await socket.call(1, "announce", 2)
        received = [await socket.next(), await socket.next()]
        assert {"ev": {"n": "theCount", "a": [2]}} in received
        assert {"ar": {"i": 1}} in received
        await socket.subscribe("said")
        await socket.subscribe("theCount", False)
        await socket.call(2, "announce", 3)
        assert await socket.next() == {"ar": {"i": 2}}
        await socket.quiet()


async def test_an_event_of_an_http_action(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        await socket.subscribe("said")
        await socket.ask(0, "echo", 0)
        assert (await site.call(A, "say", "hello")).output == 1
        assert await socket.next() == {"ev": {"n": "said", "a": ["hello"]}}
        assert (await site.call(get_or_create("room", "b"), "say", "elsewhere")).output == 1
        await socket.quiet()


async def test_two_sockets_in_one_room(serve: Serve) -> None:
    """C5: each receives everything, once, in one order."""
    site = await serve(ACTORS)
    each = 100
    async with site.connect(A) as left, site.connect(A) as right:
        sockets = (left, right)
        for socket in sockets:
            await socket.subscribe("said")
            assert await socket.ask(9_999, "echo", "subscribed") == "subscribed"

        async def talk(socket: Any, name: str) -> None:
            for number in range(each):
                await socket.call(number, "say", f"{name} {number}")

        async def listen(socket: Any) -> tuple[list[str], list[int]]:
            events: list[str] = []
            answers: list[int] = []
            while len(events) < 2 * each or len(answers) < each:
                body = await socket.next()
                if "ev" in body:
                    events.append(body["ev"]["a"][0])
                else:
                    answers.append(body["ar"]["i"])
            return events, answers

        *_, heard_left, heard_right = await asyncio.gather(
            talk(left, "left"), talk(right, "right"), listen(left), listen(right)
        )
    assert heard_left[0] == heard_right[0]
    assert heard_left[1] == heard_right[1] == list(range(each))
    for name in ("left", "right"):
        mine = [line for line in heard_left[0] if line.startswith(name)]
        assert mine == [f"{name} {number}" for number in range(each)]


async def test_send_reaches_one_connection_without_subscription(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A) as socket, site.connect(A) as other:
        await socket.call(0, "whisper", "psst")
        received = [await socket.next(), await socket.next()]
        assert {"ev": {"n": "whispered", "a": ["psst", 1, None]}} in received
        assert {"ar": {"i": 0}} in received
        await other.quiet()
    assert (await site.call(A, "whisper", "to nobody")).body == {}


async def test_an_event_without_a_wire_form_harms_nobody(serve: Serve) -> None:
    """The action may fail; what else waits at the actor's gate must still leave."""
    site = await serve(ACTORS)
    async with site.connect(A) as socket, site.connect(A) as other:
        for each in (socket, other):
            await each.subscribe("theCount")
            await each.subscribe("said")
            await each.ask(0, "echo", 0)
        await socket.call(1, "announce_nonsense")
        await socket.call(2, "say", "after")
        answers: dict[int, str] = {}
        events: list[Any] = []
        while set(answers) != {1, 2} or not events:
            body = await socket.next()
            ((kind, value),) = body.items()
            if kind == "ev":
                events.append(value)
            else:
                assert value.get("i", value.get("ai")) is not None, body
                answers[value.get("i", value.get("ai"))] = kind
        assert answers[2] == "ar"
        assert events == [{"n": "said", "a": ["after"]}]
        assert await other.next() == {"ev": {"n": "said", "a": ["after"]}}
