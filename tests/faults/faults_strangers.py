"""More rows for the hostile neighbour: hooks and types that fail, and callers without proof."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any
from urllib.parse import quote

from faults_neighbours import Place, message, row
from websockets.exceptions import ConnectionClosed

FOREIGN = "https://mallory.example"


def status(response: Any) -> int:
    return 0 if response is None else response.status_code


# --- Hooks and types of user code -----------------------------------------------


@row("A4 an argument whose type raises, on cold actors")
async def _(place: Place) -> None:
    for number in range(place.times(100)):
        at = f" cold {number}"
        bad, *good = await asyncio.gather(
            place.call("take", {"value": 1}, at=at),
            *(place.call("read", 1, at=at) for _ in range(3)),
        )
        assert status(bad) != 200
        assert list(map(status, good)) == [200] * 3


@row("A5 a start that calls itself")
async def _(place: Place) -> None:
    for number in range(place.times(100)):
        assert status(await place.call("ping", kind="circle", at=f"{number}")) != 200


@row("A6 two stops that call each other")
async def _(place: Place) -> None:
    for number in range(place.times(60)):
        ends = (f" {number} 1", f" {number} 2")
        await asyncio.gather(*(place.call("nap", kind="pair", at=at) for at in ends))


@row("A7 starts that fail")
async def _(place: Place) -> None:
    for number in range(place.times(200)):
        assert status(await place.call("ping", kind="failing", at=f"{number % 10}")) != 200


@row("A8 a connection state that cannot be saved")
async def _(place: Place) -> None:
    for _ in range(place.times(60)):
        # Its actor is given up, which ends its connections.
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(10), place.socket(kind="unset") as socket:
                await socket.send(message(1, "spoil"))
                await socket.recv()


@row("A10 an end with calls behind it")
async def _(place: Place) -> None:
    for number in range(place.times(60)):
        at = f" mortal {number}"
        calls = [place.call("end", at=at), *(place.call("increment", at=at) for _ in range(3))]
        assert list(map(status, await asyncio.gather(*calls))) == [200] * 4


# --- Callers without proof ----------------------------------------------------------


@row("D1 tokens that were made up")
async def _(place: Place) -> None:
    found: list[Any] = []
    async with place.socket(first=found.append):
        init = found[0]["b"]["i"]
        headers = {
            "X-RivetKit-Actor": init["ai"],
            "X-RivetKit-Conn": init["ci"],
            "X-RivetKit-Encoding": "json",
        }
        for number in range(place.times(1_000)):
            token = {"X-RivetKit-Conn-Token": f"{number}"}
            posted = message(1, "increment").encode()
            answer = await place.post("/actors/message", headers | token, posted)
            assert status(answer) == 400


@row("D3 a page of a foreign origin")
async def _(place: Place) -> None:
    headers = place.headers(place._query(place.who)) | {"Origin": FOREIGN}
    for _ in range(place.times(200)):
        answer = await place.post("/actors/actions/increment", headers, b'{"a":[]}')
        assert status(answer) == 403
        # The upgrade is never refused; what comes first is the refusal.
        found: list[Any] = []
        with contextlib.suppress(ConnectionClosed):
            async with place.socket(origin=FOREIGN, first=found.append):
                pass
        assert "i" not in found[0]["b"], found


@row("D4 a return with other parameters")
async def _(place: Place) -> None:
    found: list[Any] = []
    async with place.socket(first=found.append):
        init = found[0]["b"]["i"]
    opened = {init["ci"]: place.who}
    """The parameters of each connection's opening: one that comes back keeps them."""
    for _ in range(place.times(100)):
        offer = ["conn_seen.0", f"conn.{init['ci']}", f"conn_token.{quote(init['ct'], safe='')}"]
        async with place.socket(params="admin", offer=offer, first=found.append) as socket:
            init = found[-1]["b"]["i"]
            await socket.send(message(1, "params"))
            answer = json.loads(await socket.recv())["b"]
            assert answer["ar"]["o"] == opened.setdefault(init["ci"], "admin"), answer


@row("D6 ids that are guessed")
async def _(place: Place) -> None:
    for number in range(place.times(1_000)):
        headers = place.headers(json.dumps({"getForId": {"actorId": f"{number:016x}"}}))
        answer = await place.post("/actors/actions/increment", headers, b'{"a":[]}')
        assert status(answer) in (400, 403, 404)


@row("D11 a raw path that looks like a socket's")
async def _(place: Place) -> None:
    headers = place.headers(place._query(place.who)) | {"Origin": FOREIGN}
    for _ in range(place.times(200)):
        answer = await place.post("/actors/raw/http/a/raw/websocket/b", headers, b"")
        assert status(answer) == 403
        assert answer is not None
        assert "access-control-allow-origin" not in answer.headers


@row("E10 events that are not read")
async def _(place: Place) -> None:
    async with place.socket(max_queue=1) as socket:
        await socket.send(json.dumps({"b": {"sr": {"e": "said", "s": True}}}))
        for _ in range(max(place.times(200), 100)):
            await place.call("shout", 900_000)
