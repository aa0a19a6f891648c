"""The output gate and the fence (C1, C2, C5): nothing leaves before its commit.

The checks are functions, so that the last tests can show that they go red when
the mechanism they are about is switched off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime_worlds import Probe, Tap, part, started

from rivet_ray import Actor, Event, Outcome, Registry, UserError, action, use
from rivet_ray.runtime.gate import Gate
from rivet_ray.runtime.keys import Keys
from rivet_ray.store import Commit, CommitResult
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore


@dataclass
class State:
    count: int = 0
    notes: list[str] = field(default_factory=list[str])


class Counter(Actor[State]):
    anonymous_keys = True

    counted = Event[int]()

    @action
    def add(self, amount: int = 1) -> int:
        self.state.count += amount
        self.broadcast(Counter.counted, self.state.count)
        return self.state.count

    @action
    def get(self) -> int:
        return self.state.count

    @action(readonly=True)
    def peek(self) -> int:
        return self.state.count

    @action
    async def add_then_wait(self) -> int:
        self.state.count += 1
        await self.go.wait()
        return self.state.count

    @action
    def open(self) -> None:
        self.go.set()

    @action
    async def spawn(self) -> None:
        async def work() -> None:
            await self.go.wait()
            await settle()  # Long after the action and its write.
            self.state.count += 100

        self.task = asyncio.create_task(work())

    @action
    def fail(self) -> None:
        self.state.count += 1
        raise UserError(f"count is {self.state.count}", "failed")

    @action
    def boom(self) -> None:
        self.state.count += 1
        raise ValueError("the password is hunter2")

    @action
    def note(self, text: str) -> list[str]:
        self.state.notes.append(text)
        self.broadcast("noted", self.state.notes)
        notes = list(self.state.notes)
        self.broadcast("copied", notes)
        notes.append("added after the broadcast")
        return self.state.notes

    @action
    async def tell(self, amount: int) -> None:
        self.state.count += amount
        await self.client(App).counter.get_or_create("told").add(amount)

    @action
    async def leave_and_tell(self) -> None:
        self.destroy()
        await self.client(App).counter.get_or_create("told").add(1)

    @action
    async def add_save_add(self) -> int:
        self.state.count += 1
        await self.save()
        saved = self.state.count
        self.state.count += 1
        return saved

    def on_start(self) -> None:
        self.go = asyncio.Event()


class Greeter(Actor[State]):
    def on_connect(self, conn: Any) -> None:
        self.state.count += 1
        conn.send("welcome", self.state.count)

    @action
    async def kick(self) -> None:
        self.state.count += 1
        for conn in self.conns:
            self.wait_until(conn.disconnect(f"count is {self.state.count}"))


class App(Registry):
    counter = use(Counter)
    greeter = use(Greeter)


class World:
    """A counter on a store that can be held, and a gateway that sees everything."""

    def __init__(self, test: Setup[App], store: Probe, tap: Tap, actor: str) -> None:
        self.test, self.store, self.tap, self.actor = test, store, tap, actor

    def call(self, action: str, *args: Any, **options: Any) -> int:
        return self.tap.call(self.actor, action, *args, **options)


async def inside(check: Callable[[World], Awaitable[None]]) -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor = await started(test, test.client.counter.get_or_create("k"))
        try:
            await check(World(test, store, Tap(test), actor))
        finally:
            store.release()
            await settle()


# --- Checks, which the last tests run again with a mechanism switched off ----------


async def reply_waits_for_its_write(world: World) -> None:
    world.store.hold()
    call = world.call("add")
    await settle()
    assert world.tap.answer(call) is None
    world.store.release()
    await settle()
    assert world.tap.output(call) == 1


async def events_wait_and_keep_their_order(world: World) -> None:
    await world.tap.attach(world.actor, "c1", "counted")
    world.tap.messages.clear()
    world.store.hold()
    world.call("add")
    world.call("add")
    await settle()
    assert world.tap.seen() == []
    world.store.release()
    await settle()
    assert world.tap.seen() == [("counted", 1), 1, ("counted", 2), 2]


async def deposed_owner_is_refused(world: World) -> None:
    assert await world.test.store.claim(world.actor, "somebody else") is not None
    call = world.call("add")
    await settle()
    error = world.tap.error(call)
    assert (error.code, error.outcome) == ("actor_stopped", Outcome.UNKNOWN)
    assert world.test.backend.host.checkpointer.refused == 1
    assert part(world.test, world.actor, "state/count") == 0


async def same_key_has_one_effect(world: World) -> None:
    calls = [world.call("add", 5, key="once") for _ in range(3)]
    await settle()
    calls.append(world.call("add", 5, key="once"))
    await settle()
    assert [world.tap.output(call) for call in calls] == [5] * 4
    assert part(world.test, world.actor, "state/count") == 5


CHECKS = [
    reply_waits_for_its_write,
    events_wait_and_keep_their_order,
    deposed_owner_is_refused,
    same_key_has_one_effect,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_promise_holds(check: Callable[[World], Awaitable[None]]) -> None:
    await inside(check)


# --- Each mechanism switched off once (reliability.md): the checker goes red ---------


def _open_gate(self: Gate, release: Callable[[Any], None], size: int = 0) -> None:
    release(None)


@pytest.mark.parametrize("check", CHECKS[:2], ids=lambda check: check.__name__)
async def test_checker_goes_red_without_the_gate(
    check: Callable[[World], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "hold", _open_gate)
    with pytest.raises(AssertionError):
        await inside(check)


async def test_checker_goes_red_without_the_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = MemoryStore._commit

    def unfenced(self: MemoryStore, commit: Commit) -> CommitResult:
        self._living[commit.actor_id].fence = commit.fence
        return honest(self, commit)

    monkeypatch.setattr(MemoryStore, "_commit", unfenced)
    with pytest.raises(AssertionError):
        await inside(deposed_owner_is_refused)


async def test_checker_goes_red_without_dedupe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keys, "begin", lambda *_: None)
    with pytest.raises(AssertionError):
        await inside(same_key_has_one_effect)


# --- What waits, and for what -----------------------------------------------------


async def test_reply_that_saw_anothers_unwritten_change_waits_for_it() -> None:
    async def check(world: World) -> None:
        world.store.hold()
        first = world.call("add_then_wait")
        await settle()
        seen = world.call("get")
        await settle()
        assert world.tap.answer(seen) is None
        world.store.release()
        await settle()
        assert world.tap.output(seen) == 1
        assert world.tap.answer(first) is None
        world.call("open")

    await inside(check)


async def test_reply_given_during_a_write_waits_for_the_next_one_too() -> None:
    async def check(world: World) -> None:
        world.store.hold()
        first = world.call("add")
        await settle()
        second = world.call("add")
        await settle()
        assert world.tap.answer(first) is None
        world.store.release()
        await settle()
        assert [world.tap.output(call) for call in (first, second)] == [1, 2]
        assert [dict(commit.put)["state/count"] for commit in world.store.commits[-2:]] == [
            b"\x01",
            b"\x02",
        ]

    await inside(check)


@pytest.mark.parametrize("name", ["fail", "boom"])
async def test_error_waits_for_the_write_of_what_it_reveals(name: str) -> None:
    async def check(world: World) -> None:
        world.store.hold()
        call = world.call(name)
        await settle()
        assert world.tap.answer(call) is None
        world.store.release()
        await settle()
        error = world.tap.error(call)
        assert error.outcome is Outcome.TOOK_EFFECT
        assert "hunter2" not in error.message

    await inside(check)


async def test_attached_and_what_on_connect_sends_wait_for_the_write() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.greeter.get_or_create("k")), Tap(test)
        store.hold()
        await tap.attach(actor, "c1")
        assert tap.seen() == []
        store.release()
        await settle()
        assert tap.seen() == ["attached", ("welcome", 1)]


async def test_close_reason_waits_for_the_write() -> None:
    store = Probe()
    async with setup_test(App, store=store) as test:
        actor, tap = await started(test, test.client.greeter.get_or_create("k")), Tap(test)
        await tap.attach(actor, "c1")
        tap.messages.clear()
        store.hold()
        tap.call(actor, "kick")
        await settle()
        assert tap.seen() == []
        store.release()
        await settle()
        tap.detach("c1")
        # on_connect runs for the plain call of `kick` too.
        assert ("close", 1000, "count is 3") in tap.seen()


@pytest.mark.parametrize("name", ["tell", "leave_and_tell"])
async def test_call_to_another_actor_waits_for_the_write(name: str) -> None:
    async def check(world: World) -> None:
        told = await started(world.test, world.test.client.counter.get_or_create("told"))
        world.store.hold()
        world.call(name, *([7] if name == "tell" else []))
        await settle()
        instance = world.test.backend.host.running(told)
        assert instance is not None
        assert instance.actor.state.count == 0, "the call left before the write"
        world.store.release()

    await inside(check)


async def test_save_returns_when_it_is_durable() -> None:
    async def check(world: World) -> None:
        call = world.call("add_save_add")
        await settle()
        assert world.tap.output(call) == 1
        assert [dict(commit.put)["state/count"] for commit in world.store.commits[-2:]] == [
            b"\x01",
            b"\x02",
        ]

    await inside(check)


# --- Values are encoded when they are given -----------------------------------------


async def test_later_changes_of_a_given_value_do_not_reach_anybody() -> None:
    async def check(world: World) -> None:
        await world.tap.attach(world.actor, "c1", "noted", "copied")
        world.tap.messages.clear()
        world.store.hold()
        first = world.call("note", "one")
        second = world.call("note", "two")
        world.store.release()
        await settle()
        assert world.tap.output(first) == ["one"]
        assert world.tap.output(second) == ["one", "two"]
        assert world.tap.seen() == [
            ("noted", ["one"]),
            ("copied", ["one"]),
            ["one"],
            ("noted", ["one", "two"]),
            ("copied", ["one", "two"]),
            ["one", "two"],
        ]

    await inside(check)
