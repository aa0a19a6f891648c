"""Hosts that share a store claim only what they can run (row F3 of faults.md, C1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from runtime_alarm import App
from runtime_worlds import Probe, quiet

from rivet_ray import Actor, DefinitionError, Outcome, Registry, StateTooNew, action, use
from rivet_ray.runtime import HostSettings
from rivet_ray.store import CommitResult, Stamp
from rivet_ray.testing import setup_test


class Other(Actor[None]):
    public = True

    @action
    def ping(self) -> str:
        return "pong"


class Others(Registry):
    other = use(Other)


OTHER_NAMESPACE = HostSettings(namespace="other")


@pytest.mark.parametrize(
    ("registry", "settings"),
    [(Others, HostSettings()), (App, OTHER_NAMESPACE)],
    ids=["registry", "namespace"],
)
async def test_an_alarm_of_other_hosts_leaves_their_actor_alone(
    registry: type[Any], settings: HostSettings
) -> None:
    """Before, the host claimed first and looked then: the owner was fenced every 5 s."""
    store = Watched()
    async with setup_test(App, store=store) as mine:
        alarm = mine.client.alarm.get_or_create("k")
        await alarm.after(12_000, "x")
        async with setup_test(registry, store=store, settings=settings) as foreign:
            for _ in range(6):  # The other's clock runs ahead: the alarm is due there.
                await foreign.clock.advance(5)
                await quiet(foreign)
                await alarm.after(60_000, "y")
        await mine.clock.advance(12)
        await quiet(mine)
        assert await alarm.fired() == ["x"]
        ownership = await store.inner.find_ownership(await alarm.resolve())
        assert ownership.epoch == 1
        assert CommitResult.FENCED not in store.results


class Watched(Probe):
    def __init__(self) -> None:
        super().__init__()
        self.results: list[Any] = []

    async def commit(self, commits: Any) -> Any:
        results = await super().commit(commits)
        self.results.extend(results)
        return results


# --- Older and newer code -------------------------------------------------------------------


@dataclass
class State:
    count: int = 0


class Old(Actor[State]):
    public = True

    @action
    def increment(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    def soon(self, delay: float) -> None:
        self.schedule.after(delay, "increment")


class New(Old):
    state_version = 2


class OldApp(Registry):
    counter = use(Old)


class NewApp(Registry):
    counter = use(New)


async def test_older_code_leaves_alone_what_newer_code_saved(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Watched()
    async with setup_test(OldApp, store=store) as old:
        assert await old.client.counter.get_or_create("k").increment() == 1
        assert await old.client.counter.get_or_create("other").increment() == 1
        actor = await old.client.counter.get_or_create("k").resolve()
        first = (await store.inner.find_ownership(actor)).stamp
        assert first.state_version == 1
        assert first.fingerprint
    async with setup_test(NewApp, store=store) as new:
        counter = new.client.counter.get_or_create("k")
        assert await counter.increment() == 2
        assert (await store.inner.find_ownership(actor)).stamp == Stamp(2, first.fingerprint)
        await counter.soon(12_000)
        before = await store.inner.find_ownership(actor)
        async with setup_test(OldApp, store=store) as old:
            for _ in range(40):  # Its clock runs ahead: the alarm is due there.
                await old.clock.advance(5)
                await quiet(old)
            for _ in range(2):
                with pytest.raises(StateTooNew, match=r"state_version 2.*runs version 1") as caught:
                    await old.client.counter.get_or_create("k").increment()
                assert caught.value.outcome is Outcome.NOT_STARTED
            assert await old.client.counter.get_or_create("other").increment() == 2
        assert await store.inner.find_ownership(actor) == before
        await new.clock.advance(12)
        await quiet(new)
        assert await counter.increment() == 4
    assert CommitResult.FENCED not in store.results
    told = [record for record in caplog.records if "state_version" in record.getMessage()]
    assert len(told) == 1
    assert not [record for record in caplog.records if "woken" in record.getMessage()]


async def test_the_stamp_is_written_once() -> None:
    """A durable action of the same code writes no more than before."""
    store = Watched()
    async with setup_test(OldApp, store=store) as test:
        for _ in range(3):
            await test.client.counter.get_or_create("k").increment()
    async with setup_test(OldApp, store=store) as test:
        await test.client.counter.get_or_create("k").increment()
    assert [commit.stamp is not None for commit in store.commits].count(True) == 1


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "2", 2**31])
def test_a_version_is_a_whole_number(version: Any) -> None:
    with pytest.raises(DefinitionError, match="state_version must be a whole number from 1"):
        type("Bad", (Old,), {"state_version": version})
