"""One counter on Ray, end to end: Serve, link, host actor, Redis; killed and not harmed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import counted_actors
import httpx
import pytest
from cluster_worlds import PATIENCE, ServeProcess, alive, eventually
from counted_actors import App, Counter
from counted_load import CALLERS, Told, load

from rivet_ray.errors import Forbidden

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=["coordinate", "partition"])
async def served(request: pytest.FixtureRequest, store: str) -> AsyncIterator[ServeProcess]:
    served = ServeProcess(store, request.param)
    await served.start()
    yield served
    await served.end()


async def test_a_host_is_killed_in_the_middle_of_50_callers(served: ServeProcess) -> None:
    async with App.client(served.url, timeout=PATIENCE) as client:
        told, until = Told(), asyncio.Event()
        seen: list[int] = []
        missed: list[bool] = []
        # Another actor, on the same host or its own: its socket must not notice.
        quiet: list[int] = []
        beside = client.counter.get_or_create("beside").connect(params="bob")
        beside.on(Counter.counted, quiet.append)
        connection = client.counter.get_or_create("k").connect(params="ann")
        connection.on(Counter.counted, seen.append)
        connection.on("resync", lambda: missed.append(True))
        async with beside, connection:
            assert await beside.actor.increment() == 1
            callers = [
                asyncio.ensure_future(load(client, "k", told, until, number))
                for number in range(CALLERS)
            ]
            await eventually(lambda: told.acknowledged > 2 * CALLERS)
            killed = served.hosts()
            assert killed
            for host in killed:
                os.kill(host, signal.SIGKILL)
            before = told.acknowledged
            await eventually(lambda: told.acknowledged > before + 2 * CALLERS)
            until.set()
            await asyncio.gather(*callers)
            told.check(await client.counter.get("k").read())
            print(told)
            assert not set(killed) & set(served.hosts())

            # The socket that missed nothing is still the same one.
            assert await beside.actor.increment() == 2
            await eventually(lambda: quiet == [1, 2])
            assert await client.counter.get("beside").hooks() == ["connect bob"]
            count = await client.counter.get("k").increment()
            await eventually(lambda: seen[-1] == count)
            assert seen == sorted(set(seen)), "no event is doubled"
            # Events may have been committed and not sent: said, never silence.
            assert missed or seen == list(range(seen[0], count + 1))


async def test_schedules_fire_once_where_their_actor_lives(served: ServeProcess) -> None:
    """In the partition topology a host must not wake the actors of others."""
    async with App.client(served.url, timeout=PATIENCE) as client:
        names = ["one", "two", "three"]
        # Their hosts start first, which may take longer than the schedules have.
        assert [await client.counter.get_or_create(name).read() for name in names] == [0, 0, 0]
        for name in names:
            await client.counter.get(name).increment_after(5000)
        assert [await client.counter.get(name).read() for name in names] == [0, 0, 0]
        await asyncio.sleep(6.0)
        assert [await client.counter.get(name).read() for name in names] == [1, 1, 1]
        for name in names:
            await client.counter.get(name).increment_after(3000)
        for host in served.hosts():
            os.kill(host, signal.SIGKILL)
        # Without a call: Ray starts the hosts again, and they know what is due.
        await asyncio.sleep(8.0)
        assert [await client.counter.get(name).read() for name in names] == [2, 2, 2]
        assert len(served.hosts()) in (1, len(names))


async def test_it_stops_on_ctrl_c_and_leaves_nothing(store: str) -> None:
    served = ServeProcess(store, "partition")
    await served.start()
    async with App.client(served.url, timeout=PATIENCE) as client:
        assert await client.counter.get_or_create("one").forward("two") == 1
        assert len(served.hosts()) == 2, "each actor has a process of its own"
    started = served.processes()
    assert any("haproxy" in title for title in started.values())
    assert await served.end() == 0
    assert not alive(started)


async def test_the_gateway_is_not_open_says_its_cors_and_does_not_deflate(store: str) -> None:
    """Without --open nobody uses a type that has no on_auth; CORS is the registry's."""
    served = ServeProcess(store, "coordinate")
    await served.start()
    try:
        async with App.client(served.url, timeout=PATIENCE) as client:
            with pytest.raises(Forbidden, match="neither defines on_auth nor says public"):
                await client.unguarded.get_or_create("a").act()
        assert await pages(served.url, "https://app.example.com", "https://b") == [True, False]
        assert not await deflates(served.url.removeprefix("http://"))
    finally:
        await served.end()


