"""Who opens a connection to an actor that ends goes on with its next life, as calls do (A10)."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from gateway_streams import opening, streaming
from gateway_wire import Serve, Site, by_id, get, get_or_create
from websockets.exceptions import ConnectionClosed

from rivet_ray import Actor, action

A = get_or_create("mortal", "a")


class Mortal(Actor[dict[str, int]]):
    public = True
    lives: ClassVar[int] = 0
    """How many more times its start ends it."""

    def create_state(self, input: None) -> dict[str, int]:
        return {"count": 0}

    def on_start(self) -> None:
        if Mortal.lives > 0:
            Mortal.lives -= 1
            self.destroy()

    @action
    def end(self) -> None:
        self.destroy()

    @action
    def end_next(self, lives: int) -> None:
        Mortal.lives = lives

    @action
    def add(self) -> int:
        self.state["count"] += 1
        return self.state["count"]


class Helper(Mortal):
    """Where what is to happen to the others is said."""


ACTORS = {"mortal": Mortal, "helper": Helper}


async def ask(site: Site, way: str, query: Any) -> Any:
    """What `add` gives on a new connection; the code of the refusal where it is refused."""
    if way == "websocket":
        async with site.connecting(query) as socket:
            try:
                first = await socket.next()
            except ConnectionClosed as end:
                return end.rcvd and end.rcvd.reason
            return first["e"]["c"] if "e" in first else await socket.ask(1, "add")
    async with opening(site, site.headers(query)) as stream:
        first = await stream.next()
        if "e" in first:
            return first["e"]["c"]
    async with streaming(site, query) as stream:
        return await stream.ask(1, "add")


async def doomed(site: Site, lives: int) -> None:
    await site.call(get_or_create("helper", "h"), "end_next", lives)


@pytest.mark.parametrize("way", ["websocket", "sse"])
@pytest.mark.parametrize("lives", [1, 3])
async def test_an_actor_whose_start_destroys_it(serve: Serve, way: str, lives: int) -> None:
    site = await serve(ACTORS)
    await doomed(site, lives)
    assert await ask(site, way, A) == 1


@pytest.mark.parametrize("way", ["websocket", "sse"])
async def test_while_calls_destroy_it(serve: Serve, way: str) -> None:
    site = await serve(ACTORS)
    for _ in range(5):
        ending = [asyncio.ensure_future(site.call(A, "end")) for _ in range(4)]
        asking = [asyncio.ensure_future(ask(site, way, A)) for _ in range(4)]
        await asyncio.gather(*ending)
        for answer in await asyncio.gather(*asking, return_exceptions=True):
            assert answer != "actor_not_found"
            assert not isinstance(answer, TimeoutError), "nobody is left without an answer"


async def test_an_id_has_one_life(serve: Serve) -> None:
    site = await serve(ACTORS)
    first = (await site.resolve(A)).body["i"]
    await doomed(site, 1)
    assert await ask(site, "websocket", by_id(first)) == "actor_not_found"
    assert await ask(site, "websocket", get("mortal", "a")) == "actor_not_found"
    assert await ask(site, "websocket", A) == 1
