"""The server around the gateway: as the command line runs it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest
from gateway_servers import serving
from gateway_wire import JSON, Site, get_or_create

from examples.counter import App
from rivet_ray import Actor, action
from rivet_ray.gateway.server import TRUSTED, PortTaken, Server, bind, uvicorn_config

A = get_or_create("counter", "a")


@pytest.mark.parametrize(
    ("trusted", "seen"),
    [
        (None, "127.0.0.1"),
        ("10.0.0.0/8", "127.0.0.1"),
        ("127.0.0.1", "10.1.1.1"),
        ("127.0.0.1,10.0.0.0/8", "6.6.6.6"),
    ],
)
async def test_a_proxy_is_believed_where_it_is_named(
    trusted: str | None, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last address that no trusted proxy has, and so no further than they vouch for it."""
    monkeypatch.delenv(TRUSTED, raising=False)
    if trusted is not None:
        monkeypatch.setenv(TRUSTED, trusted)
    async with serving("direct", JSON, {"known": Known}) as site:
        site.forged = {"X-Forwarded-For": "6.6.6.6, 10.1.1.1"}
        assert (await site.call(get_or_create("known"), "address")).output == seen


class Known(Actor[None]):
    public = True

    @action
    def address(self) -> str | None:
        assert self.conn.request is not None
        return self.conn.request.client


async def test_serving_and_stopping() -> None:
    """Its own `serve`, with a client connected when it stops."""
    served = App.create_server(store="memory://")
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        ready = asyncio.Event()
        config = uvicorn_config(served.handler, "127.0.0.1", port, log_config=None)
        server = Server(config, ready.set)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await ready.wait()
        async with httpx.AsyncClient(verify=False) as http:
            site = Site(f"127.0.0.1:{port}", JSON, http)
            assert (await site.call(A, "increment", 2)).output == 2
            async with site.connect(A) as client:
                await client.subscribe("new_count")
                assert await client.ask(0, "get_count") == 2
                server.should_exit = True
                code, _, before = await client.closed()
                assert code in (1001, 1012)
                assert before == []
        async with asyncio.timeout(5):
            await task
    await served.client.aclose()


async def test_no_delay_on_the_bound_socket() -> None:
    """Without TCP_NODELAY each answer on a kept connection takes 40 ms longer.

    uvloop sets it by itself; asyncio looks at the protocol that the socket names.
    """
    found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    class Look(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted = transport.get_extra_info("socket")
            found.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.abort()  # type: ignore[attr-defined]

    with bind("127.0.0.1", 0) as listener:
        server = await asyncio.get_running_loop().create_server(Look, sock=listener)
        with socket.create_connection(listener.getsockname()):
            assert await found
        server.close()
        await server.wait_closed()


def test_a_port_that_is_taken() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            bind("127.0.0.1", port)
