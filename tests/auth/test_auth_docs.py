"""The programs of docs/auth.md, run as they stand there."""

from __future__ import annotations

import importlib.util
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from asgi_server import serving
from auth_issuer import RSA_KEY, SECRET, Issuer, token
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rivet_ray import Forbidden, Unauthorized, UserError
from rivet_ray.auth import Reason, hash_api_key, new_api_key

DOCS = Path(__file__).parents[2] / "docs" / "auth.md"
PAGE = "https://app.example.com"


def program(name: str) -> str:
    """The block whose first line is `# name`."""
    found = re.findall(rf"```python\n# {re.escape(name)}\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(found) == 1, f"docs/auth.md has {len(found)} programs called {name}"
    return str(found[0])


class Docs:
    """The programs as modules, and servers of their registries."""

    def __init__(self, directory: Path, exits: AsyncExitStack) -> None:
        self._directory = directory
        self._exits = exits

    def load(self, name: str) -> Any:
        path = self._directory / name
        path.write_text(program(name))
        spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    async def serve(self, registry: Any) -> Any:
        """A client of a real server of it."""
        server = registry.create_server(store="memory://")
        url = await self._exits.enter_async_context(serving(server.handler))
        return await self._exits.enter_async_context(registry.client(url))


@pytest.fixture
async def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Docs]:
    monkeypatch.setenv("TOKEN_SECRET", SECRET)
    async with AsyncExitStack() as exits:
        yield Docs(tmp_path, exits)


def params(**claims: Any) -> dict[str, str]:
    return {"token": token(**claims)}


async def test_roles(docs: Docs) -> None:
    client = await docs.serve(docs.load("forum.py").App)

    def forum(**claims: Any) -> Any:
        return client.forum.get_or_create("news", params=params(aud="forum", **claims))

    assert await forum(role="member").write("hello") == 1
    assert await forum(role="admin").write("hello") == 2
    for role in ("guest", "owner", None):
        with pytest.raises(Forbidden, match="role member"):
            await forum(role=role).write("hello")
    with pytest.raises(Forbidden, match="role admin"):
        await forum(role="moderator").clear()
    await forum(role="admin").clear()
    with pytest.raises(Unauthorized) as caught:
        await client.forum.get_or_create("news").write("hello")
    assert caught.value.metadata == {"reason": "missing_token"}


async def test_a_renewed_token_is_the_same_caller(docs: Docs) -> None:
    client = await docs.serve(docs.load("forum.py").App)

    async def write(minutes: int, **claims: Any) -> int:
        given = params(aud="forum", role="member", exp=time.time() + 60 * minutes, **claims)
        forum = client.forum.get_or_create("news", params=given)
        return await forum.with_options(idempotency_key="post-1").write("hello")

    assert [await write(minutes, sub="ann") for minutes in (5, 10)] == [1, 1]
    assert [await write(minutes, sub="bob") for minutes in (5, 10)] == [2, 2]


async def test_keys_of_an_issuer(docs: Docs, monkeypatch: pytest.MonkeyPatch) -> None:
    with Issuer(a=RSA_KEY) as issuer:
        monkeypatch.setenv("JWKS_URL", issuer.url)
        tokens = docs.load("keys.py").tokens
        claims = {"aud": "forum", "iss": "https://id.example.com"}
        assert await tokens.verify(token(RSA_KEY, "RS256", kid="a", **claims))


async def test_intents(docs: Docs) -> None:
    client = await docs.serve(docs.load("shelves.py").App)
    user = params(aud="shelves")
    maker = params(aud="shelves", scope="shelf:create shelf:read")
    with pytest.raises(Forbidden) as caught:
        await client.shelf.get_or_create("a", params=user).put()
    assert caught.value.metadata["missing"] == ["shelf:create"]
    assert await client.shelf.get_or_create("a", params=maker).put() == 1
    assert await client.shelf.get("a", params=user).put() == 2
    async with client.shelf.get("a", params=user).connect() as connection:
        assert await connection.actor.put() == 3


async def test_api_keys(docs: Docs, monkeypatch: pytest.MonkeyPatch) -> None:
    key, reader = new_api_key(), new_api_key()
    known = {
        hash_api_key(key): {"name": "importer", "scopes": ["import"]},
        hash_api_key(reader): {"name": "reader", "scopes": []},
    }
    monkeypatch.setenv("API_KEY_HASHES", json.dumps(known))
    client = await docs.serve(docs.load("import_service.py").App)
    assert await client.imports.get_or_create(params={"token": key}).add("x") == "importer"
    with pytest.raises(Forbidden):
        await client.imports.get_or_create(params={"token": reader}).add("x")
    with pytest.raises(Unauthorized):
        await client.imports.get_or_create(params={"token": "rk_other"}).add("x")


