"""Hosts that share a store claim only what they can run (row F3 of faults.md, C1)."""

from __future__ import annotations

from typing import Any

import pytest
from runtime_alarm import App
from runtime_worlds import Probe, quiet

from rivet_ray import Actor, Registry, action, use
from rivet_ray.runtime import HostSettings
from rivet_ray.store import CommitResult
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
