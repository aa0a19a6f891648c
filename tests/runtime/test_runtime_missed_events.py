"""Events that a connection missed: filled in order from the window, or said (C5)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from runtime_worlds import Probe, Tap, parts, started

from rivet_ray import Actor, Event, Registry, action, use
from rivet_ray.protocol.port import Attached, Deliver
from rivet_ray.runtime import HostSettings
from rivet_ray.runtime.connection import Record
from rivet_ray.runtime.events import Events
from rivet_ray.testing import Setup, setup_test
from rivet_ray.testing.clock import settle

RESYNC = ("close", 1012, "resync")


@dataclass
class State:
    said: int = 0
    thing: Any = None


class Room(Actor[State]):
    said = Event[str](durable=True)
    typed = Event[str]()

    @action
    def say(self, text: str) -> None:
        self.state.said += 1
        self.broadcast(Room.said, text)

    @action
    def type(self, text: str) -> None:
        self.state.said += 1
        self.broadcast(Room.typed, text)

    @action
    def whisper(self, text: str, durable: bool) -> None:
        self.state.said += 1
        for conn in self.conns:
            conn.send(Room.said if durable else Room.typed, text)

    @action
    def mention(self, text: str) -> None:
        """Changes nothing but what it tells."""
        self.broadcast(Room.said, text)

    @action
    def change(self) -> None:
        self.state.said += 1

    @action
    def say_and_spoil(self, text: str) -> None:
        self.state.thing = object()
        self.broadcast(Room.said, text)


class Relaxed(Room):
    durability = "relaxed"


class Announcer(Actor[State]):
    changed = Event[int](durable=True)

    def on_state_change(self, state: State) -> None:
        self.broadcast(Announcer.changed, state.said)

    @action
    def say(self) -> None:
        self.state.said += 1


class App(Registry):
    room = use(Room)
    relaxed = use(Relaxed)
    announcer = use(Announcer)


def seen_by(tap: Tap) -> int:
    """The last event that reached a gateway, as it would tell it."""
    return max(
        (m.sequence for m in tap.messages if isinstance(m, (Deliver, Attached))),
        default=0,
    )


async def lose(test: Setup[App], tap: Tap, how: str) -> Tap:
    """The session ends, or the host does; the gateway opens another one."""
    if how == "crash":
        await test.crash()
        await test.backend.start()
    else:
        tap.close()
    return Tap(test)


async def opened(test: Setup[App], *events: str, connection: str = "c1") -> tuple[str, Tap]:
    actor, tap = await started(test, test.client.room.get_or_create("k")), Tap(test)
    await tap.attach(actor, connection, *events)
    return actor, tap


async def test_what_was_missed_comes_in_order_before_what_is_new() -> None:
    async with setup_test(App) as test:
        actor, tap = await opened(test, "said", "typed")
        room = test.client.room.get("k")
        await room.say("one")
        again = await lose(test, tap, "session")
        await room.type("two")
        await room.say("three")
        await room.whisper("four", False)
        await again.resume(actor, "c1", "said", "typed", seen=seen_by(tap))
        await room.say("five")
        assert tap.seen() == ["attached", ("said", "one")]
        assert again.seen() == [
            "attached",
            ("typed", "two"),
            ("said", "three"),
            ("typed", "four"),
            ("said", "five"),
        ]
        assert [m.connection for m in again.messages if isinstance(m, Deliver)] == [
            *("c1", "c1", "c1"),
            None,
        ]


async def test_the_check_sees_a_window_that_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Events, "_keep", lambda events, message: None)
    with pytest.raises(AssertionError):
        await test_what_was_missed_comes_in_order_before_what_is_new()


async def test_only_what_was_asked_for_and_is_for_this_connection() -> None:
    async with setup_test(App) as test:
        actor, tap = await opened(test, "said")
        await tap.attach(actor, "c2", "typed")
        room = test.client.room.get("k")
        again = await lose(test, tap, "session")
        await room.type("one")
        await room.say("two")
        await again.resume(actor, "c1", "said", seen=seen_by(tap))
        assert again.seen() == ["attached", ("said", "two")]


async def test_what_was_given_before_the_loss_and_left_after_it_comes_once() -> None:
    """Held by a write that is under way while its gateway's session is lost."""
    probe = Probe()
    async with setup_test(App, store=probe) as test:
        actor, tap = await opened(test, "said")
        probe.hold()
        telling = asyncio.ensure_future(test.client.room.get("k").say("one"))
        await settle()
        again = await lose(test, tap, "session")
        await again.resume(actor, "c1", "said", seen=seen_by(tap))
        assert again.seen() == []
        probe.release()
        await telling
        await settle()
        assert tap.seen() == ["attached"]
        assert again.seen() == ["attached", ("said", "one")]


