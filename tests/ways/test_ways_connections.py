"""Connections over every way: params, calls, events, and their end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ways import CONNECTING, World, eventually, over
from ways_actors import Point, Porter, Room

from rivet_ray import UserError, repeated_lines
from rivet_ray.errors import (
    ActionNotFound,
    ActorNotFound,
    ConnectionClosed,
    InternalError,
    PublicError,
)
from rivet_ray.protocol.values import MOST_LEVELS

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.parametrize("way", over(CONNECTING), indirect=True),
]


async def test_init(world: World, key: str) -> None:
    room = world.app.room.get_or_create(key)
    async with room.connect(params="ann") as ann, room.connect(params="bob") as bob:
        assert ann.actor_id == bob.actor_id == await world.client.get("room", key).resolve()
        assert ann.connection_id != bob.connection_id
        assert await ann.actor.me() == (ann.connection_id, "ann")
        assert await bob.actor.me() == (bob.connection_id, "bob")
        assert await ann.actor.present() == ["ann", "bob"]


async def test_params(world: World, key: str) -> None:
    """Those of the connection come before those of its handle; both may be missing."""
    handle = world.app.room.get_or_create(key, params="of the handle")
    for given, expected in ((None, "of the handle"), ("é \U0001f600", "é \U0001f600"), ("", "")):
        async with handle.connect(params=given) as connection:
            assert (await connection.actor.me())[1] == expected
    async with world.app.room.get_or_create(key).connect() as connection:
        assert (await connection.actor.me())[1] is None


async def test_params_that_do_not_fit(world: World, key: str) -> None:
    with pytest.raises(PublicError) as caught:
        async with world.client.actor("room", key).connect(params={"no": "text"}):
            pass
    assert caught.value.code == "invalid_params"


async def test_an_actor_that_is_not_there(world: World, key: str) -> None:
    with pytest.raises(ActorNotFound):
        async with world.app.room.get(key).connect():
            pass


async def test_errors_leave_the_connection_open(world: World, key: str) -> None:
    async with world.client.actor("room", key).connect() as connection:
        with pytest.raises(UserError) as caught:
            await connection.actor.call("fail")
        assert (caught.value.code, caught.value.metadata) == ("wished", [1])
        with pytest.raises(ActionNotFound):
            await connection.actor.call("nope")
        found = await asyncio.gather(
            *(connection.actor.call("say", "x" * number) for number in range(30))
        )
        assert found == list(range(30))
        assert (await connection.actor.call("me"))[0] == connection.connection_id


# --- Events -----------------------------------------------------------------------------


async def test_subscribe_and_unsubscribe(world: World, key: str) -> None:
    async with world.app.room.get_or_create(key).connect() as connection:
        seen: list[str] = []
        marks: list[None] = []
        room = connection.actor
        await room.say("before anybody listens")
        connection.on(Room.done, lambda: marks.append(None))
        stop = connection.on(Room.said, seen.append)
        assert await room.say("one") == 3
        await room.say("two")
        await eventually(lambda: seen == ["one", "two"])
        stop()
        await room.say("unheard")
        await room.finish()
        await eventually(lambda: len(marks) == 1)  # events come in order
        connection.once(Room.said, seen.append)
        await room.say("three")
        await room.say("unheard")
        await room.finish()
        await eventually(lambda: len(marks) == 2)
        assert seen == ["one", "two", "three"]


async def test_events_with_several_values(world: World, key: str) -> None:
    async with world.app.room.get_or_create(key).connect() as connection:
        moved: list[Any] = []
        connection.on(Room.moved, lambda name, point: moved.append((name, point)))
        plain: list[Any] = []
        connection.on("moved", lambda *values: plain.append(values))
        await connection.actor.move("é", Point(1, 2.5, None))
        await eventually(lambda: moved and plain)
        assert moved == [("é", Point(1, 2.5, None))]
        assert plain == [("é", {"x": 1, "y": 2.5, "label": None})]


async def test_events_are_in_order(world: World, key: str) -> None:
    async with world.app.room.get_or_create(key).connect() as connection:
        events = connection.events(Room.said)
        said = [f"line {number}" for number in range(50)]
        for text in said:
            await connection.actor.say(text)
        found: list[str] = []
        async with asyncio.timeout(20):
            async for text in events:
                found.append(text)
                if len(found) == len(said):
                    break
        assert found == said


async def test_a_broadcast_reaches_those_who_listen(world: World, key: str) -> None:
    room = world.app.room.get_or_create(key)
    heard: dict[str, list[str]] = {name: [] for name in ("ann", "bob", "cid")}
    async with (
        room.connect(params="ann") as ann,
        room.connect(params="bob") as bob,
        room.connect(params="cid") as cid,
    ):
        ann.on(Room.said, heard["ann"].append)
        bob.on(Room.said, heard["bob"].append)
        await asyncio.gather(*(one.actor.me() for one in (ann, bob)))  # they have subscribed
        await room.say("by a call")
        await cid.actor.say("by a connection")
        expected = ["by a call", "by a connection"]
        await eventually(lambda: heard["ann"] == heard["bob"] == expected)
        # What is sent to a connection reaches it whether it subscribed or not; and alone.
        await room.whisper("bob", "psst")
        await eventually(lambda: heard["bob"] == [*expected, "psst"])
        await ann.actor.say("last")
        await eventually(lambda: heard["ann"] == [*expected, "last"])
        await eventually(lambda: heard["bob"] == [*expected, "psst", "last"])
        assert heard["cid"] == []


async def entered(connection: Any) -> None:
    await connection


async def test_what_is_sent_before_the_client_is_in(world: World, key: str) -> None:
    """By `on_connect`, and by other actions while it runs: all arrives, in order (C1)."""
    porter = world.app.porter.get_or_create(key)
    first: list[Any] = []
    ann = porter.connect(params="ann")
    ann.on(Porter.greeted, lambda *values: first.append(values))
    async with ann:
        await eventually(lambda: len(first) == 2)
        assert first == [("ann", "first"), ("ann", "second")]
        slow: list[Any] = []
        late = porter.connect(params="slow")
        late.on(Porter.greeted, lambda *values: slow.append(values))
        opening = asyncio.ensure_future(entered(late))

        async def waits() -> bool:
            return await porter.waits()

        await eventually(waits)
        await porter.greet_all()
        await ann.actor.greet_all()
        await porter.let_in()
        await opening
        async with late:
            await eventually(lambda: len(slow) == 4)
            assert slow == [("slow", text) for text in ("first", *("meanwhile",) * 2, "second")]


async def test_what_is_nested_too_deep_is_not_sent(
    world: World, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails where it is given, the log names the depth, and nobody loses the connection."""
    handle = world.client.actor("porter", key)
    async with handle.connect(params="ann") as ann:
        seen: list[Any] = []
        ended: list[None] = []
        ann.on("deepened", lambda *values: seen.append(values))
        ann.on("disconnected", lambda: ended.append(None))
        assert await ann.actor.call("waits") is False  # it has subscribed
        for alone in (True, False):
            with pytest.raises(InternalError):
                await handle.call("greet_deep", 150, alone)
            _names_the_depth(world, caplog)
        for caller in (handle, ann.actor):
            with pytest.raises(InternalError):
                await caller.call("deep", 150)
            _names_the_depth(world, caplog)
            assert await caller.call("deep", 95) is not None
        seen.clear()
        await handle.call("greet_deep", 94, False)
        await eventually(lambda: len(seen) == 1)
        assert ended == []


