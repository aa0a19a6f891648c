"""An actor with `destroy_after` that was created, and that nobody has used then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from runtime_worlds import quiet

from rivet_ray import Actor, Registry, action, use
from rivet_ray.errors import InternalError, StoreUnavailable
from rivet_ray.runtime.unused import expire_unused
from rivet_ray.store import ActorRecord, Claim, Claimant, Commit, CommitResult, NewActor, Store
from rivet_ray.testing import ManualClock, setup_test
from rivet_ray_drivers.memory import MemoryStore

AFTER = 1_000.0
LATEST = 1.1 * AFTER
LOOK = 3_600.0
"""Seconds within which a host looks for alarms that others have set."""

TOLD: list[str] = []


class Guest(Actor[None]):
    destroy_after = timedelta(seconds=AFTER)
    sleep_after = 10

    def on_create(self, input: Any) -> None:
        TOLD.append("create")

    def on_stop(self) -> None:
        TOLD.append("stop")

    @action
    def greet(self) -> str:
        return "hello"


class App(Registry):
    guest = use(Guest)


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    TOLD.clear()


@pytest.mark.parametrize("way", ["get_or_create", "create"])
async def test_it_is_destroyed(way: str) -> None:
    async with setup_test(App) as test:
        guests = test.client.guest
        guest = guests.get_or_create("k") if way == "get_or_create" else await guests.create("k")
        actor = await guest.resolve()
        assert test.backend.host.resident == 0, "nothing was started for it"
        await test.clock.advance(AFTER)
        assert await test.store.find_by_id(actor) is not None
        await test.clock.advance(LATEST - AFTER + LOOK)
        assert await test.store.find_by_id(actor) is None
        assert TOLD == ["create", "stop"]
        assert await test.store.sizes() == []


async def test_its_first_use_counts() -> None:
    async with setup_test(App) as test:
        guest = test.client.guest.get_or_create("k")
        actor = await guest.resolve()
        await test.clock.advance(AFTER)
        assert await guest.greet() == "hello"
        await test.clock.advance(AFTER)
        assert await test.store.find_by_id(actor) is not None
        await test.clock.advance(LATEST - AFTER)
        assert await test.store.find_by_id(actor) is None


class Refusing(Guest):
    def on_create(self, input: Any) -> None:
        TOLD.append("create")
        raise ValueError("this key is not allowed")


class Pausing(Guest):
    async def on_create(self, input: Any) -> None:
        await self.save()
        TOLD.append("saved")
        await asyncio.Event().wait()


class Failing(Registry):
    refusing = use(Refusing)
    pausing = use(Pausing)


async def test_one_whose_creation_fails_is_destroyed() -> None:
    """And not created again every five seconds for ever."""
    async with setup_test(Failing) as test:
        guest = test.client.refusing.get_or_create("k")
        with pytest.raises(InternalError):
            await guest.greet()
        actor = await guest.resolve()
        TOLD.clear()
        await test.clock.advance(LATEST + LOOK)
        assert await test.store.find_by_id(actor) is None
        assert TOLD.count("create") == 1


async def test_a_crash_within_its_creation_leaves_its_expiry() -> None:
    store = MemoryStore()
    async with setup_test(Failing, store=store) as test:
        guest = test.client.pausing.get_or_create("k")
        call = asyncio.ensure_future(guest.greet())
        await quiet(test)
        assert TOLD == ["saved"]
        actor = await guest.resolve()
        test.backend.abandon()
        call.cancel()
    expiry = await store.next_alarm()
    assert expiry is not None
    async with setup_test(Failing, store=store) as test:
        await test.clock.advance(LATEST + LOOK)
        assert await store.find_by_id(actor) is None


async def test_a_creation_whose_answer_was_lost() -> None:
    class Losing(MemoryStore):
        lost = False

        async def create(self, actor: NewActor) -> tuple[ActorRecord, bool]:
            found = await super().create(actor)
            if not self.lost:
                self.lost = True
                raise StoreUnavailable("no answer")
            return found

    store = Losing()
    async with setup_test(App, store=store) as test:
        resolving = asyncio.ensure_future(test.client.guest.get_or_create("k").resolve())
        await quiet(test)
        await test.clock.advance(1)
        actor = await resolving
        await test.clock.advance(LATEST + LOOK)
        assert await store.find_by_id(actor) is None


async def test_another_host_finds_it() -> None:
    """Whose gateway made it is gone; a host that was idle all the time looks now and then."""
    store = MemoryStore()
    async with setup_test(App, store=store) as idle:
        await quiet(idle)
        async with setup_test(App, store=store) as other:
            actor = await other.client.guest.get_or_create("k").resolve()
        await idle.clock.advance(AFTER)
        assert await store.find_by_id(actor) is not None
        await idle.clock.advance(LATEST - AFTER + LOOK)
        assert await store.find_by_id(actor) is None


# --- A host that claims it meanwhile ----------------------------------------------------

Meanwhile = Callable[[], Awaitable[Any]]


class Overtaken(MemoryStore):
    """Something happens before one of its methods."""

    def __init__(self, before: str) -> None:
        super().__init__()
        self.before = before
        self.meanwhile: Meanwhile | None = None

    async def _happen(self, method: str) -> None:
        if method == self.before and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()

    async def find_ownership(self, actor_id: str) -> Any:
        await self._happen("find_ownership")
        return await super().find_ownership(actor_id)

    async def claim(self, actor_id: str, *given: Any, **more: Any) -> Any:
        await self._happen("claim")
        return await super().claim(actor_id, *given, **more)

    async def commit(self, commits: Any) -> Any:
        await self._happen("commit")
        return await super().commit(commits)


async def created(store: Store) -> ActorRecord:
    record, _ = await store.create(NewActor("default", "guest", ("k",)))
    return record


@pytest.mark.parametrize("before", ["find_ownership", "claim", "commit"])
async def test_a_host_that_claims_it_meanwhile_keeps_it(before: str) -> None:
    store = Overtaken(before)
    record = await created(store)
    claims: list[Claim] = []

    async def claim() -> None:
        found = await store.claim(record.id, "host", Claimant("host"))
        assert isinstance(found, Claim)
        claims.append(found)

    store.meanwhile = claim
    await expire_unused(store, ManualClock(), App.definitions()["guest"], record)
    commit = Commit(record.id, claims[0].fence, claims[0].sequence + 1, type=record.type)
    assert await store.commit([commit]) == [CommitResult.COMMITTED]
    owner = await store.find_ownership(record.id)
    assert owner is not None
    assert owner.owner == "host"


async def test_a_store_that_goes_away_does_not_undo_the_creation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Overtaken("commit")
    record = await created(store)

    async def away() -> None:
        raise StoreUnavailable("gone")

    store.meanwhile = away
    await expire_unused(store, ManualClock(), App.definitions()["guest"], record)
    assert f"{record} has no expiry until somebody uses it: gone" in caplog.text
