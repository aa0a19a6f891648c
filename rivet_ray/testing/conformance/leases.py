"""Leases: a host's proof of life, and how a taker ends it."""

from __future__ import annotations

import asyncio

from rivet_ray.store import LEASE_KEPT, HostLease, Store
from rivet_ray.testing.conformance.base import ConformanceBase


class LeaseConformance(ConformanceBase):
    """`renew_lease`, `find_lease`, `list_hosts`, `mark_dead` and `end_lease`."""

    async def test_a_lease_is_what_was_renewed_last(self, store: Store) -> None:
        """A record of incarnation, beat and address; none before the first beat."""
        assert await store.find_lease("a") is None
        assert await store.renew_lease("a", 1, "127.0.0.1:1")
        assert await store.renew_lease("a", 2, "127.0.0.1:2")
        assert await store.find_lease("a") == HostLease("a", 2, "127.0.0.1:2")
        assert await store.find_lease("b") is None

    async def test_a_repeated_beat_changes_nothing(self, store: Store) -> None:
        """A renewal that arrives twice, or late, does not set the lease back."""
        assert await store.renew_lease("a", 1)
        assert await store.renew_lease("a", 5, "new")
        assert await store.renew_lease("a", 5, "old")
        assert await store.renew_lease("a", 4, "old")
        assert await store.find_lease("a") == HostLease("a", 5, "new")

    async def test_the_dead_do_not_come_back(self, store: Store) -> None:
        """C1: after a taker has marked an incarnation dead, it cannot renew."""
        await store.renew_lease("a", 1)
        await store.renew_lease("a", 3, "x")
        assert await store.mark_dead("a", 3)
        assert not await store.renew_lease("a", 4, "x")
        assert await store.find_lease("a") == HostLease("a", 3, "x", dead=True)
        assert await store.mark_dead("a", 3), "marking twice is the same"

    async def test_a_living_incarnation_cannot_be_marked(self, store: Store) -> None:
        """The mark is a compare-and-set on the beat that the taker has seen."""
        await store.renew_lease("a", 1)
        await store.renew_lease("a", 3)
        await store.renew_lease("a", 4)
        assert not await store.mark_dead("a", 3)
        assert not await store.mark_dead("nobody", 1)
        assert await store.renew_lease("a", 5)

    async def test_renewal_and_mark_have_one_winner(self, store: Store) -> None:
        """Of a renewal and a mark at the same moment exactly one succeeds."""
        for number in range(20):
            incarnation = f"a-{number}"
            await store.renew_lease(incarnation, 1)
            renewed, marked = await asyncio.gather(
                store.renew_lease(incarnation, 2), store.mark_dead(incarnation, 1)
            )
            assert renewed is not marked

    async def test_an_ended_lease_is_gone(self, store: Store) -> None:
        """A host that has released everything leaves nothing behind."""
        await store.renew_lease("a", 1)
        await store.renew_lease("b", 1)
        await store.end_lease("a")
        await store.end_lease("a")
        assert await store.find_lease("a") is None
        assert await store.find_lease("b") is not None

    async def test_only_the_first_beat_makes_a_lease(self, store: Store) -> None:
        """Who has no lease is dead, so a late renewal brings nobody back."""
        assert not await store.renew_lease("a", 2)
        assert await store.find_lease("a") is None
        assert await store.renew_lease("a", 1)
        await store.end_lease("a")
        assert not await store.renew_lease("a", 2)
        assert await store.find_lease("a") is None

    # --- All of them -----------------------------------------------------------------

    async def test_hosts_are_listed_in_the_order_of_incarnations(self, store: Store) -> None:
        """The living as they were renewed last, the dead as dead, the ended not at all."""
        assert await store.list_hosts() == []
        names = ["é", "a", "b\x00", "b", "", "\U0001f600", "gone", "z" * 100]
        for number, incarnation in enumerate(names):
            assert await store.renew_lease(incarnation, 1, f"127.0.0.1:{number}")
        assert await store.renew_lease("b", 2, "127.0.0.1:99")
        assert await store.mark_dead("a", 1)
        await store.end_lease("gone")
        await store.end_lease("never there")
        assert not await store.renew_lease("late", 2)
        expected = [
            HostLease("", 1, "127.0.0.1:4"),
            HostLease("a", 1, "127.0.0.1:1", dead=True),
            HostLease("b", 2, "127.0.0.1:99"),
            HostLease("b\x00", 1, "127.0.0.1:2"),
            HostLease("z" * 100, 1, "127.0.0.1:7"),
            HostLease("é", 1, "127.0.0.1:0"),
            HostLease("\U0001f600", 1, "127.0.0.1:5"),
        ]
        assert await store.list_hosts() == expected
        assert [await store.find_lease(one.incarnation) for one in expected] == expected

    async def test_at_most_limit_hosts_are_listed(self, store: Store) -> None:
        """The ones that were written last: those that live renew all the time."""
        for number in range(30):
            assert await store.renew_lease(f"{number:02}", 1)
        assert await store.list_hosts(0) == []
        assert len(await store.list_hosts(7)) == 7
        await self.age_leases(store, 60)
        assert await store.renew_lease("03", 2)
        assert await store.mark_dead("20", 1)
        assert await store.list_hosts(2) == [HostLease("03", 2), HostLease("20", 1, dead=True)]
        assert len(await store.list_hosts()) == 30

    async def test_swept_hosts_are_not_listed(self, store: Store) -> None:
        """And come back with nothing: their incarnation is dead."""
        for incarnation in ("beats", "silent", "dead"):
            assert await store.renew_lease(incarnation, 1)
        assert await store.mark_dead("dead", 1)
        await self.age_leases(store, LEASE_KEPT - 60)
        assert await store.renew_lease("beats", 2)
        assert len(await store.list_hosts()) == 3
        await self.age_leases(store, 120)
        assert await store.list_hosts() == [HostLease("beats", 2)]
        assert not await store.renew_lease("silent", 2)
        assert await store.list_hosts() == [HostLease("beats", 2)]

    # --- Their end -------------------------------------------------------------------

    async def test_a_lease_that_nobody_writes_is_swept(self, store: Store) -> None:
        """After LEASE_KEPT, dead or not; each renewal and mark begins it anew."""
        for incarnation in ("beats", "silent", "dead", "marked late"):
            assert await store.renew_lease(incarnation, 1)
        assert await store.mark_dead("dead", 1)
        await self.age_leases(store, LEASE_KEPT - 60)
        assert await store.find_lease("silent") is not None
        assert await store.find_lease("dead") is not None
        assert await store.renew_lease("beats", 2)
        assert await store.mark_dead("marked late", 1)
        await self.age_leases(store, 120)
        assert await store.find_lease("silent") is None
        assert await store.find_lease("dead") is None
        assert await store.find_lease("beats") is not None
        assert await store.find_lease("marked late") is not None
        assert not await store.renew_lease("silent", 2)
        assert not await store.renew_lease("dead", 2)
        assert not await store.mark_dead("silent", 1)
        assert await store.renew_lease("beats", 3)
