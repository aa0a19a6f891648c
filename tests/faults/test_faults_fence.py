"""Two hosts that both believe that they own an actor: the store decides (C1, C2, C8)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from faults_clients import Raw, Result
from faults_host import Host, gateway
from redis_server import RedisServer

KEY = "fought-over"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


class Side:
    """One host, and callers that reach it and no other."""

    def __init__(self, host: Host, carrier: Raw, told: dict[str, Result]) -> None:
        self.host = host
        self.carrier = carrier
        self._told = told

    async def append(self, token: str) -> Result:
        result = self._told[token] = await self.carrier.call(KEY, "append", token)
        return result


@asynccontextmanager
async def two_sides(
    redis: RedisServer, prefix: str, told: dict[str, Result], planted: str = ""
) -> AsyncIterator[tuple[Side, Side]]:
    store = redis.url(prefix)
    async with AsyncExitStack() as stack:
        hosts = [stack.enter_context(Host(store, planted=planted)) for _ in range(2)]
        sides: list[Side] = []
        for host in hosts:
            address = await asyncio.to_thread(lambda host=host: host.address)
            carrier = Raw(await stack.enter_async_context(gateway(store, address)))
            stack.push_async_callback(carrier.aclose)
            sides.append(Side(host, carrier, told))
        yield sides[0], sides[1]


def violations(told: dict[str, Result], entries: list[str]) -> list[str]:
    found, broken = Counter(entries), []
    for token, result in told.items():
        allowed = {"not_started": (0,), "unknown": (0, 1)}.get(result.told, (1,))
        if found[token] not in allowed:
            broken.append(f"{token}: told {result.told}, found {found[token]} times")
        elif result.told == "answer" and entries[result.answer - 1] != token:
            broken.append(f"{token}: told place {result.answer}, which holds another")
    return broken


async def entries(side: Side) -> list[str]:
    """What is stored: a host that never had the actor reads it."""
    result = await side.carrier.call(KEY, "everything")
    assert result.told == "answer", result
    stored: list[str] = result.answer["entries"]
    return stored


async def paused_past_its_lease(
    redis: RedisServer, prefix: str, planted: str = ""
) -> tuple[list[str], int, list[Result]]:
    """What is broken, how many writes the stale host was refused, what its callers learned."""
    told: dict[str, Result] = {}
    async with two_sides(redis, prefix, told, planted) as (stale, other):
        for number in range(5):
            assert (await stale.append(f"before {number}")).told == "answer"
        stale.host.pause()
        # They lie in its sockets when it goes on, before it can learn anything.
        queued = [asyncio.ensure_future(stale.append(f"stale {number}")) for number in range(5)]
        await asyncio.sleep(0.2)
        for number in range(5):
            assert (await other.append(f"other {number}")).told == "answer"
        await asyncio.sleep(3.0)
        stale.host.go_on()
        learned = list(await asyncio.gather(*queued))
        refused = stale.host.refused
        # The stale instance has ended: the next one here reads what the other side wrote.
        assert (await stale.append("after")).told == "answer"
        assert stale.host.process.poll() is None
        async with AsyncExitStack() as stack:
            fresh = stack.enter_context(Host(redis.url(prefix)))
            address = await asyncio.to_thread(lambda: fresh.address)
            carrier = Raw(await stack.enter_async_context(gateway(redis.url(prefix), address)))
            stack.push_async_callback(carrier.aclose)
            return violations(told, await entries(Side(fresh, carrier, told))), refused, learned


async def test_a_paused_host_cannot_write_what_was_taken_from_it(redis: RedisServer) -> None:
    """C1, C8: its write is refused and counted, its callers learn that nothing is known."""
    broken, refused, learned = await paused_past_its_lease(redis, "paused")
    assert broken == []
    assert refused > 0
    assert {(result.told, result.code) for result in learned} == {("unknown", "actor_stopped")}


async def fight(redis: RedisServer, prefix: str, planted: str = "") -> tuple[list[str], int, int]:
    """Both sides use the actor at once, and take it from each other with each call."""
    told: dict[str, Result] = {}
    async with two_sides(redis, prefix, told, planted) as sides:

        async def work(side: Side, number: int, client: int) -> None:
            for turn in range(40):
                await side.append(f"{number}.{client}.{turn}")

        await asyncio.gather(
            *(
                work(side, number, client)
                for number, side in enumerate(sides)
                for client in range(4)
            )
        )
        refused = sum(side.host.refused for side in sides)
        answered = sum(result.told == "answer" for result in told.values())
        last = sides[0]
        await last.append("last")
        await last.append("last of all")  # The first may have met a stale instance.
        return violations(told, await entries(last)), refused, answered


async def test_two_hosts_that_fight_over_an_actor_lose_nothing(redis: RedisServer) -> None:
    """C1, C2: whoever is told that it is saved finds it, whoever wins."""
    broken, refused, answered = await fight(redis, "fight")
    print(f"{answered} answered, {refused} refused")
    assert broken == []
    assert refused > 0
    assert answered > 20


@pytest.mark.parametrize(
    "way", [paused_past_its_lease, pytest.param(fight, marks=pytest.mark.slow)]
)
async def test_without_the_fence_it_is_seen(redis: RedisServer, way: object) -> None:
    """The same is red where the store takes every write."""
    assert callable(way)
    broken, refused, _ = await way(redis, f"unfenced-{way.__name__}", "fence_off")
    assert any("told answer, found 0 times" in words for words in broken), broken
    assert refused == 0