def _names_the_depth(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Where the log can be read: other servers are processes of their own."""
    if world.way.transport == "inline":
        assert f"nested deeper than {MOST_LEVELS} levels" in caplog.text
        caplog.clear()
        repeated_lines.forget()


# --- The end ----------------------------------------------------------------------------


async def test_who_leaves_is_noticed(world: World, key: str) -> None:
    room = world.app.room.get_or_create(key)
    async with room.connect(params="ann") as ann:
        async with room.connect(params="bob"):
            assert await ann.actor.present() == ["ann", "bob"]

        async def bob_is_gone() -> bool:
            return await ann.actor.gone() == ["bob"]

        await eventually(bob_is_gone)
        assert await ann.actor.present() == ["ann"]

    async def both_are_gone() -> bool:
        return await room.gone() == ["bob", "ann"]

    await eventually(both_are_gone)
    assert await room.present() == []
    with pytest.raises(ConnectionClosed):
        await ann.actor.present()


async def test_the_actor_turns_somebody_out(world: World, key: str) -> None:
    room = world.app.room.get_or_create(key)
    async with room.connect(params="ann") as ann, room.connect(params="bob") as bob:
        ended: list[str] = []
        ann.on("disconnected", lambda: ended.append("ann"))
        bob.on("disconnected", lambda: ended.append("bob"))
        await room.turn_out("ann")
        await eventually(lambda: ended == ["ann"])
        with pytest.raises(ConnectionClosed):
            await ann.actor.present()

        async def gone() -> bool:
            return await room.gone() == ["ann"]

        await eventually(gone)
        assert await bob.actor.present() == ["bob"]
        assert ended == ["ann"]
