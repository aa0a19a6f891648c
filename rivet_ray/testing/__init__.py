"""For tests: time that stands still, a port that is really a wire, driver conformance.

Importing this needs no pytest; `StoreConformance` and `DurableStoreConformance`
import it when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

from rivet_ray.testing.clock import ManualClock
from rivet_ray.testing.port import encoded

if TYPE_CHECKING:
    from rivet_ray.testing.conformance import DurableStoreConformance, StoreConformance

__all__ = ["DurableStoreConformance", "ManualClock", "StoreConformance", "encoded"]


def __getattr__(name: str) -> Any:
    if name in ("DurableStoreConformance", "StoreConformance"):
        from rivet_ray.testing import conformance

        return getattr(conformance, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
