"""CORS as browsers ask for it: raw requests, on every route (A.1.5)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from gateway_streams import streaming
from gateway_wire import Answer, Serve, Site, get_or_create
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from rivet_ray import ALLOWED_PUBLIC_HEADERS, CORS, Actor, Unauthorized, action
from rivet_ray.gateway import GatewaySettings

APP = "https://app.example.com"
ADMIN = "https://admin.example.com"
EVIL = "https://evil.example.com"
CALLS: list[str] = []
RECORDS = (CALLS,)
FETCHED: list[str] = []
"""Methods that the actor was asked with; it lives in this process, wherever the gateway is."""


class Counter(Actor[None]):
    public = True

    @action
    def act(self) -> int:
        return 7

    async def on_fetch(self, request: Request) -> Response:
        FETCHED.append(request.method)
        return PlainTextResponse("mine", 418)


class Generous(Counter):
    async def on_fetch(self, request: Request) -> Response:
        return PlainTextResponse("mine", headers={"Access-Control-Allow-Origin": "*"})


class Guarded(Counter):
    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> None:
        raise Unauthorized("Who are you?")


ACTORS = {"counter": Counter, "generous": Generous, "guarded": Guarded}
COUNTER = get_or_create("counter", "a")

ROUTES = {
    "action": ("POST", "/registry/actors/actions/act"),
    "unprefixed action": ("POST", "/actors/actions/act/"),
    "resolve": ("POST", "/registry/actors/resolve"),
    "stream": ("GET", "/registry/actors/connect/sse"),
    "message": ("POST", "/registry/actors/message"),
    "raw http": ("GET", "/registry/actors/raw/http/x"),
    "banner": ("GET", "/registry/"),
    "health": ("GET", "/registry/health"),
    "metadata": ("GET", "/registry/metadata"),
    "document": ("GET", "/registry/openapi.json"),
    "documentation": ("GET", "/registry/docs"),
    "nothing": ("GET", "/no/such/path"),
}
"""Every route that a page may ask for; a further one gets a line here."""


def only(**options: Any) -> GatewaySettings:
    return GatewaySettings(cors=CORS(**{"origin": APP, **options}))


async def ask(site: Site, route: str, origin: str | None, **more: str) -> Answer:
    """What a page of that origin sends, once it may."""
    method, path = ROUTES[route]
    headers = site.headers(COUNTER)
    if origin is not None:
        headers["Origin"] = origin
    if route == "stream":
        # It ends when its client leaves.
        url = f"http://{site.address}{path}"
        async with site.http.stream(method, url, headers={**headers, **more}) as response:
            return Answer(response.status_code, response.headers, b"", None)
    body = site.wire.dumps({"a": []}) if method == "POST" else b""
    return await site.post(path, {**headers, **more}, body, method)


async def preflight(site: Site, path: str, origin: str | None, method: str = "POST") -> Answer:
    """What a browser asks first."""
    asked = {
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "x-rivetkit-query,x-rivetkit-encoding",
    }
    if origin is not None:
        asked["Origin"] = origin
    return await site.post(path, asked, method="OPTIONS")


def said(answer: Answer) -> dict[str, str]:
    """Its CORS headers; each is there once."""
    pairs = [
        (name.removeprefix("access-control-"), value)
        for name, value in answer.headers.multi_items()
        if name.startswith("access-control-")
    ]
    assert len(dict(pairs)) == len(pairs), pairs
    return dict(pairs)


def names(header: str) -> set[str]:
    return {name.strip().lower() for name in header.split(",")}


# --- Off -----------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES)
async def test_without_it_nothing_is_said(serve: Serve, route: str) -> None:
    site = await serve(ACTORS)
    answer = await ask(site, route, None)
    assert said(answer) == {}
    assert "vary" not in answer.headers
    asked = await preflight(site, ROUTES[route][1], None)
    # The actor may answer it; but then it has to be known which.
    assert asked.status == (400 if route == "raw http" else 404)
    assert said(asked) == {}
    for refused in (await ask(site, route, APP), await preflight(site, ROUTES[route][1], APP)):
        assert (refused.status, said(refused)) == (403, {})


# --- Preflight ------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES)
async def test_preflight(serve: Serve, route: str) -> None:
    site = await serve(ACTORS, settings=only())
    answer = await preflight(site, ROUTES[route][1], APP)
    assert (answer.status, answer.raw) == (204, b"")
    assert "content-type" not in answer.headers
    headers = said(answer)
    allowed = names(headers.pop("allow-headers"))
    assert allowed == {name.lower() for name in ALLOWED_PUBLIC_HEADERS}
    assert headers == {
        "allow-origin": APP,
        "allow-credentials": "true",
        "allow-methods": "GET,POST,PUT,PATCH,DELETE,OPTIONS",
        "max-age": "3600",
    }
    assert answer.headers["vary"] == "Origin"


async def test_every_option(serve: Serve) -> None:
    options = {
        "origin": [APP, ADMIN],
        "allow_methods": ["GET", "POST"],
        "allow_headers": ["Authorization", "content-type", "X-API-Key"],
        "credentials": False,
        "max_age": 60,
        "expose_headers": ["X-Request-Id"],
    }
    site = await serve(ACTORS, settings=only(**options))
    for origin in (APP, ADMIN):
        headers = said(await preflight(site, ROUTES["action"][1], origin))
        allowed = names(headers.pop("allow-headers"))
        assert allowed == {
            n.lower() for n in (*ALLOWED_PUBLIC_HEADERS, "Authorization", "X-API-Key")
        }
        assert headers == {"allow-origin": origin, "allow-methods": "GET,POST", "max-age": "60"}
        headers = said(await ask(site, "action", origin))
        exposed = names(headers.pop("expose-headers"))
        assert exposed == {"x-rivetkit-outcome", "x-rivetkit-keep-alive", "x-request-id"}
        assert headers == {"allow-origin": origin}


@pytest.mark.parametrize("origin", [EVIL, "null", f"{APP}.evil.com", "", None])
async def test_another_origin_gets_no_permission(serve: Serve, origin: str | None) -> None:
    """No allow-origin; `Vary` all the same, or a cache would mix the answers up."""
    site = await serve(ACTORS, settings=only())
    asked = await preflight(site, ROUTES["action"][1], origin)
    assert (asked.status, asked.raw) == (204, b"")
    assert "allow-origin" not in said(asked)
    assert asked.headers["vary"] == "Origin"
    answer = await ask(site, "action", origin)
    assert answer.status == (200 if origin is None else 403)
    assert said(answer) == {}
    assert answer.headers["vary"] == "Origin"


async def test_origins_are_compared_as_they_are_meant(serve: Serve) -> None:
    """In any case, with the default port or without; the answer repeats what was sent."""
    site = await serve(ACTORS, settings=only())
    for origin in (APP.upper(), f"{APP}:443"):
        assert said(await ask(site, "action", origin))["allow-origin"] == origin


async def test_any_origin(serve: Serve) -> None:
    """`*` for all alike, so no `Vary`, and never with credentials."""
    site = await serve(ACTORS, settings=only(origin="*"))
    for answer in (
        await preflight(site, ROUTES["action"][1], EVIL),
        await ask(site, "action", EVIL),
        await ask(site, "action", None),
    ):
        headers = said(answer)
        assert headers["allow-origin"] == "*"
        assert "allow-credentials" not in headers
        assert "vary" not in answer.headers


# --- Answers --------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES)
async def test_answers(serve: Serve, route: str) -> None:
    site = await serve(ACTORS, settings=only())
    answer = await ask(site, route, APP)
    assert said(answer) == {
        "allow-origin": APP,
        "allow-credentials": "true",
        "expose-headers": "X-RivetKit-Outcome,X-RivetKit-Keep-Alive",
    }
    assert answer.headers["vary"] == "Origin"


STATUS = {"message": 400, "raw http": 418, "nothing": 404}


@pytest.mark.parametrize("route", ROUTES)
async def test_they_are_the_same_for_a_page(serve: Serve, route: str) -> None:
    site = await serve(ACTORS, settings=only())
    page, other = await ask(site, route, APP), await ask(site, route, None)
    assert page.status == other.status == STATUS.get(route, 200)
    assert page.raw == other.raw


@pytest.mark.parametrize("on", [True, False])
async def test_options_never_reach_an_actor(serve: Serve, on: bool) -> None:
    """A.1.5: with CORS they are the gateway's; without, the actor's, but for foreign pages."""
    FETCHED.clear()
    site = await serve(ACTORS, settings=only() if on else None)
    path = ROUTES["raw http"][1]
    for origin in ({}, {"Origin": APP}):
        answer = await site.post(path, {**site.headers(COUNTER), **origin}, method="OPTIONS")
        assert answer.status == (204 if on else 403 if origin else 418)
    assert ([] if on else ["OPTIONS"]) == FETCHED


async def test_a_page_with_an_event_stream(serve: Serve) -> None:
    site = await serve(ACTORS, settings=only())
    async with streaming(site, COUNTER) as stream:
        asked = site.wire.dumps({"b": {"ar": {"i": 0, "n": "act", "a": []}}})
        answer = await stream.post(asked, {**stream.headers_of_message(), "Origin": APP})
        assert (answer.status, said(answer)["allow-origin"]) == (200, APP)
        assert await stream.answer(0) == 7


async def test_a_page_can_read_errors(serve: Serve) -> None:
    """401, 400 in every form, 404 and 413."""
    site = await serve(ACTORS, settings=GatewaySettings(cors=CORS(APP), max_body_size=1000))
    guarded = json.dumps(get_or_create("guarded", "a"))
    found = {
        401: await ask(site, "action", APP, **{"X-RivetKit-Query": guarded}),
        400: await ask(site, "action", APP, **{"X-RivetKit-Query": "{"}),
        404: await ask(site, "nothing", APP),
        413: await site.post(
            ROUTES["action"][1], {**site.headers(COUNTER), "Origin": APP}, b"x" * 1001
        ),
    }
    for status, answer in found.items():
        assert answer.status == status
        assert said(answer)["allow-origin"] == APP
    headers = site.headers(COUNTER, encoding=None)
    missing = await site.post(ROUTES["action"][1], {**headers, "Origin": APP})
    assert missing.status == 400
    assert said(missing)["allow-origin"] == APP


async def test_websockets_of_named_pages_pass(serve: Serve) -> None:
    """Browsers do not guard them by CORS, so the gateway does: see test_gateway_origins."""
    site = await serve(ACTORS, settings=only())
    async with site.connect(COUNTER, origin=APP) as socket:
        assert await socket.ask(0, "act") == 7


@pytest.mark.parametrize("path", ["/x", "/raw/websocket/x", "/actors/connect/websocket"])
@pytest.mark.parametrize("origin", [APP, EVIL])
async def test_an_actor_does_not_widen_it(serve: Serve, path: str, origin: str) -> None:
    """Whatever its path contains: only the registry says who may read the answer."""
    site = await serve(ACTORS, settings=only())
    headers = site.headers(get_or_create("generous", "a"))
    path = f"/registry/actors/raw/http{path}"
    answer = await site.post(path, {**headers, "Origin": origin}, method="GET")
    assert answer.headers.get_list("access-control-allow-origin") == [APP] * (origin == APP)
    assert (await preflight(site, path, origin)).status == 204


# --- Functions ------------------------------------------------------------------------


def is_ours(origin: str) -> bool:
    CALLS.append(origin)
    return origin.endswith(".example.com") and origin != EVIL


async def is_ours_later(origin: str) -> bool:
    await asyncio.sleep(0)
    return is_ours(origin)


def names_it(origin: str) -> str | None:
    return origin if is_ours(origin) else None


def fails(origin: str) -> bool:
    raise ValueError(origin)


async def fails_later(origin: str) -> bool:
    await asyncio.sleep(0)
    raise ValueError(origin)


def always_star(origin: str) -> str:
    return "*"


def splits_headers(origin: str) -> str:
    return f"{origin}\r\nset-cookie: a=b"


@pytest.mark.parametrize("judge", [is_ours, is_ours_later, names_it], ids=lambda f: f.__name__)
async def test_a_function(serve: Serve, judge: Any) -> None:
    site = await serve(ACTORS, settings=only(origin=judge))
    await site.take(__name__, "CALLS")
    for origin, allowed in ((APP, APP), (ADMIN, ADMIN), (EVIL, None)):
        asked = await preflight(site, ROUTES["action"][1], origin)
        assert said(asked).get("allow-origin") == allowed
        assert asked.headers["vary"] == "Origin"
        answer = await ask(site, "action", origin)
        assert said(answer).get("allow-origin") == allowed
        assert answer.status == (403 if allowed is None else 200)
        assert await site.take(__name__, "CALLS") == [origin, origin]
    await ask(site, "action", None)
    assert await site.take(__name__, "CALLS") == [], "a request of no page is not judged"


@pytest.mark.parametrize(
    "judge", [fails, fails_later, always_star, splits_headers], ids=lambda f: f.__name__
)
async def test_a_function_that_fails_says_no(serve: Serve, judge: Any) -> None:
    site = await serve(ACTORS, settings=only(origin=judge))
    assert "allow-origin" not in said(await preflight(site, ROUTES["action"][1], APP))
    answer = await ask(site, "action", APP)
    assert answer.status == 403
    assert said(answer) == {}
