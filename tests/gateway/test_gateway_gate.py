"""The output gate, seen from the wire: nothing leaves before its commit (C2, C5).

The checks are functions, so that the last test can show that they fail when
the gate is switched off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from gateway_store import StoreOver
from gateway_wire import Answer, Serve, Site, Socket, get_or_create

from rivet_ray import Actor, Event, UserError, action
from rivet_ray.runtime import HostSettings
from rivet_ray.runtime.gate import Gate
from rivet_ray.store import Commit, CommitResult


class HeldStore(StoreOver):
    """Commits only while it is let; knows when somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self._may_commit = asyncio.Event()
        self._may_commit.set()
        self.asked = asyncio.Event()
        self.refuse = False

    def hold(self) -> None:
        self._may_commit.clear()
        self.asked.clear()

    def release(self) -> None:
        self._may_commit.set()

    async def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        self.asked.set()
        await self._may_commit.wait()
        if self.refuse:
            return [CommitResult.FENCED for _ in commits]
        results: list[CommitResult] = await self.below.commit(commits)
        return results


@dataclass
class State:
    count: int = 0


class Counter(Actor[State]):
    public = True

    new_count = Event[int]()

    @action
    def add(self, amount: int) -> int:
        self.state.count += amount
        self.broadcast(Counter.new_count, self.state.count)
        self.conn.send("mine", self.state.count)
        return self.state.count

    @action
    def get(self) -> int:
        return self.state.count

    @action
    async def add_later(self, amount: int) -> int:
        await asyncio.sleep(0)
        self.state.count += amount
        return self.state.count

    @action
    def add_and_fail(self, amount: int) -> None:
        self.state.count += amount
        raise UserError(f"The count is {self.state.count}.")

    @action
    async def add_and_boom(self, amount: int) -> None:
        self.state.count += amount
        raise ValueError("the password is hunter2")

    @action(timeout=0.01)
    async def add_and_hang(self, amount: int) -> None:
        self.state.count += amount
        await asyncio.Event().wait()

    @action
    async def add_save_add(self) -> int:
        self.state.count += 1
        await self.save()
        self.broadcast(Counter.new_count, self.state.count)
        return self.state.count

    @action
    def mutate_after(self) -> dict[str, list[int]]:
        shown = {"values": [self.state.count]}
        self.broadcast("shown", shown)
        self.state.count += 1
        shown["values"].append(self.state.count)
        return shown

    @action
    async def add_and_kick(self, amount: int) -> None:
        self.state.count += amount
        for conn in self.conns:
            await conn.disconnect(f"the count is {self.state.count}")


class Greeter(Actor[State]):
    public = True

    def on_connect(self, conn: Any) -> None:
        self.state.count += 1

    @action
    def get(self) -> int:
        return self.state.count


ACTORS = {"counter": Counter, "greeter": Greeter}
A = get_or_create("counter", "a")
OTHER = get_or_create("counter", "other")


async def rounds(site: Site) -> None:
    """Time for everything that could leave to leave, and reads that must."""
    for _ in range(5):
        async with asyncio.timeout(2):
            assert (await site.call(OTHER, "get")).output == 0, (
                "an unchanged actor waits for nobody"
            )


@asynccontextmanager
async def calling(site: Site, name: str, *args: Any) -> AsyncIterator[asyncio.Task[Answer]]:
    task = asyncio.create_task(site.call(A, name, *args))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def held(serve: Serve, **options: Any) -> AsyncIterator[tuple[Site, HeldStore, Socket]]:
    """Two actors in memory, a subscriber of the first, and a store that holds its breath."""
    store = HeldStore()
    site = await serve(ACTORS, store=store, host_settings=HostSettings(stop_grace=0.1), **options)
    try:
        assert (await site.call(OTHER, "get")).output == 0
        assert (await site.call(A, "get")).output == 0
        async with site.connect(A) as socket:
            for name in ("new_count", "shown"):
                await socket.subscribe(name)
            assert await socket.ask(1_000, "get") == 0
            store.hold()
            yield site, store, socket
    finally:
        store.release()


# --- The checks ----------------------------------------------------------------------------


async def check_reply(serve: Serve) -> None:
    async with held(serve) as (site, store, socket), calling(site, "add", 5) as reply:
        await store.asked.wait()
        await rounds(site)
        await socket.quiet()
        assert not reply.done(), "the reply left before the commit"
        store.release()
        assert (await reply).output == 5
        assert await socket.next() == {"ev": {"n": "new_count", "a": [5]}}


async def check_reply_and_event_on_the_socket(serve: Serve) -> None:
    async with held(serve) as (site, store, socket):
        await socket.call(0, "add", 5)
        await store.asked.wait()
        await rounds(site)
        await socket.quiet()
        store.release()
        assert [await socket.next() for _ in range(3)] == [
            {"ev": {"n": "new_count", "a": [5]}},
            {"ev": {"n": "mine", "a": [5]}},
            {"ar": {"i": 0, "o": 5}},
        ], "in the order in which they were given"


async def check_errors(serve: Serve) -> None:
    for name, code in (
        ("add_and_fail", "user_error"),
        ("add_and_boom", "internal_error"),
        ("add_and_hang", "action_timed_out"),
    ):
        async with held(serve) as (site, store, _), calling(site, name, 5) as reply:
            await store.asked.wait()
            await rounds(site)
            assert not reply.done(), f"the error of {name} left before the commit"
            store.release()
            answer = await reply
            assert (answer.code, answer.outcome) == (code, "took_effect")
            assert (await site.call(A, "get")).output == 5


