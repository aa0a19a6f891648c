"""Long answers over HTTP are held no longer than their clients take them (E1)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from gateway_bounds_actors import Library
from gateway_streams import statistics
from gateway_wire import Serve, Site, eventually, get_or_create

from rivet_ray.gateway import GatewaySettings

ACTORS: dict[str, Any] = {"library": Library}
BOOKS = get_or_create("library")
LONG = 10_000_000


async def asking(site: Site, length: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that asks for a long answer and does not read it."""
    host, _, port = site.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1_024)
    body = site.wire.dumps({"a": [length]})
    headers = {**site.headers(BOOKS), "Host": host, "Content-Length": str(len(body))}
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = ["POST /registry/actors/actions/read HTTP/1.1", *lines, "", ""]
    writer.write("\r\n".join(head).encode() + body)
    return reader, writer


async def holds(site: Site, least: int, most: int) -> None:
    async def does() -> bool:
        return least <= (await statistics(site))["heldBytes"] <= most

    await eventually(does)


@pytest.mark.parametrize("port", ["direct"])
async def test_what_is_not_taken_is_counted_and_given_up(serve: Serve) -> None:
    settings = GatewaySettings(answer_timeout=1.0)
    site = await serve(ACTORS, settings=settings)
    _, writer = await asking(site, LONG)
    await holds(site, LONG // 10, LONG)
    await holds(site, 0, 0)
    assert len((await site.call(BOOKS, "read", LONG)).output) == LONG
    writer.close()


@pytest.mark.parametrize("port", ["direct"])
async def test_a_caller_has_one_bound_for_all_answers(serve: Serve) -> None:
    """Beyond it the one is given up of which most waits, and the next is served."""
    settings = GatewaySettings(max_held_size_per_caller=2 * LONG)
    site = await serve(ACTORS, settings=settings)
    writers = [(await asking(site, LONG))[1] for _ in range(5)]
    await holds(site, LONG // 10, 2 * LONG)

    async def refused() -> bool:
        return (await statistics(site))["refused"].get("caller", 0) >= 1

    await eventually(refused)
    assert len((await site.call(BOOKS, "read", LONG)).output) == LONG
    answer = await site.call(BOOKS, "read", 3 * LONG)
    assert (answer.code, answer.outcome) == ("overloaded", "took_effect")
    for writer in writers:
        writer.close()
    assert json.dumps(await statistics(site))
