"""Events on connections: subscriptions and handlers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest
from client_servers import Counter, Peer, Played, Point, socket_server, three
from client_servers import connection_to_counter as connection
from client_worlds import eventually

from rivet_ray import errors
from rivet_ray.client import Client, ClientSettings, listeners
from rivet_ray.client.interface import UnexpectedValue
from rivet_ray.protocol import v0

both_encodings = pytest.mark.parametrize("encoding", ["json", "cbor"])


@both_encodings
async def test_events_arrive_in_order_and_before_the_answer(encoding: str) -> None:
    seen: list[Any] = []
    server_script = Played(three)
    async with (
        socket_server(server_script) as server,
        Client(server.url, encoding=encoding) as client,
        connection(client) as conn,
    ):
        conn.on(Counter.new_count, seen.append)
        conn.on("new_count", lambda number: seen.append(str(number)))
        await conn.actor.increment(1)
        seen.append("answer")
    assert seen == [0, "0", 1, "1", 2, "2", "answer"]
    assert server_script.seen == [("new_count", True), "increment"]


async def test_subscriptions_go_before_the_calls_that_waited() -> None:
    played = Played()
    async with socket_server(played) as server, Client(server.url) as client:
        conn = connection(client)
        calling = asyncio.ensure_future(conn.actor.increment(1))
        await asyncio.sleep(0)
        conn.on("b", print)
        conn.on("a", print)
        conn.on("b", str)
        conn.on("gone", print)()
        await calling
        await conn.dispose()
    assert played.seen == [("b", True), ("a", True), "increment"]


async def test_an_event_is_subscribed_once_and_ended_with_its_last_listener() -> None:
    played = Played()
    async with (
        socket_server(played) as server,
        Client(server.url) as client,
        connection(client) as conn,
    ):
        first = conn.on(Counter.new_count, print)
        second = conn.on(Counter.new_count, print)
        await conn.actor.increment(1)
        first()
        first()
        await conn.actor.increment(2)
        second()
        await conn.actor.increment(3)
        conn.on(Counter.new_count, print)
        await conn.actor.increment(4)
    on, off = ("new_count", True), ("new_count", False)
    assert played.seen == [on, "increment", "increment", off, "increment", on, "increment"]


async def test_life_cycle_events_are_not_subscribed() -> None:
    played = Played()
    seen: list[str] = []
    async with socket_server(played) as server, Client(server.url) as client:
        conn = connection(client)
        conn.once("connected", lambda: seen.append("connected"))
        conn.on("error", print)
        async with conn:
            conn.on("disconnected", lambda: seen.append("disconnected"))
            await conn.actor.increment(1)
            with pytest.raises(ValueError, match="life-cycle"):
                conn.events("error")
    assert played.seen == ["increment"]
    assert seen == ["connected", "disconnected"]


async def test_once_hears_one_event_and_ends_its_subscription() -> None:
    played = Played(three)
    seen: list[int] = []
    async with (
        socket_server(played) as server,
        Client(server.url) as client,
        connection(client) as conn,
    ):
        conn.once(Counter.new_count, seen.append)
        await conn.actor.increment(1)
        await conn.actor.increment(2)
    assert seen == [0]
    assert played.seen == [("new_count", True), "increment", ("new_count", False), "increment"]


async def test_off_removes_one_or_all() -> None:
    played = Played(three)
    seen: list[Any] = []

    def one(number: int) -> None:
        seen.append(("one", number))
        conn.off(Counter.new_count, two)

    def two(number: int) -> None:
        seen.append(("two", number))

    async with (
        socket_server(played) as server,
        Client(server.url) as client,
        connection(client) as conn,
    ):
        conn.on(Counter.new_count, one)
        conn.on(Counter.new_count, two)
        await conn.actor.increment(1)
        assert seen == [("one", 0), ("one", 1), ("one", 2)]
        conn.off(Counter.new_count)
        await conn.actor.increment(1)
        conn.on(Counter.moved, print)
        conn.on("new_count", two)
        conn.off()
        await conn.actor.increment(1)
    assert len(seen) == 3
    on, off = ("new_count", True), ("new_count", False)
    assert played.seen == [on, "increment", off, "increment", "increment"]


async def move(peer: Peer, request: v0.ActionRequest) -> None:
    await peer.event("moved", "me", {"x": 1, "y": 2})


@both_encodings
async def test_payloads_are_typed_by_reference(encoding: str) -> None:
    seen: list[Any] = []
    async with (
        socket_server(Played(move)) as server,
        Client(server.url, encoding=encoding) as client,
        connection(client) as conn,
    ):
        conn.on(Counter.moved, lambda name, point: seen.append((name, point)))
        conn.on("moved", lambda name, point: seen.append((name, point)))
        await conn.actor.increment(1)
    assert seen == [("me", Point(1, 2)), ("me", {"x": 1, "y": 2})]


async def test_a_handler_that_fails_is_told_and_the_reader_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problems: list[Any] = []
    seen: list[int] = []

    def broken(number: int) -> None:
        raise LookupError(number)

    async def broken_later(number: int) -> None:
        raise KeyError(number)

    def broken_error(error: Exception) -> None:
        problems.append(type(error))
        raise ValueError("error handlers may fail too")

    async with (
        socket_server(Played(three)) as server,
        Client(server.url) as client,
        connection(client) as conn,
    ):
        conn.on("error", broken_error)
        conn.once(Counter.new_count, broken)
        conn.once(Counter.new_count, broken_later)
        conn.on(Counter.new_count, seen.append)
        with caplog.at_level(logging.ERROR, "rivet_ray.client"):
            await conn.actor.increment(1)
            await asyncio.sleep(0.01)
    assert seen == [0, 1, 2]
    assert problems == [LookupError, KeyError]
    assert len(caplog.records) == 3, "the error handler fails twice in the same way"


async def test_what_a_server_can_cause_at_will_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each event that does not fit its handler used to write a traceback."""

    async def step(peer: Peer, request: v0.ActionRequest) -> None:
        for _ in range(50):
            await peer.event("new_count", "no number")
            await peer.send(v0.ErrorMessage("slow_consumer", "Too slow."))

    async with (
        socket_server(Played(step)) as server,
        Client(server.url) as client,
        connection(client) as conn,
    ):
        conn.on(Counter.new_count, print)
        await conn.actor.increment(1)
    mine = [record for record in caplog.records if record.name == "rivet_ray.client"]
    assert sorted(record.levelname for record in mine) == ["ERROR", "WARNING"]