async def test_durable_events_survive_the_host() -> None:
    async with setup_test(App) as test:
        actor, tap = await opened(test, "said", "typed")
        room = test.client.room.get("k")
        await room.type("before")
        seen = seen_by(tap)
        await room.say("one")
        await room.whisper("two", True)
        await room.mention("three")
        again = await lose(test, tap, "crash")
        await again.resume(actor, "c1", "said", "typed", seen=seen)
        await test.client.room.get("k").say("four")
        assert again.seen() == [
            "attached",
            *(("said", text) for text in ("one", "two", "three", "four")),
        ]


async def test_others_are_said_to_be_lost() -> None:
    """Whoever wants only durable events does not care."""
    async with setup_test(App) as test:
        actor, tap = await opened(test, "said", "typed")
        await tap.attach(actor, "c2", "said")
        room = test.client.room.get("k")
        seen = seen_by(tap)
        await room.say("one")
        await room.type("two")
        again = await lose(test, tap, "crash")
        await again.resume(actor, "c1", "said", "typed", seen=seen)
        assert again.seen() == ["attached", RESYNC]
        other = Tap(test)
        await other.resume(actor, "c2", "said", seen=seen)
        assert other.seen() == ["attached", ("said", "one")]


async def test_a_lost_message_for_one_connection_is_said() -> None:
    async with setup_test(App) as test:
        actor, tap = await opened(test)
        seen = seen_by(tap)
        await test.client.room.get("k").whisper("one", False)
        again = await lose(test, tap, "crash")
        await again.resume(actor, "c1", seen=seen)
        assert again.seen() == ["attached", RESYNC]


@pytest.mark.parametrize("how", ["session", "crash"])
@pytest.mark.parametrize(("number", "first"), [(4, ("said", "0")), (5, RESYNC)])
async def test_the_window_is_bounded(how: str, number: int, first: Any) -> None:
    settings = HostSettings(replay_events=4)
    async with setup_test(App, settings=settings) as test:
        actor, tap = await opened(test, "said")
        seen = seen_by(tap)
        for count in range(number):
            await test.client.room.get("k").say(str(count))
        assert len(parts(test, actor, "event/")) == number
        await test.client.room.get("k").change()
        assert len(parts(test, actor, "event/")) == 4, "the next commit takes away what is too old"
        again = await lose(test, tap, how)
        await again.resume(actor, "c1", "said", seen=seen)
        assert again.seen()[:2] == ["attached", first]


async def test_the_window_is_bounded_in_size() -> None:
    async with setup_test(App, settings=HostSettings(replay_size=100)) as test:
        actor, tap = await opened(test, "said")
        seen = seen_by(tap)
        for text in ("a" * 60, "b" * 60):
            await test.client.room.get("k").say(text)
        again = await lose(test, tap, "session")
        await again.resume(actor, "c1", "said", seen=seen + 1)
        assert again.seen() == ["attached", ("said", "b" * 60)]
        again = await lose(test, again, "session")
        await again.resume(actor, "c1", "said", seen=seen)
        assert again.seen() == ["attached", RESYNC]


async def test_without_connections_nothing_is_kept() -> None:
    async with setup_test(App) as test:
        room = test.client.room.get_or_create("k")
        await room.say("to nobody")
        actor = await room.resolve()
        assert parts(test, actor, "event/") == []
        _, tap = await opened(test, "said")
        await room.say("to somebody")
        assert len(parts(test, actor, "event/")) == 1
        tap.detach("c1")
        await settle()
        assert parts(test, actor, "event/") == []
        assert parts(test, actor, "conn/") == []


async def test_an_undone_turn_has_told_nothing() -> None:
    async with setup_test(App) as test:
        actor, tap = await opened(test, "said")
        seen = seen_by(tap)
        called = tap.call(actor, "say_and_spoil", "never")
        await settle()
        assert tap.error(called).code == "internal_error"
        await test.client.room.get("k").say("one")
        for how in ("session", "crash"):
            again = await lose(test, tap, how)
            await again.resume(actor, "c1", "said", seen=seen)
            assert again.seen() == ["attached", ("said", "one")]
            tap = again


