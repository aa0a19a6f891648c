"""Every name that an action may have is called over HTTP as on a connection."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gateway_room import Room
from gateway_wire import Serve, get_or_create

from rivet_ray import action

NAMES = ["a.b", "a b", "a?b", "a#b", "a%2Fb", "größe", "🎉", "a:b", "a+b", "...", "a&b=c", "a;b"]


def named(name: str) -> Any:
    def work(self: Any) -> str:
        return name

    return action(name=name)(work)


Odd: Any = type("Odd", (Room,), {f"work_{at}": named(name) for at, name in enumerate(NAMES)})


async def test_odd_names(serve: Serve) -> None:
    site = await serve({"a/b ü": Odd})
    query = get_or_create("a/b ü", "a")
    async with site.connect(query) as socket:
        for name in NAMES:
            path = f"/registry/actors/actions/{quote(name, safe='')}"
            body = site.wire.dumps({"a": []})
            assert (await site.post(path, site.headers(query), body)).output == name
            assert await socket.ask(0, name) == name
