"""`on_auth` over every way from outside, and that what is inside does not ask it (C10)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ways import INLINE, OUTSIDE, REPLICAS, World, over

from rivet_ray import Forbidden, Unauthorized, UserError
from rivet_ray.errors import ActorNotFound, InternalError, Outcome, RivetError

pytestmark = pytest.mark.timeout(150)

ANN = {"user": "ann"}

outside = pytest.mark.parametrize("way", over(OUTSIDE), indirect=True)
inside = pytest.mark.parametrize("way", over(INLINE), indirect=True)


async def call(world: World, key: str, params: Any) -> Any:
    async with world.reach(world.app.guarded.get_or_create(key, params=params)) as guarded:
        return await guarded.whoami()


async def resolve(world: World, key: str, params: Any) -> Any:
    return await world.client.actor("guarded", key, params=params).resolve()


async def create(world: World, key: str, params: Any) -> Any:
    return await world.app.guarded.create(key, params=params)


@outside
@pytest.mark.parametrize("ask", [call, resolve, create])
async def test_refusals(
    world: World, key: str, ask: Callable[[World, str, Any], Awaitable[Any]]
) -> None:
    refusals: list[tuple[Any, type[RivetError], str, Any]] = [
        (None, Unauthorized, "unauthorized", None),
        ({"user": "eve"}, Forbidden, "forbidden", {"need": "admin"}),
        ({"user": "late"}, UserError, "sold_out", None),
    ]
    for params, kind, code, metadata in refusals:
        with pytest.raises(kind) as caught:
            await ask(world, key, params)
        error = caught.value
        assert (error.code, error.metadata) == (code, metadata)
        assert error.outcome is Outcome.NOT_STARTED
    with pytest.raises(InternalError) as hidden:
        await ask(world, key, {"user": "broken"})
    assert "hunter2" not in str(hidden.value)
    with pytest.raises(ActorNotFound):
        await world.client.get("guarded", key, params=ANN).resolve()


@outside
async def test_what_it_returns_is_the_connections_auth(world: World, key: str) -> None:
    own = "action" if world.way.transport == "http" else "connect"
    auth = await call(world, key, ANN)
    assert (auth["user"], auth["intents"]) == ("ann", sorted([own, "create", "get"]))
    async with world.reach(world.app.guarded.get(key, params=ANN)) as guarded:
        assert (await guarded.whoami())["intents"] == sorted([own, "get"])


@pytest.mark.parametrize(
    "way", over([way for way in OUTSIDE if way.transport == "http"]), indirect=True
)
async def test_requests_meet_every_gateway(world: World, key: str) -> None:
    """On Ray there are two, whichever holds what a request is about: a stream, for one."""
    found = {(await call(world, key, ANN))["gateway"] for _ in range(12)}
    assert len(found) == REPLICAS[world.way.deployment]


@inside
async def test_inside_nobody_is_asked(world: World, key: str) -> None:
    assert await call(world, key, None) is None
    async with world.app.guarded.get(key).connect() as connection:
        assert await connection.actor.whoami() is None
