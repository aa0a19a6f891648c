"""The driver conformance suite: each promise of `rivet_ray.store`, as a test.

A driver is right when this passes. Its author writes, in a test file:

    from rivet_ray.store import Store, open_store
    from rivet_ray.testing import DurableStoreConformance

    class TestMyDriver(DurableStoreConformance):
        @pytest.fixture(autouse=True)
        def _place(self, tmp_path: Path) -> None:
            self.url = f"mine://{tmp_path}"

        async def open_store(self) -> Store:
            return await open_store(self.url)

`age_leases` lets time pass for the leases; without it their sweeping is not tested.
`open_store` gives an open store with nothing in it; it is called once for each
test. A class that needs more overrides the fixture `store` instead, which then
also has to close what it gives. A driver that forgets everything with its process
takes `StoreConformance`. `DurableStoreConformance` is the same with tests that
close the store and open it again, through `reopen`: override that where closing
and calling `open_store` once more does not find the same data.

Needs pytest and pytest-asyncio, in any of its modes.
"""

import pytest

pytest.register_assert_rewrite(
    "rivet_ray.testing.conformance.alarms",
    "rivet_ray.testing.conformance.base",
    "rivet_ray.testing.conformance.commits",
    "rivet_ray.testing.conformance.creation",
    "rivet_ray.testing.conformance.destruction",
    "rivet_ray.testing.conformance.durable",
    "rivet_ray.testing.conformance.indexes",
    "rivet_ray.testing.conformance.leases",
    "rivet_ray.testing.conformance.listing",
    "rivet_ray.testing.conformance.ownership",
    "rivet_ray.testing.conformance.reading",
    "rivet_ray.testing.conformance.sizes",
)

from rivet_ray.testing.conformance.alarms import AlarmConformance  # noqa: E402
from rivet_ray.testing.conformance.commits import CommitConformance  # noqa: E402
from rivet_ray.testing.conformance.creation import CreationConformance  # noqa: E402
from rivet_ray.testing.conformance.destruction import DestructionConformance  # noqa: E402
from rivet_ray.testing.conformance.durable import DurabilityConformance  # noqa: E402
from rivet_ray.testing.conformance.indexes import IndexConformance  # noqa: E402
from rivet_ray.testing.conformance.leases import LeaseConformance  # noqa: E402
from rivet_ray.testing.conformance.listing import ListingConformance  # noqa: E402
from rivet_ray.testing.conformance.ownership import OwnershipConformance  # noqa: E402
from rivet_ray.testing.conformance.reading import ReadingConformance  # noqa: E402
from rivet_ray.testing.conformance.sizes import SizeConformance  # noqa: E402

__all__ = ["DurableStoreConformance", "StoreConformance"]


class StoreConformance(
    CreationConformance,
    ListingConformance,
    OwnershipConformance,
    CommitConformance,
    ReadingConformance,
    DestructionConformance,
    AlarmConformance,
    IndexConformance,
    SizeConformance,
    LeaseConformance,
):
    """Every promise that any store makes. Override `open_store`."""


class DurableStoreConformance(DurabilityConformance, StoreConformance):
    """Every promise, and that they hold over closing and opening again."""
