"""`migrate`: what older code saved, in the form of newer code."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer
from runtime_worlds import Probe, part

from rivet_ray import Actor, Registry, action, use
from rivet_ray.errors import InternalError
from rivet_ray.store import open_store
from rivet_ray.testing import setup_test
from rivet_ray.testing.clock import settle
from rivet_ray_drivers.memory import MemoryStore


@dataclass
class Euros:
    euros: float = 0.0
    owner: str = "nobody"


@dataclass
class Cents:
    cents: int = 0
    owner: str = "nobody"


class Old(Actor[Euros]):
    public = True

    @action
    def put(self, euros: float, owner: str) -> None:
        self.state = Euros(euros, owner)


class New(Actor[Cents]):
    public = True
    state_version = 2

    @classmethod
    def migrate(cls, raw: dict[str, Any], version: int) -> dict[str, Any]:
        assert version == 1
        raw["cents"] = round(raw.pop("euros") * 100)
        return raw

    @action(readonly=True)
    def look(self) -> tuple[int, str]:
        return self.state.cents, self.state.owner

    @action
    def spoil(self) -> None:
        self.state.cents = "many"  # type: ignore[assignment]


class OldApp(Registry):
    account = use(Old)


class NewApp(Registry):
    account = use(New)


async def saved_by_old() -> tuple[Probe, str]:
    store = Probe()
    async with setup_test(OldApp, store=store) as test:
        account = test.client.account.get_or_create("k")
        await account.put(12.34, "me")
        return store, await account.resolve()


async def test_older_state_is_migrated_when_it_is_loaded() -> None:
    store, actor = await saved_by_old()
    async with setup_test(NewApp, store=store) as test:
        assert await test.client.account.get_or_create("k").look() == (1234, "me")
        assert part(store, actor, "state/cents") == 1234  # saved before anybody sees it
        assert part(store, actor, "state/euros") == 12.34  # nothing that was saved goes
    assert (await store.inner.find_ownership(actor)).stamp.state_version == 2
    async with setup_test(NewApp, store=store) as test:  # and not a second time
        assert await test.client.account.get_or_create("k").look() == (1234, "me")


async def test_a_bad_value_after_it_goes_back_to_the_migrated_one() -> None:
    store, _ = await saved_by_old()
    async with setup_test(NewApp, store=store) as test:
        account = test.client.account.get_or_create("k")
        with pytest.raises(InternalError):
            await account.spoil()
        assert await account.look() == (1234, "me")


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (KeyError("cents"), r"migrate from state_version 1 to 2 failed: KeyError: 'cents'"),
        (SystemExit(3), r"migrate from state_version 1 to 2 failed: .*SystemExit"),
        (None, r"returned NoneType: return the dict"),
        ({1: 2}, r"returned the key 1"),
        ({"cents": object()}, r"cannot be saved in state.cents"),
        ({"cents": "many"}, r"does not fit the state: .*cents"),
    ],
)
async def test_a_migration_that_fails_leaves_the_data(
    result: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(New):
        @classmethod
        def migrate(cls, raw: dict[str, Any], version: int) -> dict[str, Any]:
            if isinstance(result, BaseException):
                raise result
            return result

    class BrokenApp(Registry):
        account = use(Broken)

    store, actor = await saved_by_old()
    before = dict(store.inner._living[actor].parts)
    async with setup_test(BrokenApp, store=store) as test:
        with pytest.raises(InternalError):
            await test.client.account.get_or_create("k").look()
    assert store.inner._living[actor].parts == before
    assert "<account 'k' " in caplog.text

    assert re.search(told, caplog.text)
    async with setup_test(NewApp, store=store) as test:
        assert await test.client.account.get_or_create("k").look() == (1234, "me")


class Wide(Actor[Any]):
    """Two fields that change together."""

    public = True

    def create_state(self, input: Any) -> Any:
        return {"version": 1, "other": 1}

    @action(readonly=True)
    def look(self) -> list[int]:
        return [self.state["version"], self.state["other"]]


MIGRATED: list[int] = []


class WideTwo(Wide):
    state_version = 2

    @classmethod
    def migrate(cls, raw: dict[str, Any], version: int) -> dict[str, Any]:
        assert (version, raw) == (1, {"version": 1, "other": 1})
        MIGRATED.append(version)
        return {"version": 2, "other": 2}


class WideApp(Registry):
    wide = use(Wide)


class WideTwoApp(Registry):
    wide = use(WideTwo)


@pytest.mark.parametrize("crash", ["before the save", "in the save", "after the save"])
@pytest.mark.parametrize("kind", ["memory", "file", "redis"])
async def test_a_crash_while_migrating_leaves_the_old_state_or_the_new_one(
    kind: str, crash: str, tmp_path: Path, redis: RedisServer
) -> None:
    stores = {
        "memory": MemoryStore,
        "file": lambda: open_store(tmp_path.as_uri()),
        "redis": lambda: open_store(redis.url(tmp_path.name)),
    }
    opened: Any = stores[kind]()
    inner: Any = opened if kind == "memory" else await opened
    store = Probe(inner)
    MIGRATED.clear()
    async with setup_test(WideApp, store=store) as test:
        assert await test.client.wide.get_or_create("k").look() == [1, 1]
    async with setup_test(WideTwoApp, store=store) as test:
        asked = asyncio.ensure_future(test.client.wide.get_or_create("k").look())
        if crash == "before the save":
            store.hold()
        elif crash == "in the save":
            store.failures = ["lost"] * 100
        for _ in range(1000):
            await settle()
            await asyncio.sleep(0.002)
            if MIGRATED and (crash == "after the save" or store.batches):
                break
        if crash == "after the save":
            assert await asked == [2, 2]
        else:
            assert not asked.done()  # Nobody sees what is not saved.
        await test.crash()
        asked.cancel()
        store.failures, store.down = [], False
        store.release()
    async with setup_test(WideTwoApp, store=store) as test:
        assert await test.client.wide.get_or_create("k").look() == [2, 2]
    assert set(MIGRATED) == {1}
    assert len(MIGRATED) == (2 if crash == "before the save" else 1)
    ids = await inner.list_actors("default")
    assert (await inner.find_ownership(ids[0].id)).stamp.state_version == 2
    await inner.close()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()
