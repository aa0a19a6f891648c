"""`on_auth`: before the actor, on every surface (C10)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest
from gateway_raw import raw_socket, receive
from gateway_surfaces import SECRET_TEXT, Knock, Reachable
from gateway_wire import (
    HIDDEN,
    RawText,
    Serve,
    Site,
    by_id,
    create,
    get,
    get_or_create,
)
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from rivet_ray import Actor, Forbidden, Unauthorized, UserError, action
from rivet_ray.gateway import GatewaySettings

ASKED: list[tuple[Any, frozenset[str]]] = []
REQUESTS: list[Any] = []
STARTED: list[tuple[str, ...]] = []
RECORDS = (ASKED, REQUESTS, STARTED)
ALLOWED = {"token": "good"}


@pytest.fixture(autouse=True)
def forget() -> None:
    for seen in RECORDS:
        seen.clear()


async def asked(site: Site) -> list[tuple[Any, frozenset[str]]]:
    """What `on_auth` was asked since the last look, in the process where it runs."""
    found: list[tuple[Any, frozenset[str]]] = await site.take(__name__, "ASKED")
    return found


class Guarded(Reachable, Actor[None]):
    @classmethod
    async def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        await asyncio.sleep(0)
        ASKED.append((params, frozenset(intents)))
        REQUESTS.append(request)
        match (params or {}).get("token"):
            case None:
                raise Unauthorized("Who are you?")
            case "bad":
                raise Forbidden("Not you.", metadata={"need": "admin"})
            case "user":
                raise UserError("No seats left.", code="sold_out")
            case "boom":
                raise ValueError(f"the password is {SECRET_TEXT}")
        return params.get("auth", {"user": params["token"]})

    def create_state(self, input: Any) -> None:
        STARTED.append(self.key)

    @action
    def whoami(self) -> Any:
        return self.conn.auth

    @action
    def headers(self) -> list[tuple[str, str]]:
        assert self.conn.request is not None
        return list(self.conn.request.headers)

    @action
    def address(self) -> str | None:
        assert self.conn.request is not None
        return self.conn.request.client

    async def on_fetch(self, request: HTTPConnection) -> Any:
        return seen_of(request)

    async def on_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(json.dumps(seen_of(websocket)))


def seen_of(request: HTTPConnection) -> dict[str, Any]:
    return {
        "auth": request.state.auth,
        "params": request.state.params,
        "headers": [name for name in request.headers if name.startswith("x-rivetkit")],
    }


class Public(Reachable, Actor[None]):
    """Says `public`, and still has the last word."""

    public = True

    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> None:
        raise Forbidden

    @action
    def act(self) -> int:
        return 1


@dataclass
class Ticket:
    number: int
    holder: str = "nobody"


class Typed(Reachable, Actor[None, None, Ticket, None, Ticket]):
    @classmethod
    def on_auth(cls, request: Any, params: Ticket, intents: frozenset[str]) -> Ticket:
        assert isinstance(params, Ticket)
        return Ticket(params.number, "checked")

    @action
    def holder(self) -> str:
        assert isinstance(self.conn.params, Ticket)
        assert isinstance(self.auth, Ticket)
        return self.auth.holder


class Private(Reachable, Actor[None]):
    @action
    def act(self) -> int:
        return 1


ACTORS = {
    "guarded": Guarded,
    "public": Public,
    "typed": Typed,
    "private": Private,
}
A = get_or_create("guarded", "a")


# --- Refusals ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (..., "unauthorized"),
        (None, "unauthorized"),
        ({"token": "bad"}, "forbidden"),
        ({"token": "user"}, "sold_out"),
        ({"token": "boom"}, "internal_error"),
    ],
    ids=["none", "null", "bad", "user", "boom"],
)
async def test_a_refused_caller_leaves_no_actor(
    serve: Serve, surface: tuple[Knock, set[str]], params: Any, code: str
) -> None:
    site = await serve(ACTORS)
    knock, _ = surface
    for query in (A, create("guarded", "a")):
        assert await knock(site, query, params) == code
    assert STARTED == []
    assert await knock(site, get("guarded", "a"), ALLOWED) == "actor_not_found"
    assert await knock(site, A, ALLOWED) is None
    assert await knock(site, get("guarded", "a"), params) == code, "nor may it use one"


async def test_what_a_refusal_says(serve: Serve) -> None:
    site = await serve(ACTORS)
    answer = await site.call(A, "whoami", params={"token": "bad"})
    assert answer.body == {"c": "forbidden", "m": "Not you.", "md": {"need": "admin"}}
    answer = await site.call(A, "whoami", params={"token": "boom"})
    assert answer.body == {"c": "internal_error", "m": HIDDEN, "md": {}}


async def test_a_missing_actor_is_no_oracle(serve: Serve) -> None:
    """`on_auth` runs before the look-up: a refused caller learns nothing of keys."""
    site = await serve(ACTORS)
    answer = await site.call(get("guarded", "nobody here"), "whoami", params={"token": "bad"})
    assert answer.code == "forbidden"
    answer = await site.call(
        get("guarded", "nobody here"), "no such action", params={"token": "bad"}
    )
    assert answer.code == "forbidden"


async def test_no_on_auth_means_forbidden_or_public(
    serve: Serve, surface: tuple[Knock, set[str]]
) -> None:
    site = await serve(ACTORS)
    knock, _ = surface
    assert await knock(site, get_or_create("private"), ALLOWED) == "forbidden"
    assert await knock(site, get_or_create("public"), ALLOWED) == "forbidden"


async def test_open_does_not_open_what_has_on_auth(
    serve: Serve, surface: tuple[Knock, set[str]]
) -> None:
    site = await serve(ACTORS, settings=GatewaySettings(open=True))
    knock, _ = surface
    assert await knock(site, A, ...) == "unauthorized"
    assert await knock(site, get_or_create("public"), ALLOWED) == "forbidden"
    assert (await site.call(get_or_create("private"), "act")).output == 1


# --- What it is given ----------------------------------------------------------------


async def test_intents_and_parsed_parameters(serve: Serve, surface: tuple[Knock, set[str]]) -> None:
    """A.6, and A.8: the original passed WebSocket parameters unparsed."""
    site = await serve(ACTORS)
    knock, own = surface
    expected = [
        (create("guarded", "made"), {"create"}),
        (A, {"get", "create"}),
        (get("guarded", "a"), {"get"}),
        (by_id((await site.resolve(A, params=ALLOWED)).body["i"]), {"get"}),
    ]
    await asked(site)
    params = {"token": "good", "list": ["é", 1.5, None, {"a": True}]}
    for query, intents in expected:
        assert await knock(site, query, params) is None
        assert [(params, frozenset(intents | own))] == await asked(site)


async def test_no_parameters_are_none(serve: Serve, surface: tuple[Knock, set[str]]) -> None:
    site = await serve(ACTORS)
    knock, _ = surface
    await knock(site, A, ...)
    await knock(site, A, None)
    assert [params for params, _ in await asked(site)] == [None, None]


async def test_the_request(serve: Serve, surface: tuple[Knock, set[str]]) -> None:
    """What the client says of its own address is not believed, behind HAProxy neither."""
    site = await serve(ACTORS)
    knock, _ = surface
    for forged in ({}, FORGED):
        site.forged = forged
        await knock(site, A, ALLOWED)
        [request] = await site.take(__name__, "REQUESTS")
        assert request.client == "127.0.0.1"
        scheme, _, rest = request.url.partition("://")
        assert scheme == ("ws" if "websocket" in rest else "http")
        host, slash, path = rest.partition("/")
        assert host == site.address
        assert (slash + path).startswith("/registry/actors/")
        assert request.method == ("POST" if path.endswith(("whoami", "resolve")) else "GET")
        assert set(forged) <= {name for name, _ in request.headers}


FORGED = {
    "x-forwarded-for": "6.6.6.6",
    "x-forwarded-proto": "https",
    "forwarded": "for=6.6.6.6;proto=https",
    "x-real-ip": "6.6.6.6",
}


async def test_the_address_is_known_to_the_actor(serve: Serve) -> None:
    site = await serve(ACTORS)
    site.forged = FORGED
    assert (await site.call(A, "address", params=ALLOWED)).output == "127.0.0.1"
    async with site.connect(A, ALLOWED) as socket:
        assert await socket.ask(0, "address") == "127.0.0.1"


async def test_once_for_a_connection(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with site.connect(A, ALLOWED) as socket:
        for number in range(3):
            assert await socket.ask(number, "whoami") == {"user": "good"}
    assert len(await asked(site)) == 1


# --- What it returns -------------------------------------------------------------------


@pytest.mark.parametrize("auth", [{"user": "ann"}, ["a"], "text", 0, True, "", {}, None])
async def test_its_result_is_the_connections_auth(serve: Serve, auth: Any) -> None:
    site = await serve(ACTORS)
    params = {"token": "good", "auth": auth}
    assert (await site.call(A, "whoami", params=params)).output == auth
    async with site.connect(A, params) as socket:
        assert await socket.ask(0, "whoami") == auth
    seen = {"auth": auth, "params": params, "headers": []}
    assert await seen_by_fetch(site, params) == seen
    async with raw_socket(site, A, params=params) as socket:
        assert json.loads(await receive(socket)) == seen


async def seen_by_fetch(site: Site, params: Any, **more: str) -> Any:
    """Auth, parameters and headers of ours, as `on_fetch` sees them."""
    path = "/registry/actors/raw/http/seen"
    answer = await site.post(path, site.headers(A, params, **more), method="GET")
    assert answer.status == 200
    return json.loads(answer.raw)


async def test_nobody_brings_their_own_auth(serve: Serve) -> None:
    """A.8: internal headers of a client are neither believed nor passed on."""
    site = await serve(ACTORS)
    forged = {
        "auth_data": json.dumps({"user": "root"}),
        "expose_internal_error": "true",
    }
    params = {"token": "good", "auth": None}
    assert (await site.call(A, "whoami", params=params, **forged)).output is None
    assert not [
        name
        for request in await site.take(__name__, "REQUESTS")
        for name, _ in request.headers
        if "auth-data" in name or "expose-internal" in name
    ]
    seen = (await site.call(A, "headers", params=params, **forged)).output
    assert not [name for name, _ in seen if "auth-data" in name or "expose-internal" in name]
    assert await seen_by_fetch(site, params, **forged) == {
        "auth": None,
        "params": params,
        "headers": [],
    }
    answer = await site.call(A, "whoami", params={"token": "boom"}, **forged)
    assert answer.body == {"c": "internal_error", "m": HIDDEN, "md": {}}


async def test_typed_parameters_and_auth(serve: Serve) -> None:
    site = await serve(ACTORS)
    query = get_or_create("typed", "a")
    assert (await site.call(query, "holder", params={"number": 4})).output == "checked"
    async with site.connect(query, {"number": 4}) as socket:
        assert await socket.ask(0, "holder") == "checked"


@pytest.mark.parametrize("wrong", [..., {}, {"number": "x"}, [], 7], ids=repr)
async def test_parameters_that_do_not_fit(
    serve: Serve, surface: tuple[Knock, set[str]], wrong: Any
) -> None:
    """`params: Ticket` is no promise if None can come in: what is left out is refused too."""
    site = await serve(ACTORS)
    knock, _ = surface
    assert await knock(site, get_or_create("typed", "a"), wrong) == "invalid_params"
    assert await knock(site, get("typed", "a"), {"number": 4}) == "actor_not_found"


async def test_unreadable_parameters_never_reach_it(
    serve: Serve, surface: tuple[Knock, set[str]]
) -> None:
    site = await serve(ACTORS)
    knock, _ = surface
    assert await knock(site, A, RawText("{")) == "invalid_params"
    assert await asked(site) == []
