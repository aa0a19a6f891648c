"""Ray: where hosts are placed, started and supervised (floor 6).

The only part of `rivet_ray` that imports Ray. Ray carries no request: a gateway
asks it once where a host listens, and talks to the host over its link.
"""

from rivet_ray.cluster.backend import backend_of, definitions_of
from rivet_ray.cluster.placement import RayPlacement
from rivet_ray.cluster.spares import start_spares
from rivet_ray.cluster.spec import ClusterSpec, Topology

__all__ = [
    "ClusterSpec",
    "RayPlacement",
    "Topology",
    "backend_of",
    "definitions_of",
    "start_spares",
]