async def test_an_event_of_another_type_is_told() -> None:
    async def step(peer: Peer, request: v0.ActionRequest) -> None:
        await peer.event("new_count", "many")

    problems: list[Exception] = []
    async with (
        socket_server(Played(step)) as server,
        Client(server.url) as client,
        connection(client) as conn,
    ):
        conn.on("error", problems.append)
        conn.on(Counter.new_count, print)
        stream = conn.events(Counter.new_count)
        await conn.actor.increment(1)
        with pytest.raises(UnexpectedValue, match=r"'new_count' does not carry \(int\)"):
            await anext(aiter(stream))
    assert [type(problem) for problem in problems] == [UnexpectedValue]


async def test_an_error_without_a_handler_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def step(peer: Peer, request: v0.ActionRequest) -> None:
        await peer.send(v0.ErrorMessage("slow_consumer", "Too slow."))

    async with (
        socket_server(Played(step)) as server,
        Client(server.url) as client,
        connection(client) as conn,
    ):
        await conn.actor.increment(1)
    assert "Too slow." in caplog.text


async def test_asynchronous_handlers_are_tasks_that_end_with_the_connection() -> None:
    started: list[int] = []
    ended: list[str] = []

    async def slow(number: int) -> None:
        started.append(number)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with (
        socket_server(Played(three)) as server,
        Client(server.url) as client,
        connection(client) as conn,
    ):
        conn.on(Counter.new_count, slow)
        await conn.actor.increment(1)
        await asyncio.sleep(0)
    assert started == [0, 1, 2]
    assert ended == ["cancelled"] * 3


async def test_asynchronous_handlers_that_run_are_bounded() -> None:
    """Each event used to start one more task, without an end (C6)."""
    go = asyncio.Event()
    handled: list[int] = []
    problems: list[Exception] = []

    async def slow(number: int, text: str) -> None:
        await go.wait()
        handled.append(number)

    async def step(peer: Peer, request: v0.ActionRequest) -> None:
        for number in range(50):
            await peer.event("told", number, "x" * 6_000)

    bounds = ClientSettings(max_unread_size=100_000)
    async with (
        socket_server(Played(step)) as server,
        Client(server.url, settings=bounds) as client,
        connection(client) as conn,
    ):
        conn.on("told", slow)
        conn.on("error", problems.append)
        await conn.actor.increment(1)
        assert conn.dropped_events == 41, "nine of 6 KB and 4 KiB more for each task"
        assert [type(problem) for problem in problems] == [errors.SlowConsumer]
        go.set()
        await eventually(lambda: len(handled) == 9)
        assert handled == [*range(9)]
        go.clear()
        await conn.actor.increment(1)
        assert conn.dropped_events == 82
        assert len(problems) == 2, "it is told again after they caught up"


async def test_a_handler_that_takes_no_notice_of_its_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It used to keep whoever closes the connection or the client for ever."""
    monkeypatch.setattr(listeners, "CANCEL_TIMEOUT", 0.05)
    go = asyncio.Event()
    ended: list[int] = []

    async def stubborn(number: int) -> None:
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()
        ended.append(number)

    async with socket_server(Played(three)) as server, Client(server.url) as client:
        async with asyncio.timeout(10), connection(client) as conn:
            conn.once(Counter.new_count, stubborn)
            await conn.actor.increment(1)
            await asyncio.sleep(0)
        assert "handler of new_count still runs" in caplog.text
        go.set()
        await eventually(lambda: ended == [0])


async def test_a_handler_may_dispose_its_connection() -> None:
    disposed = asyncio.Event()
    async with socket_server(Played(three)) as server, Client(server.url) as client:
        conn = connection(client)

        async def dispose(number: int) -> None:
            await conn.dispose()
            disposed.set()

        conn.once(Counter.new_count, dispose)
        # Its answer follows the events, and may still be read before the handler runs.
        await asyncio.gather(conn.actor.increment(1), return_exceptions=True)
        await disposed.wait()
        with pytest.raises(errors.ConnectionClosed):
            await conn.actor.increment(1)
