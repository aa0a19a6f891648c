"""A hook that says no by returning False lets nobody in, nor does one that forgets to return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway_raw import closed, raw_socket
from gateway_surfaces import Knock, Reachable
from gateway_wire import Serve, get_or_create
from starlette.websockets import WebSocket

from rivet_ray import Actor, action


class No(Reachable, Actor[None]):
    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        return False

    @action
    def whoami(self) -> None:
        raise AssertionError("it is let in")


@dataclass
class User:
    name: str


class Typed(Reachable, Actor[None, None, Any, None, User]):
    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> User:  # type: ignore
        """Somebody forgot the return."""

    @action
    def whoami(self) -> None:
        raise AssertionError("it is let in")


class Hooked(Actor[None]):
    public = True

    def on_before_connect(self, request: Any, params: Any) -> Any:
        return params != "before"

    async def on_connect(self, conn: Any) -> Any:
        return conn.params != "connect"

    async def on_websocket(self, websocket: WebSocket) -> Any:
        return False

    @action
    def act(self) -> int:
        return 7


ACTORS = {"no": No, "typed": Typed, "hooked": Hooked}


async def test_on_auth_says_no(serve: Serve, surface: tuple[Knock, set[str]]) -> None:
    site = await serve(ACTORS)
    knock, _ = surface
    assert await knock(site, get_or_create("no", "a"), None) == "forbidden"


async def test_on_auth_forgets_whom(serve: Serve, surface: tuple[Knock, set[str]]) -> None:
    site = await serve(ACTORS)
    knock, _ = surface
    assert await knock(site, get_or_create("typed", "a"), None) == "internal_error"


async def test_hooks_of_connections_say_no(serve: Serve) -> None:
    site = await serve(ACTORS)
    query = get_or_create("hooked", "a")
    for params in ("before", "connect"):
        async with site.connecting(query, params) as socket:
            assert (await socket.closed())[1] == "forbidden"
    assert (await site.call(query, "act", params="before")).code == "forbidden"
    assert (await site.call(query, "act", params="else")).output == 7


async def test_a_raw_socket_is_refused(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with raw_socket(site, get_or_create("hooked", "a")) as socket:
        _, reason, before = await closed(socket)
        assert (reason, before) == ("forbidden", [])
