"""Several hosts watch the same alarms: each entry has its effect once (C1, C6)."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis_server import RedisServer

from rivet_ray import Actor, Registry, action, use
from rivet_ray.client.between import between_actors
from rivet_ray.client.client import Client
from rivet_ray.client.inline import InlineTransport
from rivet_ray.runtime import HostSettings, Standalone
from rivet_ray.runtime.schedule import PART
from rivet_ray.store import Commit, CommitResult, open_store
from rivet_ray_drivers.memory import MemoryStore

HOSTS = 4
ACTORS = 60
ENTRIES = 3
BEGUN: list[str] = []


@dataclass
class State:
    rung: list[int] = field(default_factory=list[int])


class Bell(Actor[State]):
    @action
    def set(self, seconds: float) -> None:
        for number in range(ENTRIES):
            self.schedule.after(seconds * 1000, Bell.ring, number)

    @action(private=True)
    async def ring(self, number: int) -> None:
        BEGUN.append(self.key[0])
        await asyncio.sleep(0)
        self.state.rung.append(number)

    @action(readonly=True)
    def rung(self) -> list[int]:
        return sorted(self.state.rung)


class App(Registry):
    bell = use(Bell)


class Others(Registry):
    chime = use(Bell)


class Counting:
    """A store that counts the final commits of each entry: those that remove it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.removed: Counter[tuple[str, str]] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        results: list[CommitResult] = await self.inner.commit(commits)
        for commit, result in zip(commits, results, strict=True):
            if result is CommitResult.COMMITTED:
                parts = (part for part in commit.delete if part.startswith(PART))
                self.removed.update((commit.actor_id, part) for part in parts)
        return results


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


_prefixes = itertools.count()


@pytest.fixture(params=["memory", "redis"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[list[Counting]]:
    """One for each host; those on Redis have connections of their own."""
    if request.param == "memory":
        memory = MemoryStore()
        yield [Counting(memory) for _ in range(HOSTS)]
        return
    redis: RedisServer = request.getfixturevalue("redis")
    url = redis.url(f"alarms-{next(_prefixes)}")
    async with AsyncExitStack() as exits:
        opened = [Counting(await open_store(url)) for _ in range(HOSTS)]
        for store in opened:
            exits.push_async_callback(store.close)
        yield opened


@asynccontextmanager
async def host_on(
    store: Any, registry: type[Any] = App, namespace: str = "default"
) -> AsyncIterator[tuple[Standalone, Any]]:
    settings = HostSettings(namespace=namespace)
    host = Standalone(registry.definitions(), store, connect=between_actors, settings=settings)
    await host.start()
    client = registry(Client.over(InlineTransport(host)))
    try:
        yield host, client
    finally:
        await client.aclose()
        await host.close()


async def ring_everywhere(stores: list[Counting]) -> tuple[list[list[int]], int]:
    """What each bell has rung, and how many commits were refused."""
    BEGUN.clear()
    async with host_on(stores[0]) as (_, client):
        for number in range(ACTORS):
            await client.bell.get_or_create(str(number)).set(1.0)
    async with AsyncExitStack() as exits:
        hosts = [(await exits.enter_async_context(host_on(store)))[0] for store in stores]
        # Not by asking the actors: a call would bring them to the host that is asked.
        for _ in range(600):
            if await stores[0].next_alarm() is None:
                break
            await asyncio.sleep(0.05)
        refused = sum(host.host.checkpointer.refused for host in hosts)
    async with host_on(stores[0]) as (_, client):
        bells = [client.bell.get(str(number)) for number in range(ACTORS)]
        return [await bell.rung() for bell in bells], refused


def check(rung: list[list[int]], stores: list[Counting]) -> None:
    assert rung == [list(range(ENTRIES))] * ACTORS
    removed = sum((store.removed for store in stores), Counter[tuple[str, str]]())
    assert len(removed) == ACTORS * ENTRIES
    assert set(removed.values()) == {1}


async def test_each_entry_has_its_effect_once(stores: list[Counting]) -> None:
    rung, refused = await ring_everywhere(stores)
    check(rung, stores)
    assert len(BEGUN) >= ACTORS * ENTRIES
    assert refused > 0, "no two hosts ever met on an actor: this run has shown nothing"


FOREIGN = [(App, "default"), (App, "other"), (Others, "default"), (Others, "other")]
"""Hosts of which none can run an actor of another."""


async def test_hosts_of_other_namespaces_and_registries_are_never_fenced(
    stores: list[Counting],
) -> None:
    """Row F3 of faults.md: they claimed what they could not run, and its owner was fenced."""
    async with AsyncExitStack() as exits:
        hosts = [
            await exits.enter_async_context(host_on(store, registry, namespace))
            for store, (registry, namespace) in zip(stores, FOREIGN, strict=True)
        ]
        bells = [
            (client.bell if registry is App else client.chime).get_or_create(str(number))
            for (_, client), (registry, _) in zip(hosts, FOREIGN, strict=True)
            for number in range(ACTORS)
        ]
        # The same keys everywhere, due at once, while all of them look.
        await asyncio.gather(*(bell.set(0.5) for bell in bells))
        async with asyncio.timeout(60):
            while await stores[0].next_alarm() is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert [await bell.rung() for bell in bells] == [list(range(ENTRIES))] * len(bells)
        ids = [await bell.resolve() for bell in bells]
        assert len(set(ids)) == len(FOREIGN) * ACTORS
        owners = [await stores[0].find_ownership(one) for one in ids]
        assert {owner.epoch for owner in owners} == {1}, "nobody else claimed one"
        assert [host.host.checkpointer.refused for host, _ in hosts] == [0] * len(FOREIGN)
    removed = sum((store.removed for store in stores), Counter[tuple[str, str]]())
    assert len(removed) == len(FOREIGN) * ACTORS * ENTRIES
    assert set(removed.values()) == {1}


async def test_the_check_sees_a_fence_that_is_switched_off() -> None:
    """A store that takes a commit from anybody."""

    class Open(MemoryStore):
        async def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
            for commit in commits:
                stored = self._living.get(commit.actor_id)
                if stored is not None:
                    stored.fence = commit.fence
                    stored.sequence = commit.sequence - 1
            return await super().commit(commits)

    memory = Open()
    stores = [Counting(memory) for _ in range(HOSTS)]
    rung, _ = await ring_everywhere(stores)
    with pytest.raises(AssertionError):
        check(rung, stores)
