"""Processes that are kept ready: used by new and restarted hosts, replaced, and not needed."""

from __future__ import annotations

import os
import signal

import pytest
from cluster_worlds import PATIENCE, ServeProcess, alive, eventually
from counted_actors import App

pytestmark = pytest.mark.timeout(240)


async def test_hosts_start_in_spares_which_are_replaced(store: str) -> None:
    served = ServeProcess(store, "partition")
    await served.start()
    try:
        await eventually(lambda: len(served.spares()) == 2)
        async with App.client(served.url, timeout=PATIENCE) as client:
            for number in range(3):
                spares = set(served.spares())
                hosts = set(served.hosts())
                assert await client.counter.get_or_create(f"new {number}").increment() == 1
                [host] = set(served.hosts()) - hosts
                assert host in spares, "created in a process that was ready"
                await eventually(lambda: len(served.spares()) == 2)
            spares = set(served.spares())
            os.kill(host, signal.SIGKILL)
            counter = client.counter.get("new 2").with_options(idempotency_key="again")
            assert await counter.increment() == 2
            [again] = set(served.hosts()) - hosts
            assert again in spares, "started again in a process that was ready"
            # A spare that dies is replaced when the next host starts.
            await eventually(lambda: len(served.spares()) == 2)
            os.kill(served.spares()[0], signal.SIGKILL)
            assert await client.counter.get_or_create("last").increment() == 1
            await eventually(lambda: len(served.spares()) == 2)
        started = served.processes()
    finally:
        await served.end()
    assert not alive(started)


async def test_one_host_needs_one_spare(store: str) -> None:
    served = ServeProcess(store, "coordinate")
    await served.start()
    try:
        await eventually(lambda: len(served.spares()) == 1)
        [spare] = served.spares()
        async with App.client(served.url, timeout=PATIENCE) as client:
            assert await client.counter.get_or_create("k").increment() == 1
            assert served.hosts() == [spare]
            await eventually(lambda: len(served.spares()) == 1)
            [spare] = served.spares()
            os.kill(served.hosts()[0], signal.SIGKILL)
            counter = client.counter.get("k").with_options(idempotency_key="again")
            assert await counter.increment() == 2
            assert served.hosts() == [spare]
    finally:
        await served.end()


async def test_without_spares_hosts_start_in_new_processes(store: str) -> None:
    served = ServeProcess(store, "partition", "--spare-workers", "0")
    await served.start()
    try:
        async with App.client(served.url, timeout=PATIENCE) as client:
            for key in ("one", "two"):
                before = set(served.processes())
                assert await client.counter.get_or_create(key).increment() == 1
                assert not served.spares()
            assert len(set(served.hosts()) - before) == 1
            os.kill(served.hosts()[0], signal.SIGKILL)
            for key in ("one", "two"):
                counter = client.counter.get(key).with_options(idempotency_key="again")
                assert await counter.increment() == 2
    finally:
        await served.end()
