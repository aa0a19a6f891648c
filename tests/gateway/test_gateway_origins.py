"""Pages of other origins: refused on every transport, unless CORS admits them (D3)."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_surfaces import SURFACES, Knock, Reachable, told
from gateway_wire import Serve, Site, get_or_create

from rivet_ray import CORS, Actor, action
from rivet_ray.errors import HostNotAllowed, OriginNotAllowed
from rivet_ray.gateway import GatewaySettings
from rivet_ray.gateway.origins import Origins, host_of, normal

APP = "https://app.example.com"
EVIL = "https://evil.example.com"
ASKED: list[str] = []
RECORDS = (ASKED,)
ROOM = get_or_create("room", "a")


class Room(Reachable, Actor[None]):
    @classmethod
    def on_auth(cls, request: Any, params: Any, intents: frozenset[str]) -> Any:
        ASKED.append("on_auth")

    @action
    def whoami(self) -> None: ...


async def by_message(site: Site, query: Any, params: Any) -> str | None:
    return told(await site.post("/registry/actors/message", site.headers(query)))


async def by_stream(site: Site, query: Any, params: Any) -> str | None:
    path = "/registry/actors/connect/sse"
    return told(await site.post(path, site.headers(query), method="GET"))


async def by_metadata(site: Site, query: Any, params: Any) -> str | None:
    return told(await site.post("/metadata", site.headers(query), method="GET"))


WAYS: dict[str, Knock] = {
    **{name: knock for name, (knock, _) in SURFACES.items()},
    "stream": by_stream,
    "message": by_message,
    "metadata": by_metadata,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("origin", [EVIL, "null", f"{APP}:8443", ""])
async def test_a_foreign_page_is_refused_before_anything(
    serve: Serve, way: str, origin: str
) -> None:
    site = await serve({"room": Room})
    site.forged = {"Origin": origin}
    await site.take(__name__, "ASKED")
    assert await WAYS[way](site, ROOM, ...) == "origin_not_allowed"
    site.forged = {}
    assert await site.take(__name__, "ASKED") == []
    assert (await site.call({"getForKey": ROOM["getOrCreateForKey"]}, "whoami")).code == (
        "actor_not_found"
    )


@pytest.mark.parametrize("way", WAYS)
async def test_cors_decides_on_every_transport(serve: Serve, way: str) -> None:
    site = await serve({"room": Room}, settings=GatewaySettings(cors=CORS(APP)))
    site.forged = {"Origin": EVIL}
    assert await WAYS[way](site, ROOM, ...) == "origin_not_allowed"


@pytest.mark.parametrize("way", SURFACES)
async def test_who_passes(serve: Serve, way: str) -> None:
    """The server's own pages, those that are named, and whoever is no page."""
    site = await serve({"room": Room}, settings=GatewaySettings(cors=CORS(APP)))
    for origin in (None, f"http://{site.address}", APP, APP.upper(), f"{APP}:443"):
        site.forged = {} if origin is None else {"Origin": origin}
        assert await SURFACES[way][0](site, ROOM, ...) is None


async def test_any_origin_is_any(serve: Serve) -> None:
    site = await serve({"room": Room}, settings=GatewaySettings(cors=CORS("*")))
    site.forged = {"Origin": "null"}
    for knock, _ in SURFACES.values():
        assert await knock(site, ROOM, ...) is None


# --- The rule alone -------------------------------------------------------------------


def scope(origin: str | None, host: str | None = "a.example", scheme: str = "http") -> Any:
    given = [(b"origin", origin), (b"host", host)]
    headers = [(name, value.encode()) for name, value in given if value is not None]
    return {"type": "http", "scheme": scheme, "headers": headers}


def passes(origin: str | None, host: str | None = "a.example", scheme: str = "http") -> bool:
    try:
        Origins(None).check(scope(origin, host, scheme), None)
    except OriginNotAllowed:
        return False
    return True


def test_the_own_origin() -> None:
    """Behind a proxy that ends TLS a server sees http; where it sees https, it is https."""
    assert passes("http://a.example")
    assert passes("https://A.example:443", "A.EXAMPLE")
    assert passes("https://a.example", "a.example:443")
    assert passes("http://[::1]:80", "[::1]")
    assert passes("https://a.example", scheme="https")
    assert not passes("http://a.example", scheme="https")
    for origin in (
        "http://a.example:81",
        "http://b.example",
        "ftp://a.example",
        "null",
        "a.example",
    ):
        assert not passes(origin), origin
    assert not passes("http://a.example", None)
    assert passes(None, None)


@pytest.mark.parametrize("text", ["null", "", "http://a/x", "http://u@a", "http://a:x", "http://["])
def test_what_is_no_origin(text: str) -> None:
    assert normal(text) is None


async def test_a_verdict_that_is_no_origin_admits_nobody() -> None:
    """`null` is no origin either, but not the same one."""
    origins = Origins(CORS(lambda _: "app.example"))
    page = scope("null")
    with pytest.raises(OriginNotAllowed):
        origins.check(page, await origins.permission(page))
    origins = Origins(CORS(lambda _: "https://APP.example"))
    page = scope("https://app.example:443")
    origins.check(page, await origins.permission(page))


async def test_loopback_pages() -> None:
    origins = Origins(None, loopback=True)
    for good in (
        "http://localhost:5173",
        "http://127.9.9.9",
        "http://[::1]:1",
        "http://x.localhost",
    ):
        assert await origins.permission(scope(good)) == good
    for bad in ("http://localhost.evil.example", "http://127.0.0.1.evil.example", "null"):
        assert await origins.permission(scope(bad)) is None


@pytest.mark.parametrize(
    ("hosts", "host", "allowed"),
    [
        (["127.0.0.1"], "127.0.0.1:8080", True),
        (["127.0.0.1"], "LOCALHOST:1", True),
        (["127.0.0.1"], "[::1]:1", True),
        (["127.0.0.1"], "evil.example", False),
        (["127.0.0.1"], "10.0.0.1", False),
        (["127.0.0.1"], "a@localhost", False),
        (["0.0.0.0"], "10.0.0.1:80", True),
        (["0.0.0.0"], "evil.example", False),
        (["127.0.0.1", "app.internal"], "App.Internal:80", True),
        (None, "evil.example", True),
    ],
)
def test_names_of_the_server(hosts: list[str] | None, host: str, allowed: bool) -> None:
    origins = Origins(None, hosts=hosts)
    if allowed:
        origins.check_host(scope(None, host))
        return
    with pytest.raises(HostNotAllowed, match="--allow-host"):
        origins.check_host(scope(None, host))


def test_a_host_is_a_name_and_a_port() -> None:
    assert host_of("A.example.:80") == ("a.example", 80)
    assert host_of("a/b") is host_of("") is host_of("a:b") is None