@pytest.mark.parametrize("kind", ["room", "relaxed"])
async def test_a_durable_event_waits_for_its_commit(kind: str) -> None:
    """Though nothing else has changed, and though answers of a relaxed actor do not wait."""
    probe = Probe()
    async with setup_test(App, store=probe) as test:
        handle = getattr(test.client, kind).get_or_create("k")
        actor, tap = await started(test, handle), Tap(test)
        await tap.attach(actor, "c1", "said")
        await settle()
        probe.hold()
        tap.call(actor, "mention", "one")
        await settle()
        assert ("said", "one") not in tap.seen()
        probe.release()
        await settle()
        assert ("said", "one") in tap.seen()


async def test_events_of_on_state_change_are_in_the_commit_that_they_tell_of() -> None:
    async with setup_test(App) as test:
        handle = test.client.announcer.get_or_create("k")
        actor, tap = await started(test, handle), Tap(test)
        await tap.attach(actor, "c1", "changed")
        seen = seen_by(tap)
        await handle.say()
        again = await lose(test, tap, "crash")
        await again.resume(actor, "c1", "changed", seen=seen)
        assert again.seen() == ["attached", ("changed", 1)]


async def test_a_gateway_that_saw_more_than_there_is() -> None:
    """The store has lost what was saved: the same numbers will mean other events."""
    async with setup_test(App) as test:
        actor, tap = await opened(test, "said")
        await test.client.room.get("k").say("one")
        again = await lose(test, tap, "crash")
        await again.resume(actor, "c1", "said", seen=seen_by(tap) + 10)
        [attached] = [m for m in again.messages if isinstance(m, Attached)]
        assert attached.sequence == seen_by(tap)
        assert again.seen() == ["attached", RESYNC]


@pytest.mark.parametrize("how", ["by another gateway", "by the same one"])
async def test_a_client_that_comes_back_twice_before_it_is_let_in(how: str) -> None:
    """C5: what it wants is not forgotten while the first time waits for a write."""
    probe = Probe()
    async with setup_test(App, store=probe) as test:
        actor, tap = await opened(test, "said")
        seen = seen_by(tap)
        room = test.client.room.get("k")
        probe.hold()
        telling = asyncio.ensure_future(room.say("one"))
        await settle()
        first = Tap(test)
        last = Tap(test) if how == "by another gateway" else first
        await first.claim(actor, "c1", seen)
        if last is first:
            first.detach("c1", keep=True)
            await settle()
        call = await last.claim(actor, "c1", seen)
        probe.release()
        await telling
        await room.say("two")
        await settle()
        assert last.answer(call) is not None
        assert last.seen() == ["attached", ("said", "one"), ("said", "two")]


async def test_what_a_client_wants_is_saved_before_it_is_let_in() -> None:
    """C5: the host may go in that moment, and its successor knows nothing else."""
    probe = Probe()
    async with setup_test(App, store=probe) as test:
        actor, tap = await opened(test, "said")
        await settle()
        probe.batches.clear()
        await Tap(test).claim(actor, "c1", seen_by(tap))
        await settle()
        records = [commit.put["conn/c1"] for batch in probe.batches for commit in batch]
        assert records
        decoder = msgspec.msgpack.Decoder(Record)
        assert [decoder.decode(record).events for record in records] == [["said"]] * len(records)


class Hall(Actor[State]):
    greeted = Event[str]()

    async def on_connect(self, conn: Any) -> None:
        conn.send(Hall.greeted, "first")
        self.go = asyncio.Event()
        await self.go.wait()
        conn.send(Hall.greeted, "second")

    @action
    async def let_in(self) -> None:
        self.go.set()


class HallApp(Registry):
    hall = use(Hall)


async def test_what_on_connect_sent_while_its_session_was_lost() -> None:
    """The gateway asks again for a connection that it was never told of."""
    async with setup_test(HallApp) as test:
        tap = Tap(test)  # type: ignore[arg-type]
        actor = await started(test, test.client.hall.get_or_create("k"))
        await tap.attach(actor, "c1")
        tap.close()
        again = Tap(test)  # type: ignore[arg-type]
        instance = test.backend.host.running(actor)
        assert instance is not None
        await again.attach(actor, "c1")
        instance.actor.go.set()
        await settle()
        assert again.seen() == ["attached", ("greeted", "first"), ("greeted", "second")]
