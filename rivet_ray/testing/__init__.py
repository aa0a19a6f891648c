"""For tests: a registry in memory, time that stands still, callers, one actor alone, conformance.

Importing this needs no pytest; `StoreConformance` and `DurableStoreConformance`
import it when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

from rivet_ray.testing.auth import override_auth, unit_request
from rivet_ray.testing.clock import ManualClock
from rivet_ray.testing.port import encoded
from rivet_ray.testing.setup import Setup, setup_test
from rivet_ray.testing.unit import UnitConn, UnitContext, stub_client, unit_actor

if TYPE_CHECKING:
    from rivet_ray.testing.conformance import DurableStoreConformance, StoreConformance

__all__ = [
    "DurableStoreConformance",
    "ManualClock",
    "Setup",
    "StoreConformance",
    "UnitConn",
    "UnitContext",
    "encoded",
    "override_auth",
    "setup_test",
    "stub_client",
    "unit_actor",
    "unit_request",
]


def __getattr__(name: str) -> Any:
    if name in ("DurableStoreConformance", "StoreConformance"):
        from rivet_ray.testing import conformance

        return getattr(conformance, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
