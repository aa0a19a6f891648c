"""Tokens prove themselves: for one that was made up nothing is read, claimed or started (D1)."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from asgi_server import serving
from gateway_streams import opening
from gateway_wire import JSON, Site, get_or_create
from websockets.typing import Subprotocol

from rivet_ray import Actor, Registry, action, ids, use
from rivet_ray.gateway import create_app
from rivet_ray.gateway.seals import Seal
from rivet_ray.runtime import Standalone
from rivet_ray.store import NewActor
from rivet_ray_drivers.memory import MemoryStore

STARTED: list[str] = []


class Room(Actor[None]):
    public = True

    def on_start(self) -> None:
        STARTED.append(self.id)

    @action
    def act(self) -> int:
        return 7


class App(Registry):
    room = use(Room)


class Watched(MemoryStore):
    """Knows who was looked up and claimed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def claim(self, actor_id: str, token: str, *given: Any) -> Any:
        self.asked.append(f"claim {actor_id}")
        return await super().claim(actor_id, token, *given)

    async def find_by_id(self, actor_id: str) -> Any:
        self.asked.append(f"find {actor_id}")
        return await super().find_by_id(actor_id)

    async def create(self, actor: NewActor) -> Any:
        self.asked.append(f"create {actor.name}")
        return await super().create(actor)


@pytest.fixture
async def world() -> AsyncIterator[tuple[Site, Watched]]:
    STARTED.clear()
    store = Watched()
    backend = Standalone(App.definitions(), store)
    async with serving(create_app(backend)) as url, httpx.AsyncClient() as http:
        yield Site(url.removeprefix("http://"), JSON, http), store


A = get_or_create("room", "a")


def made_up() -> str:
    return base64.b64encode(os.urandom(32)).decode()


async def test_a_message_with_a_token_that_was_made_up(world: tuple[Site, Watched]) -> None:
    """The same answer whether there is such an actor or not, and no work for either."""
    site, store = world
    actor = (await site.resolve(A)).body["i"]
    store.asked.clear()
    body = site.wire.dumps({"b": {"ar": {"i": 0, "n": "act", "a": []}}})
    answers: list[tuple[int, bytes]] = []
    for target in (actor, "0123456789abcdef"):
        for token in (made_up(), "", "x", ids.connection_token()):
            headers = {
                "X-RivetKit-Actor": target,
                "X-RivetKit-Conn": ids.connection_id(),
                "X-RivetKit-Conn-Token": token,
                "X-RivetKit-Encoding": "json",
            }
            for sent in (body, b"what cannot be read"):
                answer = await site.post("/registry/actors/message", headers, sent)
                answers.append((answer.status, answer.raw))
                assert answer.outcome == "not_started"
    assert len(set(answers)) == 1
    assert b"incorrect_conn_token" in answers[0][1]
    assert (store.asked, STARTED) == ([], [])


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_coming_back_with_a_token_that_was_made_up(
    world: tuple[Site, Watched], transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It claims nothing, and opens another connection as anybody may."""
    site, _ = world

    async def claim(*given: Any) -> None:
        raise AssertionError("the host was asked")

    monkeypatch.setattr("rivet_ray.runtime.calls.HostClient.claim", claim)
    victim, token = ids.connection_id(), made_up()
    if transport == "sse":
        back = {"conn_seen": "0", "conn": victim, "conn_token": token}
        async with opening(site, site.headers(A, **back)) as stream:
            assert (await stream.init())["ci"] != victim
        return
    protocols = site.protocols(A)
    offered = ["conn_seen.0", f"conn.{victim}", f"conn_token.{quote(token, safe='')}"]
    protocols[-1:-1] = [Subprotocol(word) for word in offered]
    async with site.offering(protocols) as socket:
        assert (await socket.init())["ci"] != victim


async def test_every_gateway_of_a_store_has_the_same_seal() -> None:
    """Also after a restart, and where two ask for it at the same time."""
    store = MemoryStore()
    one, two = (Standalone(App.definitions(), store) for _ in range(2))
    await one.start()
    await two.start()
    assert await one.directory.secret() == await two.directory.secret()
    await one.close()
    await one.start()
    assert await one.directory.secret() == await two.directory.secret()
    assert len(await one.directory.secret()) == 32
    await one.close()
    await two.close()


def test_a_seal_is_for_one_actor_and_one_connection() -> None:
    seal, token = Seal(b"secret"), ids.connection_token()
    shown = seal.sealed("actor", "connection", token)
    assert seal.opened("actor", "connection", shown) == token
    assert len(base64.b64decode(shown, validate=True)) == 32
    assert Seal(b"another").opened("actor", "connection", shown) is None
    for actor, connection in (("other", "connection"), ("actor", "other"), ("actorc", "onnection")):
        assert seal.opened(actor, connection, shown) is None
    for changed in (shown[:-4], shown + "=", shown + "\n", shown.swapcase(), token, "é", ""):
        assert seal.opened("actor", "connection", changed) is None
