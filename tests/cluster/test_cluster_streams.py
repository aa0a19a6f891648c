"""An event stream through HAProxy and two Serve replicas: at once, and to the right gateway."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster_worlds import ServeProcess
from counted_actors import App, Counter
from redis_server import RedisServer

PATIENCE = 40.0
AT_ONCE = 3.0
"""Seconds: far less than the resume window, far more than this machine needs."""

pytestmark = pytest.mark.timeout(240)

_prefixes = itertools.count()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
async def served(redis: RedisServer) -> AsyncIterator[ServeProcess]:
    store = redis.url(f"streams-{next(_prefixes)}")
    served = ServeProcess(store, "coordinate", "--replicas", "2")
    await served.start()
    yield served
    await served.end()


def peers(process: int) -> set[int]:
    """The local ports that a process is connected to."""
    inodes = set()
    for entry in Path(f"/proc/{process}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    found = set()
    for line in Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes and fields[3] == "01":
            found.add(int(fields[2].rpartition(":")[2], 16))
    return found


def listening(process: int) -> set[int]:
    """The ports that a process listens on."""
    lines = Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]
    inodes = {
        str(entry.readlink())[len("socket:[") : -1]
        for entry in Path(f"/proc/{process}/fd").iterdir()
        if str(entry.readlink()).startswith("socket:[")
    }
    return {
        int(fields[1].rpartition(":")[2], 16)
        for fields in map(str.split, lines)
        if fields[9] in inodes and fields[3] == "0A"
    }


async def at_once(ask: Callable[[], Awaitable[Any]], expected: Any) -> None:
    """Ask until the answer is the expected one, which must be soon."""
    found = await ask()
    for _ in range(int(AT_ONCE * 100)):
        if found == expected:
            return
        await asyncio.sleep(0.01)
        found = await ask()
    raise AssertionError(f"it is still {found}")


class Reader:
    """The messages of a stream, as they arrive."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self, within: float = AT_ONCE) -> Any:
        """Raises TimeoutError, after which the stream cannot be read on."""
        async with asyncio.timeout(within):
            async for line in self._lines:
                if line.startswith("data: "):
                    return json.loads(line.removeprefix("data: "))["b"]
        raise AssertionError("the stream ended")


async def test_a_stream_and_its_messages_meet_two_replicas(served: ServeProcess) -> None:
    headers = {
        "X-RivetKit-Query": json.dumps({"getOrCreateForKey": {"name": "counter", "key": ["k"]}}),
        "X-RivetKit-Encoding": "json",
    }
    gateways = served.gateways()
    assert len(gateways) == 2

    async def post(init: dict[str, str], body: Any) -> None:
        # A connection of its own, so that HAProxy chooses a replica for each.
        async with httpx.AsyncClient(timeout=PATIENCE) as http:
            answer = await http.post(
                f"{served.url}/actors/message",
                headers={
                    "X-RivetKit-Actor": init["ai"],
                    "X-RivetKit-Conn": init["ci"],
                    "X-RivetKit-Conn-Token": init["ct"],
                    "X-RivetKit-Encoding": "json",
                },
                json={"b": body},
            )
        assert (answer.status_code, answer.content) == (200, b"{}"), answer.text

    async def hooks() -> Any:
        async with httpx.AsyncClient(timeout=PATIENCE) as http:
            url = f"{served.url}/actors/actions/hooks"
            return (await http.post(url, headers=headers, json={"a": []})).json()["o"]

    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        connecting = {**headers, "X-RivetKit-Conn-Params": '"ann"'}
        url = f"{served.url}/actors/connect/sse"
        async with http.stream("GET", url, headers=connecting) as response:
            assert response.status_code == 200
            reader = Reader(response)
            init = (await reader.next(PATIENCE))["i"]  # The host is started for it.
            (host,) = served.hosts()
            ports = listening(host)
            reached = [gateway for gateway in gateways if peers(gateway) & ports]
            assert len(reached) == 1, "only the gateway with the stream knows the host"

            await post(init, {"sr": {"e": "counted", "s": True}})
            for number in range(20):
                await post(init, {"ar": {"i": number, "n": "increment", "a": []}})
                # The event and the answer are here while the stream is open.
                received = [await reader.next() for _ in range(2)]
                assert {"ar": {"i": number, "o": number + 1}} in received
                assert {"ev": {"n": "counted", "a": [number + 1]}} in received
            reached = [gateway for gateway in gateways if peers(gateway) & ports]
            assert len(reached) == 2, "messages went through both replicas"
            assert await hooks() == ["connect ann"]

    await at_once(hooks, ["connect ann", "disconnect ann"])


async def test_the_client_and_a_host_that_is_killed(served: ServeProcess) -> None:
    async with App.client(served.url, timeout=PATIENCE, transport="sse") as client:
        seen: list[int] = []
        connection = client.counter.get_or_create("k").connect(params="ann")
        connection.on(Counter.counted, seen.append)
        async with connection as open_:
            assert [await open_.actor.increment() for _ in range(10)] == list(range(1, 11))
            (host,) = served.hosts()
            os.kill(host, signal.SIGKILL)
            # What was on its way to the host is sent again, since it has a key.
            keyed = [
                open_.actor.with_options(idempotency_key=str(number)).increment()
                for number in range(10)
            ]
            again = await asyncio.wait_for(asyncio.gather(*keyed), PATIENCE)
            assert sorted(again) == list(range(11, 21))

            async def events() -> list[int]:
                return seen

            await at_once(events, list(range(1, 21)))
            hooks = client.counter.get("k").hooks
            assert await hooks() == ["connect ann"]
        await at_once(hooks, ["connect ann", "disconnect ann"])
