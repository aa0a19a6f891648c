"""A client in a second `asyncio.run`, in two loops at once, and what a notebook meets."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from typing import Literal

import pytest
from threaded_server import threaded_server

from rivet_ray import Actor, Registry, action, use


class Counter(Actor[None]):
    public = True

    @action
    def increment(self, amount: int) -> int:
        return amount


class App(Registry):
    counter = use(Counter)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_a_second_run(transport: Literal["websocket", "sse"]) -> None:
    """The sockets of a loop that has ended are left behind."""
    with threaded_server(App.create_server(store="memory://").handler) as url:
        client = App.client(url, transport=transport)
        handle = client.counter.get_or_create("k")

        async def work(amount: int) -> int:
            async with handle.connect() as connection:
                assert await connection.actor.increment(amount) == amount
            return await handle.increment(amount)

        assert asyncio.run(work(1)) == 1
        assert asyncio.run(work(2)) == 2

        async def last() -> None:
            assert await work(3) == 3
            await client.aclose()

        asyncio.run(last())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()  # what the first loops left behind


def test_two_loops_at_once() -> None:
    with threaded_server(App.create_server(store="memory://").handler) as url:

        async def first() -> None:
            async with App.client(url) as client:
                handle = client.counter.get_or_create("k")
                assert await handle.increment(1) == 1
                found: list[BaseException] = []

                def second() -> None:
                    with pytest.raises(RuntimeError) as caught:
                        asyncio.run(handle.increment(2))
                    found.append(caught.value)

                thread = threading.Thread(target=second)
                thread.start()
                await asyncio.to_thread(thread.join)
                assert "another event loop" in str(found[0])
                assert await handle.increment(3) == 3

        asyncio.run(first())


def test_run_server_in_a_notebook() -> None:
    async def cell() -> None:
        App.run_server(port=0, store="memory://")

    with pytest.raises(RuntimeError, match="already runs an event loop, as notebooks do"):
        asyncio.run(cell())
