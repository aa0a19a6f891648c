"""`fetch` and `websocket` of handles, over the network and without one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from ways import CALLING, World, eventually, over
from websockets.exceptions import ConnectionClosed

from rivet_ray.errors import RequestFailed

RAW = [way for way in CALLING if way.transport in ("http", "inline")]
"""Raw requests and sockets are the same whatever connections go over."""
pytestmark = pytest.mark.parametrize("way", over(RAW))
LONG = b"0123456789" * 50_000


async def test_what_the_actor_sees(world: World, key: str) -> None:
    site = world.app.site.get_or_create(key, params={"p": [1, "é"]})
    answer = await site.fetch(
        "/a%2Fb//c/?x=%20y&x=2",
        method="PATCH",
        headers={"X-Mine": "one", "X-RivetKit-Auth-Data": "forged", "TE": "trailers"},
        body="grün",
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {
        "method": "PATCH",
        "path": "/a%2Fb//c/",
        "query": "x=%20y&x=2",
        "mine": ["one"],
        "ours": [],
        "body": "grün",
        "params": {"p": [1, "é"]},
    }
    assert (await site.fetch()).json()["path"] == "/"


@pytest.mark.parametrize("body", [b"", b"short", LONG])
async def test_bodies(world: World, key: str, body: bytes) -> None:
    answer = await world.app.site.get_or_create(key).fetch("echo", method="PUT", body=body)
    assert (answer.status_code, answer.headers["x-mine"]) == (201, "its")
    assert answer.content == body


async def test_bodies_that_stream(world: World, key: str) -> None:
    sent: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for number in range(200):
            sent.append(number)
            yield LONG[:20_000]

    site = world.app.site.get_or_create(key)
    answer = await site.fetch("echo", method="POST", body=body(), stream=True)
    assert answer.status_code == 201
    # Over HTTP the client sends all before it reads.
    assert world.way.transport == "http" or len(sent) < 200, "it is gathered before it is sent"
    size = 0
    async for chunk in answer.aiter_bytes():
        size += len(chunk)
    assert size == 200 * 20_000
    await answer.aclose()


async def test_a_body_that_fails(world: World, key: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        raise LookupError("there is no more")

    with pytest.raises(LookupError):
        await world.app.site.get_or_create(key).fetch("echo", method="POST", body=body())


async def test_a_response_that_is_left(world: World, key: str) -> None:
    site = world.app.site.get_or_create(key)
    answer = await site.fetch("echo", method="POST", body=LONG * 4, stream=True)
    async for _ in answer.aiter_raw():
        break
    await answer.aclose()
    assert (await site.fetch("add", body="12", method="POST")).text == "2"


async def test_errors_are_answers(world: World, key: str) -> None:
    site = world.app.site.get_or_create(key)
    for answer, status, code, outcome in (
        (await site.fetch("fail"), 400, "wished", "took_effect"),
        (await site.fetch("boom"), 500, "internal_error", "took_effect"),
        (await world.app.site.get("no" + key).fetch(), 400, "actor_not_found", "not_started"),
        (
            await world.client.actor("echo", key).fetch(),
            404,
            "fetch_handler_not_defined",
            "not_started",
        ),
    ):
        told = answer.json()
        assert (answer.status_code, told["c"]) == (status, code)
        assert answer.headers["x-rivetkit-outcome"] == outcome
        assert "hunter2" not in answer.text
        assert told.get("md") == {"wished": [1], "internal_error": {}}.get(code)


async def test_a_response_that_breaks_off_never_looks_complete(world: World, key: str) -> None:
    site = world.app.site.get_or_create(key)
    with pytest.raises(RequestFailed):
        await site.fetch("broken")
    answer = await site.fetch("broken", stream=True)
    assert answer.status_code == 200
    with pytest.raises(httpx.HTTPError):
        await answer.aread()
    await answer.aclose()


async def test_an_actor_asks_another(world: World, key: str) -> None:
    """Without a network, wherever its caller is."""
    site = world.app.site.get_or_create(key)
    assert await site.fetch_other("other" + key, "add", "123") == (200, "3")
    status, text = await site.fetch_other("other" + key, "echo", "x" * 100_000)
    assert (status, len(text)) == (201, 100_000)
    assert (await site.fetch_other("other" + key, "fail", ""))[0] == 400


# --- Sockets ----------------------------------------------------------------------


async def test_messages_come_as_they_went(world: World, key: str) -> None:
    site = world.app.site.get_or_create(key)
    messages: list[str | bytes] = ["grün", b"\xff\x00", "", b"", "é" * 100_000, LONG]
    async with site.websocket("talk") as socket:
        for message in messages:
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(["in ", "frag", "ments"])
        assert await socket.recv() == "in fragments"
        assert socket.subprotocol == "rivetkit"
        await socket.close(4002, "enough")

    async def counted() -> bool:
        return await site.counted() == len(messages) + 1 + 4002

    await eventually(counted)


async def test_many_messages_wait_for_a_slow_reader(world: World, key: str) -> None:
    async with world.app.site.get_or_create(key).websocket("talk") as socket:
        for number in range(50):
            await socket.send(f"{number}" * 5_000)
        for number in range(50):
            assert await socket.recv() == f"{number}" * 5_000


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("refuse", 1011, "wished"),
        ("close", 4001, "as you wish"),
        ("boom", 1011, "internal_error"),
    ],
)
async def test_how_the_actor_ends_it(
    world: World, key: str, path: str, code: int, reason: str
) -> None:
    async with world.app.site.get_or_create(key).websocket(path) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (code, reason)
        assert socket.response is not None
        assert socket.response.headers.get("X-Mine") == ("its" if path == "close" else None)


async def test_no_actor_and_no_handler(world: World, key: str) -> None:
    for handle, reason in (
        (world.app.site.get("no" + key), "actor_not_found"),
        (world.app.echo.get_or_create(key), "websocket_handler_not_defined"),
    ):
        async with handle.websocket() as socket:
            with pytest.raises(ConnectionClosed) as caught:
                await socket.recv()
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1011, reason)


async def test_the_users_own_subprotocols(world: World, key: str) -> None:
    site = world.app.site.get_or_create(key)
    async with site.websocket("choose", protocols=["chat.v2", "chat.v1"]) as socket:
        assert socket.subprotocol == "chat.v1"


async def test_an_actor_talks_to_another(world: World, key: str) -> None:
    site = world.app.site.get_or_create(key)
    told = await site.talk_to_other("other" + key, "a", "b" * 100_000)
    assert list(told) == ["a", "b" * 100_000]
