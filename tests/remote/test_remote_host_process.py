"""A host in a process of its own, killed and not harmed (promises C2, C4, C5, C8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from counted_actors import App, Counter
from counted_load import CALLERS, Told, load
from redis_server import RedisServer
from remote_worlds import PATIENCE, SECRET, HostProcess, eventually, gateway

from rivet_ray.client.between import between_actors
from rivet_ray.remote import Worker
from rivet_ray.remote.worker import Deposed
from rivet_ray.store import open_store


@pytest.fixture
async def host(store: str) -> AsyncIterator[HostProcess]:
    host = HostProcess(store)
    await host.start()
    yield host
    await host.end()


async def test_killed_in_the_middle_of_50_callers(store: str, host: HostProcess) -> None:
    async with gateway(store, host) as url, App.client(url, timeout=PATIENCE) as client:
        told, until = Told(), asyncio.Event()
        seen: list[int] = []
        missed: list[bool] = []
        connection = client.counter.get_or_create("k").connect(params="ann")
        connection.on(Counter.counted, seen.append)
        connection.on("resync", lambda: missed.append(True))
        async with connection:
            callers = [
                asyncio.ensure_future(load(client, "k", told, until, number))
                for number in range(CALLERS)
            ]
            for _ in range(2):
                await asyncio.sleep(0.5)
                await host.kill()
                before = told.acknowledged
                await host.start()
                enough = before + CALLERS
                await eventually(lambda enough=enough: told.acknowledged >= enough)
            until.set()
            await asyncio.gather(*callers)
            count = await client.counter.get("k").read()
            told.check(count)
            print(told)
            assert await connection.actor.read() == count
            await client.counter.get("k").increment()
            await eventually(lambda: seen[-1] == count + 1)
            assert seen == sorted(set(seen)), "no event is doubled"
            if not missed:
                assert seen == list(range(seen[0], count + 2)), "no event is lost"
                assert await client.counter.get("k").hooks() == ["connect ann"]
            # Otherwise it was killed between commit and send: said, never silence.


async def test_the_socket_stays_open_over_a_kill_without_load(
    store: str, host: HostProcess
) -> None:
    async with gateway(store, host) as url, App.client(url, timeout=PATIENCE) as client:
        seen: list[int] = []
        connection = client.counter.get_or_create("k").connect(params="ann")
        connection.on(Counter.counted, seen.append)
        async with connection as open_:
            assert await open_.actor.increment() == 1
            await host.kill()
            waiting = asyncio.ensure_future(open_.actor.increment())
            await host.start()
            assert await asyncio.wait_for(waiting, PATIENCE) == 2
            await eventually(lambda: len(seen) == 2)
            assert seen == [1, 2]
            assert await client.counter.get("k").hooks() == ["connect ann"]
        for _ in range(500):
            hooks = await client.counter.get("k").hooks()
            if len(hooks) > 1:
                break
            await asyncio.sleep(0.01)
        assert hooks == ["connect ann", "disconnect ann"]


async def test_actors_of_a_host_call_one_another(store: str, host: HostProcess) -> None:
    async with gateway(store, host) as url, App.client(url) as client:
        assert await client.counter.get_or_create("one").forward("two") == 1
        assert await client.counter.get("two").read() == 1


async def test_a_claim_carries_the_name_of_the_hosts_lease(store: str, host: HostProcess) -> None:
    """Who finds an actor's owner can look whether that host lives."""
    opened = await open_store(store)
    owners: set[str] = set()
    async with gateway(store, host) as url, App.client(url) as client:
        for key in ("one", "two"):
            counter = client.counter.get_or_create(key)
            await counter.increment()
            ownership = await opened.find_ownership(await counter.resolve())
            assert ownership is not None
            owners.add(ownership.owner)
    assert len(owners) == 1
    lease = await opened.find_lease(owners.pop())
    assert lease is not None
    assert not lease.dead
    await opened.close()


async def test_a_callback_of_user_code_does_not_end_it(store: str, host: HostProcess) -> None:
    async with gateway(store, host) as url, App.client(url) as client:
        counter = client.counter.get_or_create("k")
        assert await counter.increment() == 1
        await counter.exit_in_a_callback()
        assert await counter.increment() == 2
    assert await host.end() == 0


async def test_a_host_that_ends_in_order_gives_up_its_lease(store: str) -> None:
    host = HostProcess(store)
    await host.start()
    async with gateway(store, host) as url, App.client(url) as client:
        assert await client.counter.get_or_create("k").increment() == 1
        assert await host.end() == 0
        again = asyncio.ensure_future(client.counter.get("k").increment())
        await host.start()
        assert await asyncio.wait_for(again, PATIENCE) == 2
    assert await host.end() == 0


async def test_a_host_waits_for_its_store(redis: RedisServer, store: str) -> None:
    redis.kill()
    host = HostProcess(store)
    process = await host.spawn()
    await asyncio.sleep(1.0)
    assert process.returncode is None, "it does not give up"
    redis.start()
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
    assert b"listens at" in line
    await host.end()


async def test_a_host_that_is_marked_dead_ends(store: str) -> None:
    worker = Worker(App.definitions(), store, secret=SECRET, connect=between_actors)
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(worker.run(ready=listening.set_result))
    address = await asyncio.wait_for(listening, PATIENCE)
    opened = await open_store(store)
    marked = False
    for _ in range(500):
        lease = await opened.find_lease(worker.incarnation)
        if lease is not None:
            assert lease.address == address == worker.address
            marked = await opened.mark_dead(worker.incarnation, lease.beat)
        if marked:
            break
        await asyncio.sleep(0.01)
    assert marked
    with pytest.raises(Deposed):
        await asyncio.wait_for(running, PATIENCE)
    dead = await opened.find_lease(worker.incarnation)
    assert dead is not None
    assert dead.dead
    await opened.close()


@pytest.mark.parametrize("secret", [None, "short"])
async def test_no_secret_is_one_clear_line(store: str, secret: str | None) -> None:
    host = HostProcess(store, secret=secret)
    process = await host.spawn()
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 1
    lines = said.decode().splitlines()
    assert len(lines) == 1
    assert "cluster secret" in lines[0]
