"""`/actors/raw/websocket/{path}`: fidelity, subprotocols, closes."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any, ClassVar

import pytest
from gateway_raw import closed, raw_socket, receive
from gateway_streams import statistics
from gateway_wire import JSON, Serve, Wire, get, get_or_create
from starlette.websockets import WebSocket, WebSocketDisconnect

from rivet_ray import Actor, NoConnection, UserError, action
from rivet_ray.gateway import GatewaySettings


@pytest.fixture
def wire() -> Wire:
    return JSON


class Sockets(Actor[int]):
    public = True
    ends: ClassVar[list[tuple[int, str]]] = []

    def create_state(self, input: Any) -> int:
        return 0

    @action
    def count(self) -> int:
        return self.state

    def on_connect(self, conn: Any) -> None:
        if conn.params is not None:
            self.state += 1_000

    async def on_websocket(self, websocket: WebSocket) -> None:
        await getattr(self, "socket_" + websocket.url.path.strip("/").partition("/")[0])(websocket)

    async def socket_echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    Sockets.ends.append((message["code"], message.get("reason") or ""))
                    return
                await websocket.send({**message, "type": "websocket.send"})
        except WebSocketDisconnect as end:
            Sockets.ends.append((end.code, end.reason))

    async def socket_seen(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            conn = self.conn.id
        except NoConnection:
            conn = "none"
        await websocket.send_json(
            {
                "path": websocket.url.path,
                "query": websocket.url.query,
                "headers": dict(websocket.headers),
                "offered": websocket.scope["subprotocols"],
                "auth": websocket.state.auth,
                "params": websocket.state.params,
                "conn": conn,
            }
        )

    async def socket_choose(self, websocket: WebSocket) -> None:
        await websocket.accept(websocket.scope["subprotocols"][-1], [(b"x-mine", b"1")])

    async def socket_code(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("last")
        await websocket.close(4321, "genug für heute")

    async def socket_refuse(self, websocket: WebSocket) -> None:
        await websocket.close(4403, "not you")

    async def socket_boom(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.state += 1
        raise ValueError("the password is hunter2")

    async def socket_early(self, websocket: WebSocket) -> None:
        raise UserError("no", code="no_such_thing")

    async def socket_fail(self, websocket: WebSocket) -> None:
        await websocket.accept()
        raise UserError("no", code="no_such_thing")

    async def socket_leave(self, websocket: WebSocket) -> None:
        await websocket.accept()

    async def socket_wrong(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(1006)

    async def socket_long(self, websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_bytes(b"x" * int(text))

    async def socket_end(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.destroy()
        await asyncio.Event().wait()

    async def socket_sum(self, websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            self.state += int(text)
            await websocket.send_text(str(self.state))


class Plain(Actor[None]):
    public = True


ACTORS: dict[str, Any] = {"sockets": Sockets, "plain": Plain}
A = get_or_create("sockets", "a")


@pytest.mark.parametrize("below", ["/registry/actors", "/actors", "/registry/other/part"])
async def test_text_and_bytes_come_as_they_went(serve: Serve, below: str) -> None:
    site = await serve(ACTORS)
    async with raw_socket(site, A, "/echo", below=below) as socket:
        assert socket.subprotocol == "rivetkit"
        for message in (
            "",
            b"",
            "grüße ✓ \0",
            bytes(range(256)),
            os.urandom(3_000_000),
            "é" * 99_999,
        ):
            await socket.send(message)
            assert await receive(socket) == message
        for number in range(500):
            await socket.send(str(number) if number % 2 else str(number).encode())
        for number in range(500):
            expected = str(number) if number % 2 else str(number).encode()
            assert await receive(socket) == expected, "in order"


async def test_what_the_actor_sees(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with raw_socket(
        site, A, "/seen/x%20y?a=%20b", params={"p": 1}, own=("chat.v2", "chat.v1")
    ) as socket:
        seen = json.loads(await receive(socket))
        assert await closed(socket) == (1000, "", [])
    assert (seen["path"], seen["query"]) == ("/seen/x y", "a=%20b")
    assert seen["offered"] == ["chat.v2", "chat.v1"]
    assert not [name for name in seen["headers"] if name.startswith("sec-websocket")]
    assert (seen["auth"], seen["params"], seen["conn"]) == (None, {"p": 1}, "none")
    assert (await site.call(A, "count")).output == 0, "no hook of a connection has run"


async def test_the_actor_chooses_among_the_users_own_subprotocols(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with raw_socket(site, A, "/choose", own=("chat.v2", "chat.v1")) as socket:
        assert socket.subprotocol == "chat.v1"
        assert socket.response is not None
        assert socket.response.headers["x-mine"] == "1"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/code", (4321, "genug für heute", ["last"])),
        ("/refuse", (4403, "not you", [])),
        ("/boom", (1011, "internal_error", [])),
        ("/early", (1011, "no_such_thing", [])),
        ("/fail", (1011, "no_such_thing", [])),
        ("/leave", (1000, "", [])),
        ("/wrong", (1011, "internal_error", [])),
    ],
)
async def test_how_the_actor_ends_it(serve: Serve, path: str, expected: Any) -> None:
    site = await serve(ACTORS)
    async with raw_socket(site, A, path) as socket:
        assert await closed(socket) == expected


async def test_how_the_client_ends_it(serve: Serve) -> None:
    site = await serve(ACTORS)
    Sockets.ends.clear()
    async with raw_socket(site, A, "/echo") as socket:
        await socket.close(4567, "tschüß")
    async with raw_socket(site, A, "/echo") as socket:
        await socket.send("x")
        assert await receive(socket) == "x"
        socket.transport.abort()
    for _ in range(300):
        if len(Sockets.ends) == 2:
            break
        await asyncio.sleep(0.01)
    assert sorted(Sockets.ends)[1] == (4567, "tschüß")
    assert sorted(Sockets.ends)[0][0] in (1005, 1006)


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        (None, 1011, "invalid_query_json"),
        ("{", 1011, "invalid_query_json"),
        (get("sockets", "missing"), 1011, "actor_not_found"),
        (get_or_create("nobody", "a"), 1011, "actor_not_found"),
        (get_or_create("plain", "a"), 1011, "websocket_handler_not_defined"),
    ],
)
async def test_refusals_are_closes_with_a_reason(
    serve: Serve, query: Any, code: int, reason: str
) -> None:
    site = await serve(ACTORS)
    async with raw_socket(site, query) as socket:
        assert await closed(socket) == (code, reason, [])


async def test_many_at_once_and_what_they_change_is_kept(serve: Serve) -> None:
    site = await serve(ACTORS)

    async def one() -> None:
        async with raw_socket(site, A, "/sum") as socket:
            for _ in range(10):
                await socket.send("1")
                await receive(socket)

    await asyncio.gather(*(one() for _ in range(20)))
    assert (await site.call(A, "count")).output == 200


async def test_a_destroyed_actor_closes_its_sockets(serve: Serve) -> None:
    site = await serve(ACTORS)
    async with raw_socket(site, A, "/end") as socket:
        assert await closed(socket) == (1012, "actor_stopped", [])


async def test_a_message_of_the_actor_that_is_too_long_closes_its_socket_alone(
    serve: Serve,
) -> None:
    """What has come of it is bounded in bytes, as all that waits for a client."""
    site = await serve(ACTORS, settings=GatewaySettings(max_queued_size=256 * 1024))
    async with raw_socket(site, A, "/long") as other, raw_socket(site, A, "/long") as socket:
        for size in (200_000, 255_000, 200_000):
            await socket.send(str(size))
            assert len(await receive(socket)) == size
        await socket.send(str(400_000))
        assert await closed(socket) == (1009, "message_too_long", [])
        await other.send("100")
        assert len(await receive(other)) == 100
    assert (await statistics(site))["refused"]["raw message"] == 1
