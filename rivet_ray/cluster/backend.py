"""A deployment's definitions, and the way of its gateways to its actors."""

from __future__ import annotations

from collections.abc import Mapping

from rivet_ray.cluster.placement import RayPlacement
from rivet_ray.cluster.spec import ClusterSpec
from rivet_ray.definition import ActorDefinition
from rivet_ray.loading import load
from rivet_ray.remote import Remote


def definitions_of(spec: ClusterSpec) -> Mapping[str, ActorDefinition]:
    """Raises NotLoadable."""
    return load(spec.registries).definitions()


def backend_of(spec: ClusterSpec) -> Remote:
    """Raises NotLoadable, InvalidSecret without RIVET_CLUSTER_SECRET in the environment, and
    StoreError where neither the spec nor the environment (RIVET_STORE) names a store."""
    store, placement = spec.store_url, RayPlacement(spec)
    return Remote(definitions_of(spec), store, placement, namespace=spec.namespace)
