"""Which actor is meant, over every way: get, create, getOrCreate, getForId, and keys."""

from __future__ import annotations

import pytest
from ways import World

from rivet_ray import ids
from rivet_ray.errors import ActorAlreadyExists, ActorNotFound, InvalidRequest, Outcome

pytestmark = pytest.mark.timeout(150)


def id_of(*key: str) -> str:
    return ids.actor_id(ids.DEFAULT_NAMESPACE, "counter", key)


async def test_get_or_create(world: World, key: str) -> None:
    async with world.reach(world.app.counter.get_or_create(key)) as counter:
        assert await counter.where() == (id_of(key), [key])
        assert await counter.increment() == 1
    async with world.reach(world.app.counter.get_or_create(key)) as counter:
        assert await counter.increment() == 2


async def test_get(world: World, key: str) -> None:
    for _ in range(2):
        with pytest.raises(ActorNotFound) as caught:
            async with world.reach(world.app.counter.get(key)) as counter:
                await counter.read()
        assert caught.value.outcome is Outcome.NOT_STARTED
    with pytest.raises(ActorNotFound):
        await world.client.get("counter", key).resolve()
    await world.client.actor("counter", key).resolve()
    async with world.reach(world.app.counter.get(key)) as counter:
        assert await counter.where() == (id_of(key), [key])


async def test_create(world: World, key: str) -> None:
    created = await world.app.counter.create(key, 7)
    async with world.reach(created) as counter:
        assert await counter.increment() == 8
    with pytest.raises(ActorAlreadyExists) as caught:
        await world.app.counter.create(key, 9)
    assert caught.value.outcome is Outcome.NOT_STARTED
    async with world.reach(world.app.counter.get(key)) as counter:
        assert await counter.read() == 8
    used = f"{key}-used"
    async with world.reach(world.app.counter.get_or_create(used)) as counter:
        await counter.increment()
    with pytest.raises(ActorAlreadyExists):
        await world.app.counter.create(used)


async def test_by_id(world: World, key: str) -> None:
    assert await world.client.actor("counter", key).resolve() == id_of(key)
    async with world.reach(world.app.counter.get_with_id(id_of(key))) as counter:
        assert await counter.where() == (id_of(key), [key])
    async with world.reach(world.client.get_with_id(id_of(key))) as counter:
        assert await counter.call("read") == 0
    for unknown in (id_of(key, "no"), "", "0", f"{id_of(key)}-2", "../x"):
        with pytest.raises(ActorNotFound):
            async with world.reach(world.app.counter.get_with_id(unknown)) as counter:
                await counter.read()


async def test_input_is_for_the_first_only(world: World, key: str) -> None:
    for given, expected in ((5, 5), (6, 5), (None, 5)):
        async with world.reach(world.app.counter.get_or_create(key, given)) as counter:
            assert await counter.read() == expected


async def test_an_unknown_type(world: World, key: str) -> None:
    for name in ("nobody", "Counter", "", "counter "):
        with pytest.raises(ActorNotFound):
            async with world.reach(world.client.actor(name, key)) as actor:
                await actor.call("read")


# --- Keys -------------------------------------------------------------------------------


async def test_each_key_is_an_actor_of_its_own(world: World, key: str) -> None:
    """A.5: exact equality of the list decides, its order too."""
    keys = [
        [key],
        [key, ""],
        ["", key],
        [key, "a"],
        ["a", key],
        [key, "a", "b"],
        [key, "a:b"],
        [key, "a/b"],
        [key, "a,b"],
        [f"{key}:a"],
        [f"{key}/a"],
        [key.upper()],
        [f"{key} "],
        [key, "\\"],
        [key, "\\", ":"],
        [key, "é"],
        [key, "e\u0301"],
        [key, "\U0001f600", "\x00\n"],
        [key, "%2F"],
        [key, "*", "{x}"],
    ]
    for number, parts in enumerate(keys, 1):
        async with world.reach(world.app.counter.get_or_create(parts)) as counter:
            assert await counter.increment(number) == number, parts
            assert await counter.where() == (id_of(*parts), parts)
    for number, parts in enumerate(keys, 1):
        assert await world.app.counter.get(parts).read() == number, parts


async def test_no_key_is_a_key(world: World) -> None:
    for handle in (world.app.counter.get_or_create(), world.app.counter.get_or_create([])):
        async with world.reach(handle) as counter:
            assert await counter.where() == (id_of(), [])


async def test_a_key_of_one_part_may_be_a_string(world: World, key: str) -> None:
    async with world.reach(world.app.counter.get_or_create(key)) as counter:
        await counter.increment(3)
    async with world.reach(world.app.counter.get([key])) as counter:
        assert await counter.read() == 3


async def test_the_longest_parts(world: World, key: str) -> None:
    parts = [key, "x" * 128, "\U0001f600" * 64, "é" * 128]
    async with world.reach(world.app.counter.get_or_create(parts)) as counter:
        assert await counter.where() == (id_of(*parts), parts)
    for part in ("x" * 129, "\U0001f600" * 65):
        with pytest.raises(InvalidRequest):
            world.app.counter.get_or_create([key, part])
