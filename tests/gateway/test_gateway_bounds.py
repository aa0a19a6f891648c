"""What a gateway holds for its clients is counted in bytes, whoever sends or does not read."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
from gateway_bounds_actors import Library
from gateway_room import Room, gate
from gateway_streams import statistics
from gateway_wire import Serve, eventually, get_or_create
from websockets.exceptions import ConnectionClosedError

from rivet_ray.gateway import GatewaySettings

LARGE = 200_000

ACTORS: dict[str, Any] = {"room": Room, "library": Library}
A, BOOKS = get_or_create("room", "a"), get_or_create("library")


async def test_a_client_that_does_not_read_gets_no_more_work(serve: Serve) -> None:
    """E1: 2,000 small requests for large answers filled the memory."""
    site = await serve(ACTORS, settings=GatewaySettings(max_queued_size=10 * LARGE))
    module = Library.__module__
    await site.take(module, "RUN")
    async with site.connect(BOOKS, max_queue=1) as socket, site.connect(A) as other:
        for number in range(150):
            await socket.call(number, "read", LARGE)
            assert await other.ask(0, "echo", "fine") == "fine"
        told = await statistics(site)
        assert told["heldBytes"] < 6 * LARGE, "a quarter of the bound, and what had started"
        # The buffers of the kernel take some, and those of a proxy.
        assert len(await site.take(module, "RUN")) < 120
        for number in range(150):
            assert len(await socket.answer(number)) == LARGE
        told = await statistics(site)
        assert told["refused"] == {}
        assert told["slowConsumers"] == 0


async def test_names_and_keys_of_actions_that_wait_are_counted(serve: Serve) -> None:
    """E2: a name of 60 KB counted for nothing."""
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        await socket.call(0, "wait_for", "first")
        await gate("first").wait()
        for number in range(1, 1_024):
            await socket.send({"ar": {"i": number, "n": "wait_for", "a": [f"{number}"]}})
        name, key = "n" * 60_000, "k" * 200
        for number in range(2_000, 2_400):
            await socket.send({"ar": {"i": number, "n": name, "a": [], "k": key}})
        refused = [(await socket.next())["e"] for _ in range(25)]
        assert {error["c"] for error in refused} == {"overloaded"}
        assert {error["oc"] for error in refused} == {"not_started"}
        assert min(error["ai"] for error in refused) >= 2_000
        assert (await statistics(site))["refused"]["connection"] >= 25
        for number in range(1, 1_024):
            gate(f"{number} may go on").set()
        gate("first may go on").set()


async def test_too_many_subscriptions_are_refused_alone(serve: Serve) -> None:
    """E3: any number was kept, and saved. The connection and what it has go on."""
    site = await serve(ACTORS)
    async with site.connect(A) as socket:
        for number in range(500):
            await socket.subscribe(f"{number}")
        await socket.subscribe("0", False)
        await socket.subscribe("said")
        await socket.call(7, "say", "hello")
        received = [await socket.next()]
        while "ar" not in received[-1] or not any("ev" in body for body in received):
            received.append(await socket.next())
        refused = [body["e"] for body in received if "e" in body]
        assert 10 < len(refused) < 100
        assert {error["c"] for error in refused} == {"too_many_subscriptions"}
        assert not any("ai" in error for error in refused)
        assert {"ev": {"n": "said", "a": ["hello"]}} in received
        assert (await statistics(site))["refused"] == {"subscriptions": len(refused)}


async def test_a_name_of_an_event_counts(serve: Serve) -> None:
    site = await serve(ACTORS, settings=GatewaySettings(max_subscriptions_size=10_000))
    async with site.connect(A) as socket:
        await socket.subscribe("x" * 10_000)
        assert (await socket.next())["e"]["c"] == "too_many_subscriptions"
        await socket.subscribe("x" * 5_000)
        assert await socket.ask(0, "echo", 1) == 1


async def test_a_long_request_counts_while_its_connection_is_open(serve: Serve) -> None:
    """E5: hooks may look at it later, so the gateway keeps it; it counted for no caller."""
    site = await serve(ACTORS, settings=GatewaySettings(max_held_size_per_caller=30_000))
    async with AsyncExitStack() as exits:
        site.forged = {"X-Long": "x" * 12_000}
        opened = 0

        async def open_many() -> None:
            nonlocal opened
            while opened < 10:
                await exits.enter_async_context(site.connect(A))
                opened += 1

        with pytest.raises(ConnectionClosedError, match="overloaded"):
            await open_many()
        assert opened >= 2
        site.forged = {}
        told = await statistics(site)
        assert told["heldBytes"] > 4_000 * opened
        assert told["refused"] == {"caller": 1}
        async with site.connect(A) as short:
            assert await short.ask(0, "echo", "short") == "short"

    async def nothing() -> bool:
        return bool((await statistics(site))["heldBytes"] == 0)

    await eventually(nothing)


async def test_an_answer_that_is_longer_than_what_may_wait(serve: Serve) -> None:
    """It fails alone: the connection and its other calls go on."""
    site = await serve(ACTORS, settings=GatewaySettings(max_queued_size=LARGE))
    async with site.connect(BOOKS) as socket:
        await socket.call(0, "read", LARGE)
        error = (await socket.next())["e"]
        assert (error["ai"], error["c"], error["oc"]) == (0, "message_too_long", "took_effect")
        assert "HTTP" in error["m"]
        assert await socket.ask(1, "read", 3) == "xxx"
    assert (await site.call(BOOKS, "read", LARGE)).output == "x" * LARGE

    async def nothing() -> bool:
        return bool((await statistics(site))["heldBytes"] == 0)

    await eventually(nothing)
