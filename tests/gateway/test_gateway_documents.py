"""`/health` and `/metadata`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest

from examples.counter import App
from rivet_ray.errors import StoreUnavailable
from rivet_ray.gateway import create_app
from rivet_ray.gateway import health as health_module
from rivet_ray.runtime import HostSettings, Standalone
from rivet_ray.store import ActorRecord, Store, open_store

Find = Callable[[str], Any]


class Ailing:
    """A real store whose look-ups by id can be made to fail or to hang."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.ill: Callable[[], Any] | None = None

    async def find_by_id(self, actor_id: str) -> ActorRecord | None:
        if self.ill is not None:
            await self.ill()
        return await self._store.find_by_id(actor_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def fail() -> None:
    raise StoreUnavailable("gone")


async def hang() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("prefix", ["", "/registry"])
async def test_health_from_the_start_to_the_end(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "HEALTH_TIMEOUT", 0.05)
    store = Ailing(await open_store("memory://"))
    backend = Standalone(App.definitions(), cast("Store", store))
    transport = httpx.ASGITransport(create_app(backend))
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as http:

        async def health() -> tuple[int, Any]:
            answer = await http.get(f"{prefix}/health")
            assert answer.headers["content-type"] == "application/json"
            return answer.status_code, answer.json()

        assert await health() == (503, {"status": "not_started"})
        assert not backend.started
        await backend.start()
        assert await health() == (200, {"status": "ok"})
        for illness in (fail, hang):
            store.ill = illness
            assert await health() == (503, {"status": "unavailable"})
            store.ill = None
            assert await health() == (200, {"status": "ok"})
        await backend.close()
        assert await health() == (503, {"status": "not_started"})


@pytest.mark.parametrize("prefix", ["", "/registry"])
async def test_metadata(prefix: str) -> None:
    """C.2: a client of RivetKit 2 asks for it first, and hangs without it."""
    transport = httpx.ASGITransport(App.create_server(store="memory://").handler)
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as http:
        answer = await http.get(f"{prefix}/metadata?namespace=default")
    found = answer.json()
    assert answer.status_code == 200
    assert found["runtime"] == "rivetkit"
    assert found["version"]
    assert found["actorNames"] == {"counter": {"metadata": {}}}
    assert found["gateway"] == {
        "slowConsumers": 0,
        "connectionsRefused": 0,
        "silentConnections": 0,
        "headsTooLong": 0,
        "messagesTooLong": 0,
        "tooManyItems": 0,
        "leftOutEvents": 0,
        "blockedLoop": 0,
        "heldBytes": 0,
        "mostHeldBytes": 0,
        "refused": {},
    }


async def test_metadata_tells_what_the_host_holds() -> None:
    """Operators see what was refused there too, by the name of the bound."""
    backend = Standalone(App.definitions(), settings=HostSettings(max_held_size_per_actor=100))
    transport = httpx.ASGITransport(create_app(backend))
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as http:
        assert "host" not in (await http.get("/metadata")).json()
        await backend.start()
        assert not backend.host.budget_of("an actor").fits(200)
        assert (await http.get("/metadata")).json()["host"] == {
            "heldBytes": 0,
            "mostHeldBytes": 0,
            "refused": {"actor": 1},
        }
        await backend.close()
