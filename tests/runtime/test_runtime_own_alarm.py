"""A host for one actor wakes that one, and never takes another (`HostSettings.alone`)."""

from __future__ import annotations

from dataclasses import dataclass

from rivet_ray import Actor, Registry, action, use
from rivet_ray.protocol import values
from rivet_ray.runtime import Host, HostClient, HostSettings
from rivet_ray.testing import Setup, setup_test


@dataclass
class State:
    rung: int = 0


class Clock(Actor[State]):
    @action
    def ring(self) -> None:
        self.state.rung += 1

    @action
    def ring_after(self, milliseconds: int) -> None:
        self.schedule.after(milliseconds, Clock.ring)

    @action(readonly=True)
    def rung(self) -> int:
        return self.state.rung


class App(Registry):
    clock = use(Clock)


async def due(test: Setup[App], *names: str) -> list[str]:
    """Ids of actors whose alarm was due while no host was there."""
    ids = [await test.client.clock.get_or_create(name).resolve() for name in names]
    for name in names:
        await test.client.clock.get(name).ring_after(5_000)
    test.backend.abandon()
    test.clock.set_wall(test.clock.now() + 60)
    return ids


def alone(test: Setup[App], actor: str) -> Host:
    host = Host(App.definitions(), test.store, clock=test.clock, settings=HostSettings(alone=actor))
    host.start()
    return host


async def test_it_wakes_its_own_at_once_and_leaves_the_others() -> None:
    async with setup_test(App) as test:
        one, two = await due(test, "one", "two")
        before = await test.store.alarms_due(test.clock.now())
        assert {actor for _, actor in before} == {one, two}
        host = alone(test, one)
        await test.clock.advance(1)
        assert host.resident == 1
        assert [actor for _, actor in await test.store.alarms_due(test.clock.now())] == [two]
        await host.close()


async def test_it_follows_the_alarm_over_sleep() -> None:
    async with setup_test(App) as test:
        [one] = await due(test, "one")
        host = alone(test, one)
        await test.clock.advance(1)
        calls = HostClient(host)
        await calls.call(one, "ring_after", values.encode([120_000]))
        await test.clock.advance(60)
        assert host.resident == 0, "it sleeps"
        await test.clock.advance(61)
        assert host.resident == 1
        rung = await calls.call(one, "rung", values.encode([]))
        assert rung is not None
        assert values.decode(rung) == 2
        await host.close()
        calls.close()


async def test_an_actor_that_is_gone_is_not_tried_again() -> None:
    async with setup_test(App) as test:
        host = alone(test, "nobody")
        await test.clock.advance(1)
        pending = test.clock.pending
        await test.clock.advance(60)
        assert test.clock.pending <= pending
        assert host.resident == 0
        await host.close()
