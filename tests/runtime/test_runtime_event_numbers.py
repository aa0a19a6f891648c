"""A number never means two events, whatever becomes of the host, and costs little (C5)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from runtime_worlds import Probe, Tap, quiet, started

from rivet_ray import Actor, Event, Registry, action, use
from rivet_ray.protocol import values
from rivet_ray.protocol.port import Attached, Close, Deliver
from rivet_ray.runtime import events
from rivet_ray.runtime.events import BLOCK, PATIENCE, Events
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle

RESYNC = ("close", 1012, "resync")


@dataclass
class State:
    count: int = 0


class Teller(Actor[State]):
    kept = Event[int](durable=True)
    passing = Event[int]()

    @action
    def change(self, mark: int, event: str = "passing") -> None:
        self.state.count += 1
        self.broadcast(event, mark)

    @action
    def tell(self, mark: int, event: str = "passing") -> None:
        self.broadcast(event, mark)

    @action
    def count(self) -> None:
        self.state.count += 1


class Relaxed(Teller):
    durability = "relaxed"


class Plain(Actor[State]):
    """Has no durable events."""

    passing = Event[int]()

    @action
    def change(self, mark: int, event: str = "passing") -> None:
        self.state.count += 1
        self.broadcast(event, mark)

    @action
    def tell(self, mark: int, event: str = "passing") -> None:
        self.broadcast(event, mark)


class App(Registry):
    teller = use(Teller)
    relaxed = use(Relaxed)
    plain = use(Plain)


class Follower:
    """A gateway with one connection, which it takes to each host and each session."""

    def __init__(self, test: Setup[App], actor: str, *wanted: str) -> None:
        self._test = test
        self._actor = actor
        self._wanted = wanted
        self._lives = 0
        self.seen = 0
        self.marks: list[int | None] = []
        """None stands for a gap that was told."""
        self.numbers: list[tuple[int, int]] = []

    async def open(self) -> None:
        self._lives += 1
        self._connection = f"{'+'.join(self._wanted)} {self._lives}"
        self._tap = Tap(self._test)
        await self._tap.attach(self._actor, self._connection, *self._wanted)
        self.look()

    def look(self) -> bool:
        """Take what came; whether the connection is still good."""
        messages, self._tap.messages[:] = list(self._tap.messages), []
        for message in messages:
            match message:
                case Attached():
                    self.seen = message.sequence
                case Deliver():
                    [mark] = values.decode(message.arguments)
                    assert message.sequence > self.seen, "it would be dropped"
                    self.seen = message.sequence
                    self.marks.append(mark)
                    self.numbers.append((message.sequence, mark))
                case Close():
                    assert message.reason == "resync"
                    self._tap.detach(self._connection)
                    self.marks.append(None)
                    return False
                case _:
                    pass
        return True

    def lose(self) -> None:
        self.look()
        self._tap.close()

    async def come_back(self) -> None:
        self._tap = Tap(self._test)
        await self._tap.resume(self._actor, self._connection, *self._wanted, seen=self.seen)
        await quiet(self._test)
        if not self.look():
            await self.open()


async def opened(test: Setup[App], *wanted: str, kind: str = "teller") -> tuple[Any, Follower]:
    handle = getattr(test.client, kind).get_or_create("k")
    follower = Follower(test, await started(test, handle), *wanted)
    await follower.open()
    await quiet(test)
    return handle, follower


async def crash(test: Setup[App]) -> None:
    await test.crash()
    await test.backend.start()


# --- What is promised -----------------------------------------------------------------


async def history(kind: str, seed: int) -> None:
    """Events of all kinds, and losses between them, against three that listen."""
    dice = random.Random(seed)
    async with setup_test(App) as test:
        actor = await started(test, getattr(test.client, kind).get_or_create("k"))
        wanted = [["kept"], ["passing"], ["kept", "passing"]]
        followers = [Follower(test, actor, *events) for events in wanted]
        for follower in followers:
            await follower.open()
        told: dict[int, str] = {}
        for mark in range(1, 120):
            handle = getattr(test.client, kind).get("k")
            name = dice.choice(["kept", "passing"])
            await getattr(handle, dice.choice(["change", "tell", "tell"]))(mark, name)
            told[mark] = name
            if dice.random() < 0.1:
                away = [one for one in followers if dice.random() < 0.7]
                for one in away:
                    one.lose()
                if dice.random() < 0.7:
                    for one in followers:
                        one.look()
                    away = followers
                    await crash(test)
                for mark_away in range(mark * 1000, mark * 1000 + dice.randrange(3)):
                    handle = getattr(test.client, kind).get("k")
                    await getattr(handle, dice.choice(["change", "tell"]))(mark_away, name)
                    told[mark_away] = name
                for one in away:
                    await one.come_back()
        for one in followers:
            one.look()
        order = list(told)
        meaning: dict[int, int] = {}
        for one in followers:
            for number, mark in one.numbers:
                assert meaning.setdefault(number, mark) == mark, "a number means two events"
            check(one, [(mark, told[mark] in one._wanted) for mark in order])
        only_kept = followers[0]
        assert None not in only_kept.marks, "nothing that is durable is missing"


def check(follower: Follower, told: list[tuple[int, bool]]) -> None:
    """In order, once, and without a gap that is not said."""
    seen = iter([*follower.marks, "end"])
    now, said = next(seen), False
    for mark, wanted in told:
        while now is None:
            now, said = next(seen), True
        if now == mark:
            assert wanted
            now, said = next(seen), False
        elif wanted:
            assert said, f"{mark} is missing, and unsaid: {follower.marks}"
    assert now in ("end", None)


@pytest.mark.parametrize("kind", ["teller", "relaxed"])
@pytest.mark.parametrize("seed", range(4))
async def test_histories(kind: str, seed: int) -> None:
    await history(kind, seed)


async def test_the_check_sees_numbers_that_are_not_reserved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Events, "unsaved", False)
    with pytest.raises(AssertionError):
        await history("teller", 0)


async def test_the_same_numbers_are_not_given_again() -> None:
    """The smallest case: what changes nothing makes no commit, and the host goes."""
    async with setup_test(App) as test:
        handle, follower = await opened(test, "kept", "passing")
        await handle.change(1)
        await handle.tell(2)
        await handle.tell(3)
        follower.look()
        assert follower.marks == [1, 2, 3]
        await crash(test)
        handle = test.client.teller.get("k")
        for mark in (4, 5, 6):
            await handle.tell(mark, "kept")
        await follower.come_back()
        assert follower.marks == [1, 2, 3, None], "what left between is not known"
        await handle.tell(7, "kept")
        follower.look()
        assert follower.marks == [1, 2, 3, None, 7]


async def test_who_wants_durable_events_gets_those_and_no_word() -> None:
    async with setup_test(App) as test:
        handle, follower = await opened(test, "kept")
        for mark in range(1, 6):
            await handle.tell(mark, "kept" if mark % 2 else "passing")
        follower.look()
        await crash(test)
        handle = test.client.teller.get("k")
        for mark in range(6, 10):
            await handle.tell(mark, "kept" if mark % 2 else "passing")
        await follower.come_back()
        assert follower.marks == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("kind", ["teller", "plain"])
async def test_nothing_is_told_where_nothing_can_be_missing(kind: str) -> None:
    """All events came with a change: what left is known to the last."""
    async with setup_test(App) as test:
        handle, follower = await opened(test, "passing", kind=kind)
        await handle.change(1)
        await handle.change(2)
        follower.look()
        await crash(test)
        await follower.come_back()
        assert follower.marks == [1, 2]


@pytest.mark.parametrize("kind", ["teller", "plain"])
async def test_a_second_crash_before_anything_is_given(kind: str) -> None:
    async with setup_test(App) as test:
        handle, follower = await opened(test, "passing", kind=kind)
        await handle.tell(1)
        follower.look()
        await crash(test)
        await follower.come_back()
        assert follower.marks == [1, None]
        await crash(test)
        await follower.come_back()
        assert follower.marks == [1, None], "it came after all that nothing is known of"
        await getattr(test.client, kind).get("k").tell(2)
        follower.look()
        assert follower.marks == [1, None, 2]
        assert [number for number, _ in follower.numbers][1] > BLOCK


# --- What it costs --------------------------------------------------------------------


async def test_one_commit_for_a_block() -> None:
    probe = Probe()
    async with setup_test(App, store=probe) as test:
        handle, follower = await opened(test, "passing")
        probe.batches.clear()
        for mark in range(1, 101):
            await handle.tell(mark)
        assert len(probe.commits) == 1
        assert set(probe.commits[0].put) == {"events"}
        follower.look()
        assert follower.marks == list(range(1, 101))


async def test_the_next_block_is_reserved_before_a_number_of_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "BLOCK", 3)
    probe = Probe()
    async with setup_test(App, store=probe) as test:
        handle, follower = await opened(test, "passing")
        for mark in range(1, 5):  # the first reserves, three follow
            await handle.tell(mark)
        probe.hold()
        tap = Tap(test)
        tap.call(follower._actor, "tell", 5)
        await settle()
        follower.look()
        assert follower.marks == [1, 2, 3, 4]
        probe.release()
        await quiet(test)
        follower.look()
        assert follower.marks == [1, 2, 3, 4, 5]


async def test_where_nobody_is_connected_nothing_is_reserved() -> None:
    probe = Probe()
    async with setup_test(App, store=probe) as test:
        handle = test.client.teller.get_or_create("k")
        await handle.tell(1)
        probe.batches.clear()
        for mark in range(2, 20):
            await handle.tell(mark)
        assert probe.commits == []


async def test_changes_between_keep_the_reservation() -> None:
    """Turn by turn: no commit more than the changes make."""
    probe = Probe()
    async with setup_test(App, store=probe) as test:
        handle, _ = await opened(test, "passing")
        await handle.tell(1)
        probe.batches.clear()
        for mark in range(20):
            await handle.change(2 * mark)
            await handle.tell(2 * mark + 1)
        assert len(probe.commits) == 20


async def test_a_reservation_is_given_back_when_it_is_of_no_use() -> None:
    """So that a crash long after costs nobody a `resync`."""
    async with setup_test(App) as test:
        handle, follower = await opened(test, "passing")
        await handle.tell(0)
        for mark in range(1, PATIENCE + 2):
            await handle.change(mark)
        follower.look()
        await crash(test)
        await follower.come_back()
        assert follower.marks == list(range(PATIENCE + 2))


@pytest.mark.parametrize("kind", ["teller", "relaxed", "plain"])
async def test_an_actor_that_leaves_in_good_order_gives_it_back(kind: str) -> None:
    async with setup_test(App) as test:
        handle, follower = await opened(test, "passing", kind=kind)
        await handle.tell(1)
        follower.lose()
        await test.restart()
        await follower.come_back()
        await getattr(test.client, kind).get("k").tell(2)
        follower.look()
        assert follower.marks == [1, 2]
        assert [number for number, _ in follower.numbers] == [1, 2]