async def test_while_no_replica_is_ready_the_stand_in_answers_as_one(store: str) -> None:
    """HAProxy goes to Serve's own proxy then."""
    served = ServeProcess(store, "coordinate")
    await served.start()
    try:
        address = await fallback(served)
        async with App.client(f"http://{address}", timeout=PATIENCE) as client:
            counter = client.counter.get_or_create("a")
            assert [await counter.increment(), await counter.read()] == [1, 1]
            async with counter.connect() as connection:
                assert await connection.actor.increment() == 2
        assert await pages(f"http://{address}", "https://app.example.com", "https://b") == [
            True,
            False,
        ]
        assert not await deflates(address)
    finally:
        await served.end()


async def deflates(address: str) -> bool:
    """Whether a raw handshake that offers permessage-deflate gets it."""
    reader, writer = await asyncio.open_connection(*address.split(":"))
    try:
        writer.write(
            b"GET /actors/connect/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
            b"Sec-WebSocket-Protocol: rivetkit\r\n\r\n"
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    finally:
        writer.close()
        await writer.wait_closed()
    assert b" 101 " in head
    return b"permessage-deflate" in head


async def fallback(served: ServeProcess) -> str:
    """The address that HAProxy's configuration has for when no replica is ready."""
    async with asyncio.timeout(PATIENCE):  # It starts after the first replica.
        while True:
            for title in served.processes().values():
                found = re.search(r"haproxy .*-f (\S+)", title)
                configuration = _read(found[1]) if found else ""
                address = re.search(r"server \S+ (\S+) check backup", configuration)
                if address is not None:
                    return address[1]
            await asyncio.sleep(0.1)


def _read(path: str) -> str:
    return Path(path).read_text()


async def pages(base: str, *origins: str) -> list[bool]:
    """Whether pages of these origins may call."""
    found: list[bool] = []
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        for origin in origins:
            url = f"{base}/registry/actors/resolve"
            answer = await http.options(url, headers={"Origin": origin})
            assert answer.status_code == 204
            allowed = answer.headers.get("access-control-allow-origin")
            assert allowed in (None, origin)
            found.append(allowed is not None)
    return found


async def test_cors_of_the_command(store: str) -> None:
    """It stands in the place of the registry's."""
    own = ["http://localhost:5173", "http://localhost:3000"]
    options = [word for origin in own for word in ("--cors-origin", origin)]
    served = ServeProcess(store, "coordinate", *options)
    await served.start()
    try:
        assert await pages(served.url, *own, "https://app.example.com") == [True, True, False]
    finally:
        await served.end()


async def refused(*arguments: str) -> str:
    """What the command says; it has to be one line, at once."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rivet_ray", "serve", "counted_actors:App", *arguments),
        cwd=Path(counted_actors.__file__).parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 1
    assert not out
    [line] = said.decode().splitlines()
    return line


async def test_what_the_user_can_mend_is_one_line(store: str) -> None:
    assert "Say --ray" in await refused("--store", store)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "cannot be used" in await refused("--ray", "--store", store, "--port", port)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"redis://127.0.0.1:{free.getsockname()[1]}/0"
        assert "redis" in (await refused("--ray", "--store", nobody)).lower()
    assert "one process" in await refused("--ray", "--store", "memory://")
    path = await refused("--ray", "--store", store, "--cors-origin", "https://a.example.com/x")
    assert "an origin ends with its host or port" in path
