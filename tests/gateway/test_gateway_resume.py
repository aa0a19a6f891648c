"""A client that counts events is cut off and goes on with its connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from gateway_wire import Serve, Site, Socket, eventually, get_or_create
from websockets.typing import Subprotocol

from rivet_ray import Actor, Event, action
from rivet_ray.runtime import HostSettings
from rivet_ray.runtime import connections as runtime_connections

A = get_or_create("room", "a")


@dataclass
class State:
    count: int = 0
    hooks: list[str] = field(default_factory=list[str])


@dataclass
class Member:
    name: str = "nobody"


class Room(Actor[State, Member]):
    public = True
    said = Event[str]()

    def on_connect(self, conn: Any) -> None:
        if conn.params == "counted":
            self.state.hooks.append("connect")

    def on_disconnect(self, conn: Any) -> None:
        if conn.params == "counted":
            self.state.hooks.append("disconnect")

    @action
    def say(self, text: str) -> None:
        self.state.count += 1
        self.broadcast(Room.said, text)

    @action
    def rename(self, name: str) -> str:
        self.conn.state.name = name
        return name

    @action
    def name_of_caller(self) -> str:
        return self.conn.state.name

    @action
    def hooks(self) -> list[str]:
        return list(self.state.hooks)


ACTORS = {"room": Room}


@dataclass
class Counted:
    """A socket that counts events, and the Init that it got."""

    socket: Socket
    init: dict[str, Any]

    async def events(self, number: int) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        for _ in range(number):
            event = (await self.socket.next())["ev"]
            found.append((event["s"], event["a"][0]))
        return found


@asynccontextmanager
async def counted(
    site: Site, seen: int = 0, init: dict[str, Any] | None = None, token: str | None = None
) -> AsyncIterator[Counted]:
    """Opened for the first time, or with what an earlier Init said."""
    offered = [f"conn_seen.{seen}"]
    if init is not None:
        offered.append(f"conn.{init['ci']}")
        offered.append(f"conn_token.{quote(token or init['ct'], safe='')}")
    protocols = site.protocols(A, "counted")
    protocols[-1:-1] = [Subprotocol(item) for item in offered]
    async with site.offering(protocols) as socket:
        yield Counted(socket, (await socket.next())["i"])


async def cut(site: Site, client: Counted) -> None:
    """Vanish, and wait until the gateway knows."""
    client.socket.abort()
    await client.socket.connection.wait_closed()


async def test_only_those_who_count_are_told_numbers(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with counted(site) as client, site.connecting(A) as plain:
        assert client.init["s"] == 0
        assert set(await plain.init()) == {"ai", "ci", "ct"}
        for socket in (client.socket, plain):
            await socket.subscribe("said")
            await socket.ask(0, "name_of_caller")
        await site.call(A, "say", "one")
        assert await client.events(1) == [(1, "one")]
        assert await plain.next() == {"ev": {"n": "said", "a": ["one"]}}


async def test_it_goes_on_where_it_was(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with counted(site) as first:
        await first.socket.subscribe("said")
        await first.socket.ask(0, "rename", "ann")
        await site.call(A, "say", "one")
        assert await first.events(1) == [(1, "one")]
        await cut(site, first)
    for text in ("two", "three"):
        await site.call(A, "say", text)
    async with counted(site, 1, first.init) as again:
        assert (again.init["ci"], again.init["s"]) == (first.init["ci"], 1)
        assert again.init["ct"] != first.init["ct"]
        assert await again.events(2) == [(2, "two"), (3, "three")]
        await site.call(A, "say", "four")
        assert await again.events(1) == [(4, "four")]
        assert await again.socket.ask(0, "name_of_caller") == "ann"
        assert (await site.call(A, "hooks")).output == ["connect"]


async def test_it_comes_back_before_anybody_knows_that_it_was_away(serve: Serve) -> None:
    """The old socket is closed; nothing of it harms the new one."""
    site = await serve(ACTORS)
    async with counted(site) as first:
        await first.socket.subscribe("said")
        await first.socket.ask(0, "rename", "ann")
        async with counted(site, 0, first.init) as again:
            assert again.init["ci"] == first.init["ci"]
            assert (await first.socket.closed())[:2] == (1008, "taken_over")
            await site.call(A, "say", "one")
            assert await again.events(1) == [(1, "one")]
            assert await again.socket.ask(0, "name_of_caller") == "ann"
            assert (await site.call(A, "hooks")).output == ["connect"]


async def test_an_answer_that_was_lost_costs_nothing(serve: Serve) -> None:
    """The new token did not arrive: the one before counts once more."""
    site = await serve(ACTORS)
    async with counted(site) as first:
        await first.socket.ask(0, "rename", "ann")
        await cut(site, first)
    async with counted(site, 0, first.init) as lost:
        await cut(site, lost)
    async with counted(site, 0, first.init) as again:
        assert again.init["ci"] == first.init["ci"]
        assert await again.socket.ask(0, "name_of_caller") == "ann"


async def test_a_stolen_token_opens_nothing(serve: Serve) -> None:
    """One that was used before, or never given out: another connection, and the owner stays."""
    site = await serve(ACTORS)
    async with counted(site) as first:
        await first.socket.ask(0, "rename", "ann")
        await cut(site, first)
    async with counted(site, 0, first.init) as again:
        assert await again.socket.ask(0, "name_of_caller") == "ann"
        for token in (first.init["ct"], "guessed", ""):
            async with counted(site, 0, first.init, token or "x") as thief:
                assert thief.init["ci"] != first.init["ci"]
                assert await thief.socket.ask(0, "name_of_caller") == "nobody"
        assert await again.socket.ask(1, "name_of_caller") == "ann"


@pytest.mark.parametrize("code", [1000, 1001])
async def test_whoever_says_goodbye_is_gone(serve: Serve, code: int) -> None:
    site = await serve(ACTORS)
    async with counted(site) as first:
        await first.socket.ask(0, "rename", "ann")
        await first.socket.connection.close(code)

    async def gone() -> bool:
        hooks: list[str] = (await site.call(A, "hooks")).output
        return hooks == ["connect", "disconnect"]

    await eventually(gone)
    async with counted(site, 0, first.init) as again:
        assert again.init["ci"] != first.init["ci"]


async def test_whoever_is_away_too_long_is_gone(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_connections, "RESUME_WINDOW", 0.2)
    site = await serve(ACTORS)
    async with counted(site) as first:
        await first.socket.ask(0, "rename", "ann")
        await cut(site, first)

    async def gone() -> bool:
        hooks: list[str] = (await site.call(A, "hooks")).output
        return hooks == ["connect", "disconnect"]

    await eventually(gone)
    async with counted(site, 0, first.init) as again:
        assert again.init["ci"] != first.init["ci"]
        assert await again.socket.ask(0, "name_of_caller") == "nobody"


async def test_what_is_not_known_any_more_is_said(serve: Serve) -> None:
    site = await serve(ACTORS, host_settings=HostSettings(replay_events=2))
    async with counted(site) as first:
        await first.socket.subscribe("said")
        await first.socket.ask(0, "rename", "ann")
        await cut(site, first)
    for text in ("one", "two", "three"):
        await site.call(A, "say", text)
    async with counted(site, 0, first.init) as again:
        assert again.init["ci"] == first.init["ci"]
        assert (await again.socket.closed())[:2] == (1012, "resync")
    async with counted(site, 0, again.init) as fresh:
        assert fresh.init["ci"] != first.init["ci"]
        assert fresh.init["s"] == 3
