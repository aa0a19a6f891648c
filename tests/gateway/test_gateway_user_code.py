"""User code that ends more than its own call would: a typed failure, and everybody else goes on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from gateway_wire import HIDDEN, OUTCOME, Serve, get_or_create
from starlette.requests import Request

from rivet_ray import Actor, action


def _cancelled() -> None:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gone.cancel()
    gone.result()


def _interrupt() -> None:
    raise KeyboardInterrupt


ENDS: dict[str, Callable[[], Any]] = {
    "exit": lambda: sys.exit(3),
    "cancelled": _cancelled,
    "interrupt": _interrupt,
}


@dataclass
class Count:
    count: int = 0


@dataclass
class Picky:
    end: str = ""

    def __post_init__(self) -> None:
        if self.end == "zero":
            raise ZeroDivisionError
        if self.end:
            ENDS[self.end]()


class Reckless(Actor[Count]):
    public = True

    def create_state(self, input: Picky | None) -> Count:
        return Count()

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    def now(self, end: str) -> None:
        ENDS[end]()

    @action
    async def later(self, end: str) -> None:
        await asyncio.sleep(0)
        ENDS[end]()

    @action
    async def in_a_task(self, end: str) -> None:
        async def work() -> None:
            ENDS[end]()

        await asyncio.create_task(work())

    @action
    def take(self, value: Picky) -> str:
        return value.end

    async def on_fetch(self, request: Request) -> Any:
        end = request.query_params["end"]
        if request.url.path == "/application":

            async def application(scope: Any, receive: Any, send: Any) -> None:
                ENDS[end]()

            return application
        return ENDS[end]()


class Guarded(Actor[Count, None, Picky | None]):
    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: Any) -> Any:
        how = dict(request.headers).get("x-end")
        if how is None:
            return None
        place, _, end = how.partition(" ")
        if place == "now":
            ENDS[end]()

        async def later() -> None:
            await asyncio.sleep(0)
            ENDS[end]()

        return asyncio.ensure_future(later()) if place == "task" else later()

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count


@pytest.mark.parametrize("how", ["now", "later", "in_a_task"])
@pytest.mark.parametrize("end", ENDS)
async def test_an_action_over_http(serve: Serve, how: str, end: str) -> None:
    site = await serve({"reckless": Reckless})
    query = get_or_create("reckless", "k")
    found = await site.call(query, how, end)
    assert (found.status, found.code, found.body["m"]) == (500, "internal_error", HIDDEN)
    assert found.outcome == "took_effect"
    assert (await site.call(query, "add")).output == 1
    assert (await site.call(get_or_create("reckless", "other"), "add")).output == 1


@pytest.mark.parametrize("how", ["now", "later", "in_a_task"])
@pytest.mark.parametrize("end", ENDS)
async def test_an_action_on_a_connection(serve: Serve, how: str, end: str) -> None:
    """The connection stays, and its other calls are answered."""
    site = await serve({"reckless": Reckless})
    async with site.connect(get_or_create("reckless", "k")) as socket:
        await socket.call(1, how, end)
        await socket.call(2, "add")
        found = {}
        for _ in range(2):
            body = await socket.next()
            [(kind, message)] = body.items()
            found[kind] = message
        assert found["e"]["ai"] == 1
        assert found["e"]["c"] == "internal_error"
        assert found["ar"] == {"i": 2, "o": 1}


@pytest.mark.parametrize("end", ["zero", *ENDS])
async def test_an_argument_whose_type_fails(serve: Serve, end: str) -> None:
    """First on a cold actor, with others behind it."""
    site = await serve({"reckless": Reckless})
    query = get_or_create("reckless", "k")
    async with site.crowd(4) as (bad, *others):
        found, *outputs = await asyncio.gather(
            bad.call(query, "take", {"end": end}), *(other.call(query, "add") for other in others)
        )
    assert (found.code, found.outcome) == ("internal_error", "not_started")
    assert sorted(answer.output for answer in outputs) == [1, 2, 3]


@pytest.mark.parametrize("end", ["zero", *ENDS])
async def test_parameters_whose_type_fails(serve: Serve, end: str) -> None:
    site = await serve({"guarded": Guarded})
    query = get_or_create("guarded", "k")
    found = await site.call(query, "add", params={"end": end})
    assert (found.code, found.outcome) == ("internal_error", "not_started")
    async with site.connecting(query, {"end": end}) as socket:
        code, reason, _ = await socket.closed()
        assert (code, reason) == (1011, "internal_error")
    assert (await site.call(query, "add")).output == 1


@pytest.mark.parametrize("place", ["now", "later", "task"])
@pytest.mark.parametrize("end", ENDS)
async def test_on_auth(serve: Serve, place: str, end: str) -> None:
    site = await serve({"guarded": Guarded})
    query = get_or_create("guarded", "k")
    site.forged = {"x-end": f"{place} {end}"}
    found = await site.call(query, "add")
    assert (found.code, found.outcome) == ("internal_error", "not_started")
    async with site.connecting(query) as socket:
        code, reason, _ = await socket.closed()
        assert (code, reason) == (1011, "internal_error")
    site.forged = {}
    assert (await site.call(query, "add")).output == 1


@pytest.mark.parametrize("path", ["", "application"])
@pytest.mark.parametrize("end", ENDS)
async def test_a_raw_request(serve: Serve, path: str, end: str) -> None:
    site = await serve({"reckless": Reckless})
    query = get_or_create("reckless", "k")
    url = f"http://{site.address}/registry/actors/raw/http/{path}?end={end}"
    response: httpx.Response = await site.http.get(url, headers=site.headers(query))
    assert response.status_code == 500
    assert response.headers[OUTCOME] == "took_effect"
    assert "internal_error" in response.text
    assert (await site.call(query, "add")).output == 1