class Provider:
    """Sessions as Better Auth tells them: a user, or null."""

    def __init__(self) -> None:
        self.asked = 0
        self.down = False
        self.sessions = {"s1": {"id": "1", "name": "Ann", "email": "ann@example.com"}}

    async def get_session(self, request: Request) -> Response:
        self.asked += 1
        if self.down:
            return Response(status_code=500)
        cookie: SimpleCookie = SimpleCookie(request.headers.get("cookie", ""))
        user = self.sessions.get(cookie["better-auth.session_token"].value)
        return JSONResponse(None if user is None else {"session": {"id": "x"}, "user": user})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        route = Route("/api/auth/get-session", self.get_session)
        async with serving(Starlette(routes=[route])) as url:
            yield url


async def test_sessions(docs: Docs, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider()
    async with provider.running() as url:
        monkeypatch.setenv("AUTH_URL", url)
        monkeypatch.setenv("PAGES", f"{PAGE} http://localhost:3000")
        module = docs.load("sessions.py")
        server = module.App.create_server(store="memory://")
        async with serving(server.handler) as base, httpx.AsyncClient(base_url=base) as http:

            async def send(cookie: str | None, origin: str | None = PAGE) -> tuple[int, Any]:
                query = {"getOrCreateForKey": {"name": "room", "key": ["a"]}}
                headers = {"X-RivetKit-Encoding": "json", "X-RivetKit-Query": json.dumps(query)}
                if cookie is not None:
                    headers["Cookie"] = f'theme={{"dark":1}}; better-auth.session_token={cookie}'
                if origin is not None:
                    headers["Origin"] = origin
                answer = await http.post(
                    "/actors/actions/send", headers=headers, json={"a": ["hi"]}
                )
                body = answer.json()
                return answer.status_code, body.get("o", body.get("c"))

            for _ in range(3):
                assert await send("s1") == (200, "Ann: hi")
            assert provider.asked == 1, "it is remembered"
            assert await send("s1", None) == (200, "Ann: hi")
            evil = await send("s1", "https://evil.example.com")
            assert evil == (403, "origin_not_allowed"), "before on_auth is asked"
            assert await send(None) == (401, "unauthorized")
            assert await send("s2") == (401, "unauthorized")
            provider.down = True
            assert await send("s1") == (200, "Ann: hi")
            assert await send("s3") == (503, "auth_unavailable")
            provider.down = False
            provider.sessions.clear()
            later = SimpleNamespace(monotonic=lambda: time.monotonic() + module.KEPT)
            monkeypatch.setattr(module, "time", later)
            assert await send("s1") == (401, "unauthorized"), "and not for long"


async def test_a_token_that_runs_out(docs: Docs) -> None:
    client = await docs.serve(docs.load("forum.py").App)
    fetched: list[str] = []
    good_for = 60.0

    async def fetch() -> tuple[str, float]:
        fetched.append(token(aud="forum", role="member"))
        return fetched[-1], good_for

    scope = {"client": client, "Tokens": docs.load("refresh.py").Tokens, "fetch": fetch}
    lines = "".join(f"    {line}\n" for line in program("in your program").splitlines())
    exec(f"async def shown():\n{lines}    return count", scope)
    assert await scope["shown"]() == 2
    assert len(fetched) == 1, "the token at hand was good"
    good_for = 10.0
    assert await scope["shown"]() == 4
    assert len(fetched) == 3, "one for the call and one for the connection"


async def test_rate_limits(docs: Docs) -> None:
    module = docs.load("limited.py")
    client = await docs.serve(module.App)

    def limited(name: str) -> Any:
        return client.limited.get_or_create(params=params(aud="limited", sub=name))

    assert [await limited("ann").act() for _ in range(3)] == ["done"] * 3
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            await limited("ann").act()
        assert (caught.value.status, caught.value.code) == (429, "too_many_requests")
        assert 0 < caught.value.metadata["retry_after"] <= 100
    assert await limited("bob").act() == "done"
    module.each_address.rate = 0.001
    assert list(module.each_address.buckets) == ["127.0.0.1"]
    module.each_address.buckets["127.0.0.1"] = (1.5, time.monotonic())
    nobody = client.limited.get_or_create(params={"token": "guessed"})
    with pytest.raises(Unauthorized):
        await nobody.act()
    with pytest.raises(UserError, match="Slow down"):
        await nobody.act()


async def test_the_test(docs: Docs, rivet: Any) -> None:
    scope = {"App": docs.load("forum.py").App, "pytest": pytest, "Forbidden": Forbidden}
    exec(program("test_forum.py"), scope)
    await scope["test_roles"](rivet)


@pytest.mark.parametrize("name", ["pages.py", "application.py"])
async def test_pages(docs: Docs, name: str) -> None:
    module = docs.load(name)
    app = module.App.create_server(store="memory://").handler if name == "pages.py" else module.app
    async with serving(app) as url, httpx.AsyncClient() as http:
        for origin, allowed in ((PAGE, PAGE), ("https://evil.example.com", None)):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            headers["Access-Control-Request-Headers"] = "authorization,x-rivetkit-query"
            answer = await http.options(f"{url}/registry/actors/resolve", headers=headers)
            assert answer.headers.get("access-control-allow-origin") == allowed


def test_the_reasons_are_all_told() -> None:
    text = DOCS.read_text()
    for reason in Reason:
        assert f"`{reason.value}`" in text
