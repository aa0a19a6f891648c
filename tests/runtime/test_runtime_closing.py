"""No wait without an end: a host closes in its time, whatever code and store do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from runtime_worlds import Probe, Tap, part, started

from rivet_ray import Actor, Outcome, Registry, action, use
from rivet_ray.errors import StoreUnavailable
from rivet_ray.runtime import HostSettings, Standalone
from rivet_ray.runtime.patience import SILENCE, STORE_CLOSE
from rivet_ray.testing import ManualClock, Setup, setup_test
from rivet_ray.testing.clock import settle

TIMEOUT = 8.0
SETTINGS = HostSettings(close_timeout=TIMEOUT)


class Patience:
    over = False


async def stubborn() -> None:
    """Never ends, and takes no notice of being cancelled, until the test is over."""
    while not Patience.over:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


@dataclass
class State:
    count: int = 0
    stopped: int = 0


class Counter(Actor[State]):
    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    async def hang(self) -> None:
        self.state.count += 1
        await asyncio.Event().wait()

    @action
    async def ignore(self) -> None:
        await stubborn()


class Stubborn(Counter):
    async def on_stop(self) -> None:
        self.state.stopped += 1
        await stubborn()


class Polite(Counter):
    async def on_stop(self) -> None:
        self.state.stopped += 1

    @action
    def end(self) -> None:
        self.destroy()


class Starting(Counter):
    async def on_start(self) -> None:
        await stubborn()


class Linked(Counter):
    @action
    async def link(self) -> None:
        self.client(App)


class App(Registry):
    counter = use(Counter)
    stubborn = use(Stubborn)
    polite = use(Polite)
    starting = use(Starting)
    linked = use(Linked)


@pytest.fixture
async def test() -> AsyncIterator[Setup[App]]:
    store = Probe()
    Patience.over = False
    async with setup_test(App, store=store, settings=SETTINGS) as test:  # pyright: ignore
        yield test
        Patience.over = True
        store.release()


async def closed(test: Setup[App]) -> float:
    """After how many seconds the backend has closed."""
    began = test.clock.monotonic()
    closing = asyncio.ensure_future(test.backend.close())
    await settle()
    while not closing.done() and test.clock.monotonic() < began + 60:
        await test.clock.advance(0.1)
    assert closing.done(), "it is not closed after a minute"
    await closing
    return test.clock.monotonic() - began


async def test_with_nothing_to_wait_for_it_takes_no_time(test: Setup[App]) -> None:
    await started(test, test.client.counter.get_or_create("k"))
    assert await closed(test) == 0


@pytest.mark.parametrize("action_name", ["hang", "ignore"])
async def test_actions_that_do_not_end_have_half_of_the_time(
    test: Setup[App], action_name: str
) -> None:
    actor = await started(test, test.client.polite.get_or_create("k"))
    tap = Tap(test)
    call = tap.call(actor, action_name)
    assert TIMEOUT / 2 <= await closed(test) <= TIMEOUT / 2 + 1.2
    assert tap.error(call).code == "actor_stopped"
    assert tap.error(call).outcome is not Outcome.NOT_STARTED
    assert part(test, actor, "state/stopped") == 1, "on_stop has run, and is saved"
    assert part(test, actor, "state/count") == (action_name == "hang")


async def test_on_stop_that_takes_no_notice_has_a_quarter(
    test: Setup[App], caplog: pytest.LogCaptureFixture
) -> None:
    actor = await started(test, test.client.stubborn.get_or_create("k"))
    assert TIMEOUT / 4 <= await closed(test) <= TIMEOUT / 4 + 1.2
    assert part(test, actor, "state/stopped") == 1
    assert "on_stop took longer than 2 s" in caplog.text


async def test_both_at_once_leave_time_for_saving(test: Setup[App]) -> None:
    actor = await started(test, test.client.stubborn.get_or_create("k"))
    Tap(test).call(actor, "ignore")
    assert await closed(test) <= TIMEOUT
    assert part(test, actor, "state/stopped") == 1


async def test_a_store_that_hangs(test: Setup[App], caplog: pytest.LogCaptureFixture) -> None:
    """Its time is over, the log names what may not be saved, and the callers are told."""
    store: Any = test.store
    actor, other = [await started(test, test.client.counter.get_or_create(k)) for k in "ab"]
    tap = Tap(test)
    store.hold()
    calls = [tap.call(actor, "add"), tap.call(other, "add")]
    await settle()
    assert TIMEOUT <= await closed(test) <= TIMEOUT + 0.2
    for call in calls:
        assert tap.error(call).outcome is Outcome.UNKNOWN
    assert "the last changes of 2 actors may not be saved" in caplog.text
    assert actor in caplog.text


async def test_a_gather_that_never_comes(
    test: Setup[App], caplog: pytest.LogCaptureFixture
) -> None:
    """As after a fault of the runtime itself (A1)."""
    actor = await started(test, test.client.counter.get_or_create("k"))
    test.backend.host.checkpointer._gathering = True
    call = Tap(test).call(actor, "add")
    await settle()
    assert await closed(test) <= TIMEOUT + 0.2
    assert part(test, actor, "state/count") in (0, 1)
    assert call


async def test_a_start_that_takes_no_notice(test: Setup[App]) -> None:
    handle = test.client.starting.get_or_create("k")
    actor, tap = await handle.resolve(), Tap(test)
    call = tap.call(actor, "add")
    await settle()
    assert await closed(test) <= 1.2
    assert tap.error(call).code == "server_stopping"
    assert tap.error(call).outcome is Outcome.NOT_STARTED


async def test_a_destroy_under_way_is_finished(test: Setup[App]) -> None:
    """C7: also where `on_stop` still runs when the host closes."""
    handle = test.client.polite.get_or_create("k")
    actor = await started(test, handle)
    call = Tap(test).call(actor, "end")
    await closed(test)
    assert call
    assert await test.store.find_by_id(actor) is None


async def test_one_that_cannot_stop_leaves_the_others_saved(test: Setup[App]) -> None:
    good, bad = [await started(test, test.client.polite.get_or_create(k)) for k in "ab"]
    instance: Any = test.backend.host.running(bad)
    instance.exchanges = None
    assert await closed(test) <= 1.2
    assert part(test, good, "state/stopped") == 1


async def test_a_client_of_an_actor_that_does_not_close(test: Setup[App]) -> None:
    handle = test.client.linked.get_or_create("k")
    actor = await started(test, handle)
    await handle.link()
    instance: Any = test.backend.host.running(actor)

    class Client:
        async def aclose(self) -> None:
            await asyncio.Event().wait()

    instance.context._clients[App] = Client()
    assert await closed(test) <= TIMEOUT


class HangingStore(Probe):
    """Some of its methods never answer."""

    def __init__(self, *hanging: str) -> None:
        super().__init__()
        self.hanging = set(hanging)

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("hanging", ()):
            return self._hang
        return super().__getattr__(name)

    async def close(self) -> None:
        await self._hang()

    async def _hang(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()


async def test_a_store_that_does_not_close(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_store(_: str) -> Any:
        return HangingStore()

    monkeypatch.setattr("rivet_ray.runtime.patience.open_store", open_store)
    clock = ManualClock()
    backend = Standalone(App.definitions(), clock=clock)
    await backend.start()
    closing = asyncio.ensure_future(backend.close())
    await clock.advance(STORE_CLOSE)
    assert closing.done()
    assert "the store is not closed in good order" in caplog.text
    await closing


@pytest.mark.parametrize("method", ["create", "find", "find_by_id", "claim"])
async def test_a_look_up_that_is_not_answered(method: str) -> None:
    """C9: it counts as a store that is away, nothing was started, and the next one works."""
    store = HangingStore()
    async with setup_test(App, store=store) as test:  # pyright: ignore
        actor = await test.client.counter.get_or_create("k").resolve()
        test.backend.directory._known.clear()
        store.hanging.add(method)
        handle: Any = {
            "create": test.client.counter.get_or_create("other"),
            "find": test.client.counter.get("k"),
            "find_by_id": test.client.counter.get_with_id(actor),
            "claim": test.client.counter.get_with_id(actor),
        }[method]
        calling = asyncio.ensure_future(handle.add())
        await test.clock.advance(SILENCE)
        with pytest.raises(StoreUnavailable) as error:
            await calling
        assert error.value.code == "store_unavailable"
        store.hanging.clear()
        assert await handle.add() == 1


async def test_alarms_go_on_after_an_answer_that_never_came() -> None:
    store = HangingStore("alarms_due")
    async with setup_test(App, store=store) as test:  # pyright: ignore
        await test.clock.advance(SILENCE)
        assert test.backend.host.alarms._armed_for is not None  # type: ignore[union-attr]


async def test_an_actor_falls_asleep_while_the_store_hangs(test: Setup[App]) -> None:
    """And is there for the next call once the store is back."""
    store: Any = test.store
    handle = test.client.polite.get_or_create("k")
    await handle.add()
    store.hold()
    await test.clock.advance(60)
    assert test.backend.host.resident == 0
    store.release()
    await settle()
    assert await handle.add() == 2