async def check_a_read_behind_a_write(serve: Serve) -> None:
    async with held(serve) as (site, store, _), calling(site, "add_later", 5) as write:
        await store.asked.wait()
        async with calling(site, "get") as read:
            await rounds(site)
            assert not write.done()
            assert not read.done(), "a read has shown what is not written"
            store.release()
            assert (await read).output == 5
            assert (await write).output == 5


async def check_fenced(serve: Serve) -> None:
    async with held(serve) as (site, store, socket), calling(site, "add", 5) as reply:
        await socket.call(0, "add", 7)
        await store.asked.wait()
        await rounds(site)
        store.refuse = True
        store.release()
        answer = await reply
        assert answer.status >= 400, answer.raw
        assert answer.code == "actor_stopped"
        assert answer.outcome == "unknown"
        code, _, bodies = await socket.closed()
        assert code == 1011
        assert not any("ev" in body or "ar" in body for body in bodies), bodies
        store.refuse = False
        assert (await site.call(A, "get")).output == 0, "what was refused is gone"


async def check_close(serve: Serve) -> None:
    async with held(serve) as (site, store, socket), calling(site, "add_and_kick", 5):
        await store.asked.wait()
        await rounds(site)
        await socket.quiet()
        store.release()
        assert await socket.closed() == (1000, "the count is 5", [])


async def check_init(serve: Serve) -> None:
    store = HeldStore()
    site = await serve(ACTORS, store=store)
    greeter = get_or_create("greeter", "a")
    assert (await site.call(greeter, "get")).output == 1
    store.hold()
    try:
        async with site.connecting(greeter) as socket:
            await store.asked.wait()
            await socket.quiet()
            store.release()
            await socket.init()
            assert await socket.ask(0, "get") == 2
    finally:
        store.release()


async def check_creation(serve: Serve) -> None:
    """A new actor has changed: the reply of its first call waits, read or not."""
    async with held(serve) as (site, store, _):
        first = asyncio.create_task(site.call(get_or_create("counter", "new"), "get"))
        await store.asked.wait()
        await rounds(site)
        assert not first.done()
        store.release()
        assert (await first).output == 0


CHECKS: list[Callable[[Serve], Awaitable[None]]] = [
    check_reply,
    check_reply_and_event_on_the_socket,
    check_errors,
    check_a_read_behind_a_write,
    check_fenced,
    check_close,
    check_init,
    check_creation,
]


@pytest.mark.parametrize("check", CHECKS)
async def test_nothing_leaves_before_its_commit(
    serve: Serve, check: Callable[[Serve], Awaitable[None]]
) -> None:
    await check(serve)


@pytest.mark.parametrize("check", CHECKS)
async def test_the_check_sees_a_gate_that_is_switched_off(
    serve: Serve,
    check: Callable[[Serve], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Gate, "hold", lambda gate, release, size=0: release(None))
    with pytest.raises(AssertionError):
        await check(serve)


# --- What does not wait, and what it must not do ---------------------------------------------


async def test_save_waits_for_the_store(serve: Serve) -> None:
    async with held(serve) as (site, store, socket), calling(site, "add_save_add") as reply:
        await store.asked.wait()
        await rounds(site)
        await socket.quiet()
        assert not reply.done()
        store.release()
        assert (await reply).output == 1
        assert await socket.next() == {"ev": {"n": "new_count", "a": [1]}}


async def test_values_are_those_of_when_they_were_given(serve: Serve) -> None:
    async with held(serve) as (site, store, socket), calling(site, "mutate_after") as reply:
        await store.asked.wait()
        await rounds(site)
        store.release()
        assert (await reply).output == {"values": [0, 1]}
        assert await socket.next() == {"ev": {"n": "shown", "a": [{"values": [0]}]}}


async def test_writes_of_other_actors_follow_the_one_in_flight(serve: Serve) -> None:
    async with held(serve) as (site, store, _), calling(site, "add", 1) as first:
        await store.asked.wait()
        more = [
            asyncio.create_task(site.call(get_or_create("counter", f"n{number}"), "add", number))
            for number in range(20)
        ]
        async with calling(site, "add", 1) as second:
            await rounds(site)
            assert not any(task.done() for task in (first, second, *more))
            store.release()
            assert (await first).output == 1
            assert (await second).output == 2
            assert [(await task).output for task in more] == list(range(20))


async def test_after_a_refusal_the_next_call_starts_the_actor_again(serve: Serve) -> None:
    """C1: the deposed owner shows nothing; a new owner serves."""
    async with held(serve) as (site, store, _):
        store.release()
        assert (await site.call(A, "add", 3)).output == 3
        store.refuse = True
        answer = await site.call(A, "add", 4)
        assert (answer.code, answer.outcome) == ("actor_stopped", "unknown")
        store.refuse = False
        assert (await site.call(A, "add", 5)).output == 8


async def test_a_fenced_action_on_a_socket_says_what_is_known(serve: Serve) -> None:
    """Its callers learn whether their action took effect (architecture, 1.3)."""
    async with held(serve) as (_, store, socket):
        await socket.call(0, "add", 7)
        await store.asked.wait()
        store.refuse = True
        store.release()
        body = await socket.next()
        assert set(body) == {"e"}, body
        assert (body["e"]["ai"], body["e"]["oc"]) == (0, "unknown")
