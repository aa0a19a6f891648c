"""Callers for tests: `client_as`, `override_auth`, `unit_request`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from rivet_ray import (
    Actor,
    Event,
    Forbidden,
    IdempotencyKeyRefused,
    Registry,
    Unauthorized,
    action,
    use,
)
from rivet_ray.testing import override_auth, unit_request


class Forum(Actor[int, None, Any, None, Any]):
    closed = Event[str]()

    def create_state(self, input: Any) -> int:
        return 0

    @classmethod
    async def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        if dict(request.headers).get("authorization") != "Bearer good":
            raise Unauthorized
        return {"role": "member"}

    @action
    def post(self) -> int:
        self.state += 1
        return self.state

    @action
    def close_thread(self) -> str:
        if self.auth["role"] != "admin":
            raise Forbidden("Admin access required.")
        self.broadcast(Forum.closed, self.auth["role"])
        return "closed"

    @action
    def whoami(self) -> Any:
        return self.auth


class Plain(Actor[None]):
    @action
    def whoami(self) -> Any:
        return self.auth


class App(Registry):
    forum = use(Forum)
    plain = use(Plain)


async def test_clients_with_auth(rivet: Any) -> None:
    """The documentation's two tests: an admin may, a user may not."""
    test = await rivet(App)
    admin = test.client_as({"role": "admin"}).forum.get_or_create("a")
    member = test.client_as({"role": "member"}).forum.get_or_create("a")
    assert await admin.close_thread() == "closed"
    with pytest.raises(Forbidden, match="Admin access required"):
        await member.close_thread()
    assert await test.client.forum.get_or_create("a").whoami() is None


async def test_idempotency_keys_are_those_of_the_caller(rivet: Any) -> None:
    """As over a gateway: a renewed token is the same caller, and nobody is refused."""
    test = await rivet(App)

    async def post(client: Any) -> int:
        forum = client.forum.get_or_create("a").with_options(idempotency_key="k")
        return await forum.post()

    ann = {"iss": "https://id.example.com", "sub": "ann"}
    assert await post(test.client_as({**ann, "exp": 1})) == 1
    assert await post(test.client_as({**ann, "exp": 2})) == 1
    assert await post(test.client_as({**ann, "sub": "bob"})) == 2
    assert await post(test.client) == 3, "the server's own code is a caller too"
    assert await post(test.client) == 3
    for nobody in (None, {"role": "admin"}):
        with pytest.raises(IdempotencyKeyRefused):
            await post(test.client_as(nobody))


async def test_connections_with_auth(rivet: Any) -> None:
    test = await rivet(App)
    admin = test.client_as({"role": "admin"}).forum.get_or_create("a")
    async with admin.connect() as connection:
        assert await connection.actor.whoami() == {"role": "admin"}


@pytest.mark.parametrize("way", ["restart", "crash"])
async def test_after_a_restart_one_asks_again(rivet: Any, way: str) -> None:
    test = await rivet(App)
    test.client_as({"role": "admin"})
    await getattr(test, way)()
    admin = test.client_as({"role": "admin"}).forum.get_or_create("a")
    assert await admin.close_thread() == "closed"


async def asked(name: str, headers: Mapping[str, str] = {}) -> tuple[int, Any]:
    """What a gateway of this process answers to `whoami`."""
    server = App.create_server(store="memory://")
    query = json.dumps({"getOrCreateForKey": {"name": name, "key": ["a"]}})
    given = {"X-RivetKit-Encoding": "json", "X-RivetKit-Query": query, **headers}
    transport = httpx.ASGITransport(server.handler)
    async with (
        server.handler.router.lifespan_context(server.handler),
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        answer = await http.post("/actors/actions/whoami", headers=given, json={"a": []})
    body = answer.json()
    return answer.status_code, body["o"] if answer.status_code == 200 else body["c"]


GOOD = {"Authorization": "Bearer good"}


async def test_overriding_on_auth() -> None:
    """In its block alone, for types with `on_auth` and without."""
    assert await asked("forum") == (401, "unauthorized")
    assert await asked("plain") == (403, "forbidden")
    with override_auth(Forum, {"role": "admin"}), override_auth(Plain, {"role": "x"}):
        assert await asked("forum") == (200, {"role": "admin"})
        assert await asked("plain") == (200, {"role": "x"})
    assert await asked("forum") == (401, "unauthorized")
    assert await asked("forum", GOOD) == (200, {"role": "member"})
    assert await asked("plain") == (403, "forbidden")
    assert "on_auth" not in vars(Plain)


async def test_overriding_with_an_error_or_a_function() -> None:
    for refusal in (Forbidden, Forbidden("Not you.")):
        with override_auth(Forum, refusal):
            assert await asked("forum", GOOD) == (403, "forbidden")

    async def echo(request: Any, params: Any, intents: frozenset[str]) -> Any:
        return {"intents": sorted(intents), "method": request.method}

    with override_auth(Forum, echo):
        expected = {"intents": ["action", "create", "get"], "method": "POST"}
        assert await asked("forum") == (200, expected)


async def test_the_override_ends_with_a_failing_test() -> None:
    async def failing() -> None:
        with override_auth(Forum):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing()
    assert await asked("forum") == (401, "unauthorized")


async def test_a_request_for_a_unit_test() -> None:
    assert await Forum.on_auth(unit_request(GOOD), None, frozenset()) == {"role": "member"}
    with pytest.raises(Unauthorized):
        await Forum.on_auth(unit_request(), None, frozenset())
    assert unit_request(GOOD).headers == [("authorization", "Bearer good")]
