"""Alarms: which actors want to be woken, and when."""

from __future__ import annotations

from rivet_ray.store import ActorType, Store
from rivet_ray.testing.conformance.base import (
    ConformanceBase,
    Owner,
    create,
    create_owned,
    look,
    owner_of,
)


async def with_alarm(store: Store, key: str, alarm: float | None) -> Owner:
    owner = await create_owned(store, key)
    await owner.commit(alarm=alarm)
    return owner


class AlarmConformance(ConformanceBase):
    async def test_without_alarms_nothing_is_due(self, store: Store) -> None:
        await with_alarm(store, "a", None)
        assert await store.next_alarm() is None
        assert await store.alarms_due(1e12) == []

    async def test_alarms_are_due_in_order(self, store: Store) -> None:
        times = [30.0, 10.0, 50.0, 20.5, 20.25]
        owners = {time: await with_alarm(store, str(time), time) for time in times}
        assert await store.next_alarm() == 10.0
        assert await store.alarms_due(9.999) == []
        assert await store.alarms_due(30.0) == [
            (time, owners[time].id) for time in (10.0, 20.25, 20.5, 30.0)
        ]
        assert await store.alarms_due(1e12) == [(time, owners[time].id) for time in sorted(times)]

    async def test_alarms_of_one_time_are_all_due(self, store: Store) -> None:
        owners = [await with_alarm(store, str(number), 10.0) for number in range(5)]
        due = await store.alarms_due(10.0)
        assert [time for time, _ in due] == [10.0] * 5
        assert {actor_id for _, actor_id in due} == {owner.id for owner in owners}

    async def test_at_most_limit_alarms_are_given_the_earliest_first(self, store: Store) -> None:
        owners = [await with_alarm(store, str(number), 10.0 - number) for number in range(6)]
        expected = [(10.0 - number, owners[number].id) for number in range(5, -1, -1)]
        for limit in (0, 1, 3, 6, 7):
            assert await store.alarms_due(10.0, limit) == expected[:limit]

    async def test_the_limit_is_100_where_none_is_given(self, store: Store) -> None:
        owners = [await create_owned(store, str(number)) for number in range(101)]
        await store.commit([owner.next(alarm=float(number)) for number, owner in enumerate(owners)])
        due = await store.alarms_due(1e12)
        assert due == [(float(number), owners[number].id) for number in range(100)]

    async def test_asking_does_not_change_what_is_due(self, store: Store) -> None:
        owner = await with_alarm(store, "a", 10.0)
        for _ in range(2):
            assert await store.alarms_due(10.0) == [(10.0, owner.id)]
        assert (await look(store, owner.id)).alarm == 10.0
        assert await store.alarms_due(10.0) == [(10.0, owner.id)]

    async def test_an_alarm_moves(self, store: Store) -> None:
        owner = await with_alarm(store, "a", 10.0)
        other = await with_alarm(store, "b", 15.0)
        await owner.commit(alarm=20.0)
        assert await store.next_alarm() == 15.0
        assert await store.alarms_due(19.0) == [(15.0, other.id)]
        assert await store.alarms_due(20.0) == [(15.0, other.id), (20.0, owner.id)]
        await owner.commit(alarm=5.0)
        assert await store.next_alarm() == 5.0
        assert await store.alarms_due(15.0) == [(5.0, owner.id), (15.0, other.id)]

    async def test_a_commit_without_alarm_clears_it(self, store: Store) -> None:
        owner = await with_alarm(store, "a", 10.0)
        await owner.commit(put={"a": b"1"})
        assert await store.next_alarm() is None
        assert await store.alarms_due(10.0) == []
        assert (await look(store, owner.id)).alarm is None

    async def test_a_destroyed_actor_is_not_woken(self, store: Store) -> None:
        owner = await with_alarm(store, "a", 10.0)
        other = await with_alarm(store, "b", 15.0)
        destroy = owner.next(destroy=True, alarm=10.0)
        await store.commit([destroy])
        assert await store.next_alarm() == 15.0
        assert await store.alarms_due(20.0) == [(15.0, other.id)]

    async def test_times_are_kept_to_the_last_bit(self, store: Store) -> None:
        for time in (1_700_000_000.123457, 0.1, 0.0, 1_700_000_000, 253_402_300_799.999):
            owner = await with_alarm(store, repr(time), time)
            assert await store.next_alarm() == time
            assert await store.alarms_due(time) == [(time, owner.id)]
            assert (await look(store, owner.id)).alarm == time
            await (await owner_of(store, owner.record)).commit()

    async def test_alarms_of_all_namespaces_are_due(self, store: Store) -> None:
        owners = [
            await owner_of(store, await create(store, namespace=namespace))
            for namespace in ("default", "other")
        ]
        for number, owner in enumerate(owners):
            await owner.commit(alarm=float(number))
        assert await store.alarms_due(5.0) == [
            (float(number), owner.id) for number, owner in enumerate(owners)
        ]

    async def test_the_next_alarm_after_a_time(self, store: Store) -> None:
        """Whoever has dealt with what is due asks when to look again."""
        for time in (10.0, 20.0, 30.0):
            await with_alarm(store, str(time), time)
        assert await store.next_alarm(9.0) == 10.0
        assert await store.next_alarm(10.0) == 20.0
        assert await store.next_alarm(25.0) == 30.0
        assert await store.next_alarm(30.0) is None

    # --- Types -------------------------------------------------------------------

    async def test_alarms_of_other_types_are_not_seen(self, store: Store) -> None:
        mine: list[str] = []
        others: list[str] = []
        for number in range(3):
            for name, namespace, found in (
                ("counter", "default", mine),
                ("other", "default", others),
                ("counter", "elsewhere", others),
            ):
                record = await create(store, name, (str(number),), namespace)
                owner = await owner_of(store, record)
                await owner.commit(alarm=float(number + (10 if found is mine else 0)))
                found.append(owner.id)
        types = [ActorType("default", "counter")]
        assert await store.alarms_due(20.0, types=types) == [
            (10.0 + number, actor) for number, actor in enumerate(mine)
        ]
        assert await store.alarms_due(9.0, types=types) == []
        assert await store.alarms_due(20.0, 1, types=types) == [(10.0, mine[0])]
        assert await store.next_alarm(types=types) == 10.0
        assert await store.next_alarm(10.5, types=types) == 11.0
        assert await store.next_alarm(12.0, types=types) is None
        assert await store.next_alarm() == 0.0
        assert await store.alarms_due(20.0, types=[]) == []
        assert await store.next_alarm(types=[]) is None
        assert {actor for _, actor in await store.alarms_due(9.0)} == set(others)
