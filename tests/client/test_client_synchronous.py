"""The blocking client against a real server: calls, connections, threads, forks."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, cast

import pytest
from threaded_server import threaded_server

from rivet_ray import (
    Actor,
    ActorAlreadyExists,
    ActorNotFound,
    ConnectionClosed,
    Event,
    Forbidden,
    Outcome,
    Registry,
    SyncClient,
    UserError,
    action,
    use,
)
from rivet_ray.client import SyncConnection
from rivet_ray.client.backlog import MAX_UNREAD
from rivet_ray.errors import RequestFailed, RivetError, SlowConsumer


@dataclass
class State:
    count: int = 0


@dataclass
class Point:
    x: int
    y: int


class Counter(Actor[State]):
    public = True
    anonymous_keys = True

    count_changed = Event[int]()
    moved = Event[str, Point]()

    def create_state(self, input: Any) -> State:
        return State(input or 0)

    @action
    def increment(self, amount: int = 1) -> int:
        self.state.count += amount
        self.broadcast(Counter.count_changed, self.state.count)
        return self.state.count

    @action
    def flood(self, size: int) -> None:
        for number in range(size):
            self.broadcast(Counter.count_changed, number)

    @action
    def move(self, to: Point) -> Point:
        self.broadcast(Counter.moved, "me", to)
        return Point(to.y, to.x)

    @action
    def params(self) -> Any:
        return self.conn.params

    @action
    def refuse(self) -> None:
        raise UserError("No.", code="not_today", metadata={"when": "tomorrow"})

    @action
    async def rest(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "rested"

    @action
    async def hang_up(self) -> None:
        for conn in self.conns:
            await conn.disconnect("enough")


class Child(Counter):
    @action
    def double(self) -> int:
        self.state.count *= 2
        return self.state.count


class Closed(Actor):
    @action
    def look(self) -> int:
        return 1


class App(Registry):
    counter = use(Counter)
    child = use(Child)
    closed = use(Closed)
    one = use(Closed, name="another")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with threaded_server(App.create_server(store="memory://").handler) as address:
        yield address


@pytest.fixture(params=["cbor", "json"])
def client(url: str, request: pytest.FixtureRequest) -> Iterator[SyncClient]:
    with App.sync_client(url, encoding=request.param, timeout=5) as made:
        yield made


keys = map(str, range(1_000_000))


def key() -> str:
    """A key that no other test uses."""
    return next(keys)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "rivet_ray" in thread.name}


# --- Calls ------------------------------------------------------------------------------


def test_calls_by_reference_and_by_name(client: SyncClient) -> None:
    counter = client.get_or_create(Counter, key())
    assert counter.call(Counter.increment, 5) == 5
    assert counter.call(Counter.increment, amount=2) == 7
    assert counter.call("increment") == 8
    assert counter.call(Counter.move, Point(1, 2)) == Point(2, 1)
    assert counter.call("move", {"x": 1, "y": 2}) == {"x": 2, "y": 1}
    named = client.get_or_create("counter", key())
    assert named.call(Counter.increment, 3) == 3
    child = client.get_or_create(Child, key(), 4)
    assert child.call(Counter.increment, 1) == 5
    assert child.call(Child.double) == 10


def test_the_ways_to_an_actor(client: SyncClient) -> None:
    name = key()
    with pytest.raises(ActorNotFound) as missing:
        client.get(Counter, name).call(Counter.increment)
    assert missing.value.outcome is Outcome.NOT_STARTED
    made = client.create(Counter, ["a", name], 40)
    assert made.call(Counter.increment, 2) == 42
    with pytest.raises(ActorAlreadyExists):
        client.create(Counter, ["a", name])
    actor_id = client.get(Counter, ["a", name]).resolve()
    assert client.get_with_id(Counter, actor_id).call(Counter.increment) == 43
    assert client.get_with_id("counter", actor_id).call("increment") == 44
    assert client.get_or_create(Counter, key(), 10, params={"a": 1}).call(Counter.params) == {
        "a": 1
    }


def test_errors_are_the_classes_of_the_asynchronous_client(client: SyncClient) -> None:
    counter = client.get_or_create(Counter, key())
    with pytest.raises(UserError) as refused:
        counter.call(Counter.refuse)
    assert (refused.value.code, refused.value.message) == ("not_today", "No.")
    assert refused.value.metadata == {"when": "tomorrow"}
    assert refused.value.outcome is Outcome.TOOK_EFFECT
    with pytest.raises(Forbidden):
        client.get_or_create("closed", key()).call(Closed.look)
    wrong = cast("Any", Counter.increment)
    with pytest.raises(TypeError, match="total"):
        counter.call(wrong, total=1)
    with pytest.raises(UserError, match="amount"):
        counter.call(wrong, "five")


def test_an_action_of_another_class_is_refused_here(client: SyncClient) -> None:
    counter = client.get_or_create(Counter, key())
    with pytest.raises(TypeError, match=r"Child\.double is no action of Counter"):
        counter.call(cast("Any", Child.double))


def test_a_class_without_one_name_needs_a_name(client: SyncClient, url: str) -> None:
    with pytest.raises(TypeError, match="several names in its registry: closed, another"):
        client.get(Closed, "k")
    with SyncClient(url) as bare, pytest.raises(TypeError, match=r"App\.sync_client"):
        bare.get(Counter, "k")


def test_idempotency_keys_and_timeouts(client: SyncClient) -> None:
    counter = client.get_or_create(Counter, key())
    keyed = counter.with_options(idempotency_key="once")
    assert keyed.call(Counter.increment, 5) == 5
    assert keyed.call(Counter.increment, 5) == 5
    assert counter.call(Counter.increment, 1) == 6
    with pytest.raises(RequestFailed, match=r"0\.05 s") as late:
        counter.with_options(timeout=0.05).call(Counter.rest, 1)
    assert late.value.outcome is Outcome.UNKNOWN
    with counter.connect() as conn:
        assert conn.actor.with_options(idempotency_key="twice").call(Counter.increment) == 7
        assert conn.actor.with_options(idempotency_key="twice").call(Counter.increment) == 7
        with pytest.raises(RivetError):
            conn.actor.with_options(timeout=0.05).call(Counter.rest, 1)


def test_no_server() -> None:
    with SyncClient("http://127.0.0.1:9") as client, pytest.raises(RequestFailed) as failed:
        client.get_or_create("counter", "k").call("increment")
    assert failed.value.outcome is Outcome.NOT_STARTED
    with pytest.raises(ValueError, match="no URL"):
        SyncClient("nowhere")


# --- Connections ------------------------------------------------------------------------


def test_calls_and_streams_on_a_connection(client: SyncClient) -> None:
    counter = client.get_or_create(Counter, key())
    with counter.connect(params={"who": "me"}) as conn:
        assert conn.connection_id
        assert conn.actor_id == counter.resolve() == conn.actor.resolve()
        assert conn.call(Counter.params) == {"who": "me"}
        stream = conn.events(Counter.count_changed, timeout=5)
        moves = conn.events(Counter.moved, timeout=5)
        for amount in (1, 2, 3):
            counter.call(Counter.increment, amount)
        conn.call(Counter.move, Point(1, 2))
        assert [next(stream), next(stream), next(stream)] == [1, 3, 6]
        assert next(moves) == ("me", Point(1, 2))
    assert list(stream) == []


def test_a_stream_that_hears_nothing_says_so_and_goes_on(client: SyncClient) -> None:
    counter = client.get_or_create(Counter, key())
    with counter.connect() as conn, conn.events(Counter.count_changed, timeout=0.05) as stream:
        for _ in range(3):
            with pytest.raises(TimeoutError, match=r"0\.05 s"):
                next(stream)
        for expected in (1, 2):
            conn.call(Counter.increment)
            assert next(stream) == expected
        stream.close()
        stream.close()
        conn.call(Counter.increment)
        assert list(stream) == []


def test_a_stream_ends_with_its_connection(client: SyncClient) -> None:
    with client.get_or_create(Counter, key()).connect() as conn:
        stream = conn.events(Counter.count_changed)
        conn.call(Counter.increment)
        read: list[int] = []
        reader = threading.Thread(target=lambda: read.extend(stream))
        reader.start()
        conn.call(Counter.increment)
    reader.join(5)
    assert not reader.is_alive()
    assert read == [1, 2]


def test_handlers_may_call_actors_and_keep_their_order(client: SyncClient) -> None:
    counter = client.get_or_create(Counter, key())
    other = client.get_or_create(Counter, key())
    seen: SimpleQueue[tuple[int, int, str]] = SimpleQueue()

    def handler(count: int) -> None:
        seen.put((count, other.call(Counter.increment), threading.current_thread().name))

    with counter.connect() as conn:
        unsubscribe = conn.on(Counter.count_changed, handler)
        for _ in range(5):
            conn.call(Counter.increment)
        found = [seen.get(timeout=5) for _ in range(5)]
        assert [item[:2] for item in found] == [(n, n) for n in range(1, 6)]
        assert {item[2].startswith("rivet_ray handlers") for item in found} == {True}
        unsubscribe()
        conn.call(Counter.increment)
        conn.once(Counter.count_changed, handler)
        conn.call(Counter.flood, 3)
        assert seen.get(timeout=5)[0] == 0
        conn.on(Counter.count_changed, handler)
        conn.off(Counter.count_changed, handler)
        conn.call(Counter.flood, 3)
    assert seen.empty()
    unsubscribe()


def test_closing_waits_for_the_handlers_of_what_has_come(client: SyncClient) -> None:
    seen: list[object] = []
    with client.get_or_create(Counter, key()).connect() as conn:
        conn.on("disconnected", lambda: seen.append("disconnected"))

        def handler(count: int) -> None:
            time.sleep(0.01)
            seen.append(count)

        conn.on(Counter.count_changed, handler)
        conn.call(Counter.flood, 3)
    assert seen == [0, 1, 2, "disconnected"]


def test_a_handler_may_close_its_connection_and_the_client(url: str) -> None:
    client = App.sync_client(url)
    conn = client.get_or_create(Counter, key()).connect().open()
    done = threading.Event()

    def handler(count: int) -> None:
        conn.close()
        client.close()
        done.set()

    conn.on(Counter.count_changed, handler)
    client.get_with_id(Counter, conn.actor_id).with_options(timeout=1).call("increment")
    assert done.wait(5)
    with pytest.raises(RivetError):
        conn.call(Counter.increment)


def test_a_handler_that_fails_is_told(client: SyncClient, caplog: pytest.LogCaptureFixture) -> None:
    problems: SimpleQueue[Exception] = SimpleQueue()

    def broken(count: int) -> None:
        raise LookupError(count)

    async def later(count: int) -> None: ...

    with client.get_or_create(Counter, key()).connect() as conn:
        conn.on("error", problems.put)
        conn.on(Counter.count_changed, broken)
        conn.call(Counter.increment)
        assert isinstance(problems.get(timeout=5), LookupError)
        with pytest.raises(TypeError, match="asynchronous"):
            conn.on(Counter.count_changed, later)
    assert "a handler of the event 'count_changed' failed" in caplog.text


def test_events_that_handlers_do_not_keep_up_with(client: SyncClient) -> None:
    """Never silence: that events are dropped is an error that is told once, and each counts."""
    go = threading.Event()
    seen: list[int] = []
    problems: list[Exception] = []

    def slow(count: int) -> None:
        go.wait(5)
        seen.append(count)

    with client.get_or_create(Counter, key()).connect() as conn:
        conn.on("error", problems.append)
        conn.on(Counter.count_changed, slow)
        conn.call(Counter.flood, MAX_UNREAD + 100)
        go.set()
    assert seen == list(range(len(seen)))
    assert conn.dropped_events > 0
    assert len(seen) + conn.dropped_events == MAX_UNREAD + 100
    assert [type(problem) for problem in problems] == [SlowConsumer]


def test_connections_that_are_refused(client: SyncClient) -> None:
    conn = client.get_or_create("closed", key()).connect()
    with pytest.raises(Forbidden), conn:
        pass
    with pytest.raises(RivetError):
        conn.call(Closed.look)
    with pytest.raises(RuntimeError, match="not open yet"):
        _ = conn.actor_id


def test_a_connection_opens_with_its_first_call_and_closes_twice(client: SyncClient) -> None:
    conn: SyncConnection[Counter] = client.get_or_create(Counter, key()).connect()
    assert conn.call(Counter.increment) == 1
    conn.close()
    conn.close()
    with pytest.raises(ConnectionClosed) as closed:
        conn.call(Counter.increment)
    assert closed.value.outcome is Outcome.NOT_STARTED


# --- Threads ----------------------------------------------------------------------------


def test_one_client_in_many_threads(client: SyncClient) -> None:
    counter = client.get_or_create(Counter, key())
    with counter.connect() as conn, ThreadPoolExecutor(16) as pool:

        def work(number: int) -> int:
            return counter.call(Counter.increment) if number % 2 else conn.call(Counter.increment)

        assert sorted(pool.map(work, range(200))) == list(range(1, 201))


def test_events_read_by_several_threads_go_to_one_each(client: SyncClient) -> None:
    with client.get_or_create(Counter, key()).connect() as conn:
        stream = conn.events(Counter.count_changed, timeout=5)
        conn.call(Counter.flood, 200)
        with ThreadPoolExecutor(8) as pool:
            read = pool.map(lambda _: next(stream), range(200))
            assert sorted(read) == list(range(200))


async def test_on_an_event_loop_it_says_what_to_do(url: str) -> None:
    client = App.sync_client(url)
    counter = client.get_or_create(Counter, key())
    waiting: list[Callable[[], object]] = [
        lambda: counter.call(Counter.increment),
        counter.resolve,
        lambda: client.create(Counter, key()),
        counter.connect().open,
        client.__enter__,
        client.close,
    ]
    for wait in waiting:
        with pytest.raises(RuntimeError, match="to_thread"):
            wait()
    assert await asyncio.to_thread(counter.call, Counter.increment, 5) == 5
    await asyncio.to_thread(client.close)


# --- The end ----------------------------------------------------------------------------


def test_closing_leaves_nothing_and_fails_what_waits(url: str) -> None:
    before = threads()
    client = App.sync_client(url)
    counter = client.get_or_create(Counter, key())
    conn = counter.connect().open()
    conn.on(Counter.count_changed, print)
    stream = conn.events(Counter.moved)
    waiting: list[Callable[[], object]] = [
        lambda: counter.call(Counter.rest, 2),
        lambda: conn.call(Counter.rest, 2),
    ]
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(wait) for wait in waiting]
        reading = pool.submit(list[Any], stream)
        conn.call(Counter.increment)
        time.sleep(0.1)
        client.close()
        for future in futures:
            error = future.exception(timeout=5)
            assert isinstance(error, RivetError), error
            assert error.outcome is Outcome.UNKNOWN
        assert reading.result(timeout=5) == []
    client.close()
    conn.close()
    with pytest.raises(RequestFailed, match="closed") as closed:
        counter.call(Counter.increment)
    assert closed.value.outcome is Outcome.NOT_STARTED
    assert threads() == before


def test_a_client_that_nobody_closed_ends_with_its_last_reference(url: str) -> None:
    before = threads()
    client = App.sync_client(url)
    assert client.get_or_create(Counter, key()).call(Counter.increment) == 1
    assert threads() > before
    # Warnings are errors here: the sockets too must be closed.
    del client
    assert threads() == before


def test_an_interrupt_gives_up_the_wait(url: str) -> None:
    """Ctrl-C works while a call waits, and the client after it."""
    with App.sync_client(url) as client:
        counter = client.get_or_create(Counter, key())
        counter.call(Counter.increment)
        timer = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            counter.call(Counter.rest, 2)
        timer.join()
        assert counter.call(Counter.increment) == 2


# --- Forks ------------------------------------------------------------------------------


def in_fork(work: Callable[[], object]) -> object:
    """What a forked worker's `work` returns, or the text of what it raises."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()

    def child() -> None:
        try:
            theirs.send(work())
        except Exception as error:
            theirs.send(f"{type(error).__name__}: {error}")

    process = context.Process(target=child)
    process.start()
    try:
        assert mine.poll(10), "the worker does not answer"
        return mine.recv()
    finally:
        process.join(10)
        mine.close()
        theirs.close()
        assert process.exitcode == 0


# Python warns of forks while threads run, since 3.12; the server of the tests is one.
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@forks
def test_a_worker_uses_a_client_that_was_made_before_the_fork(url: str) -> None:
    with App.sync_client(url) as client:
        counter = client.get_or_create(Counter, key())

        def work() -> object:
            with counter.connect() as conn:
                return counter.call(Counter.increment), conn.call(Counter.increment)

        assert in_fork(work) == (1, 2)
        assert in_fork(work) == (3, 4)
        assert counter.call(Counter.increment) == 5
        assert "used before the process forked" in str(in_fork(work))
        assert counter.call(Counter.increment) == 6


@forks
def test_a_worker_makes_its_own_client(url: str) -> None:
    name = key()
    with App.sync_client(url) as parent:
        parent.get_or_create(Counter, name).call(Counter.increment)

        def work() -> object:
            with App.sync_client(url) as own:
                return own.get(Counter, name).call(Counter.increment)

        assert in_fork(work) == 2
        assert parent.get(Counter, name).call(Counter.increment) == 3
