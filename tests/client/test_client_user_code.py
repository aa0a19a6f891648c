"""Event handlers may raise anything: it is told once, and their connection goes on."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable

import pytest
from client_servers import Counter, Played, socket_server, three
from client_servers import connection_to_counter as connection
from client_worlds import eventually
from user_code_ends import Strange, raises, recurses

from rivet_ray.client import Client
from rivet_ray.client.handler_thread import HandlerThread
from rivet_ray.definition.user_code import UserCodeFailed

ENDS: dict[str, Callable[[], None]] = {
    "exit": lambda: sys.exit(3),
    "cancelled": raises(asyncio.CancelledError),
    "interrupt": raises(KeyboardInterrupt),
    "generator": raises(GeneratorExit),
    "strange": raises(Strange),
    "recursion": recurses,
}
each_end = pytest.mark.parametrize("end", ENDS)


@each_end
@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
async def test_a_handler_fails_alone(kind: str, end: str, caplog: pytest.LogCaptureFixture) -> None:
    problems: list[Exception] = []
    seen: list[int] = []

    def plain(number: int) -> None:
        ENDS[end]()

    async def asynchronous(number: int) -> None:
        await asyncio.sleep(0)
        ENDS[end]()

    async with (
        socket_server(Played(three)) as server,
        Client(server.url) as client,
        connection(client) as conn,
    ):
        conn.on("error", problems.append)
        conn.once(Counter.new_count, plain if kind == "plain" else asynchronous)
        conn.on(Counter.new_count, seen.append)
        async with asyncio.timeout(5):
            with caplog.at_level(logging.ERROR, "rivet_ray.client"):
                await conn.actor.increment(1)
                await eventually(lambda: bool(problems))
            await conn.actor.increment(2)
    assert seen == [0, 1, 2] * 2
    kinds = [type(problem) for problem in problems]
    assert kinds == [RecursionError if end == "recursion" else UserCodeFailed]
    told = [record for record in caplog.records if "failed" in record.getMessage()]
    assert len(told) == 1


@each_end
async def test_a_handler_of_the_connections_end_fails_alone(end: str) -> None:
    """`disconnected` is handed out while the connection ends: that is finished too."""
    async with socket_server(Played(three)) as server, Client(server.url) as client:
        conn = connection(client)
        seen: list[str] = []
        conn.on("disconnected", ENDS[end])
        conn.on("disconnected", lambda: seen.append("disconnected"))
        async with asyncio.timeout(5):
            await conn.actor.increment(1)
            await conn.dispose()
    assert seen == ["disconnected"]


async def test_what_makes_the_parameters_fails_alone() -> None:
    """As an exception of it does: the connection could not be opened, and says so."""
    async with socket_server(Played(three)) as server, Client(server.url) as client:
        counter = client.accessor("counter", Counter)
        conn = counter.get_or_create("k", params=ENDS["exit"]).connect()
        with pytest.raises(UserCodeFailed, match="SystemExit"):
            async with asyncio.timeout(5), conn:
                pass


@each_end
def test_a_handler_in_a_thread_fails_alone(end: str) -> None:
    """It used to end the thread, and no handler of the connection ran again."""
    failed: list[Exception] = []
    handled: list[int] = []
    handlers = HandlerThread("a connection", lambda event, error: failed.append(error), 1_000_000)
    handlers.put("ticked", ENDS[end], (), 0)
    handlers.put("ticked", handled.append, (1,), 0)
    handlers.close()
    assert handled == [1]
    kind = RecursionError if end == "recursion" else UserCodeFailed
    assert [type(error) for error in failed] == [kind]
