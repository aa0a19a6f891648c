"""Raw requests and sockets over the death of their host's process (C2, C8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from counted_actors import App
from redis_server import RedisServer
from remote_worlds import PATIENCE, HostProcess, gateway
from websockets.exceptions import ConnectionClosed


@pytest.fixture
async def host(redis: RedisServer) -> AsyncIterator[HostProcess]:
    host = HostProcess(redis.url("raw"))
    await host.start()
    yield host
    await host.end()


async def test_a_host_that_is_killed(redis: RedisServer, host: HostProcess) -> None:
    async with (
        gateway(redis.url("raw"), host) as url,
        App.client(url, timeout=PATIENCE) as client,
    ):
        counter = client.counter.get_or_create("k")
        async with counter.websocket() as socket:
            await socket.send("5")
            assert await socket.recv() == "5"
            stream = await counter.fetch("stream", stream=True)
            waiting = asyncio.ensure_future(counter.fetch("wait"))
            for _ in range(100):
                if await counter.read() == 6:
                    break
                await asyncio.sleep(0.01)
            await host.kill()

            lost = await waiting
            assert (lost.status_code, lost.json()["c"]) == (503, "actor_stopped")
            assert lost.headers["x-rivetkit-outcome"] == "unknown"
            with pytest.raises(httpx.RemoteProtocolError):
                async for _chunk in stream.aiter_raw():
                    pass
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "actor_stopped")

        parked = [asyncio.ensure_future(counter.fetch("x")) for _ in range(10)]
        await asyncio.sleep(0.2)
        assert not any(request.done() for request in parked), "they wait for the next host"
        await host.start()
        answers = await asyncio.gather(*parked)
        assert sorted(int(answer.text) for answer in answers) == list(range(7, 17))
