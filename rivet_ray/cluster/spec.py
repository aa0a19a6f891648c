"""What every process of a deployment has to agree on. Plain values: it travels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rivet_ray import ids
from rivet_ray.store import store_url

Topology = Literal["coordinate", "partition"]

RAY_NAMESPACE = "rivet-ray"
"""The Ray namespace of all host actors."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A deployment of registries on a Ray cluster."""

    registries: tuple[str, ...]
    """`module:Class` names, importable on every node."""
    store: str = field(default="", repr=False)
    """The URL of the store that all share. It may hold a password, and Ray keeps what it is
    handed: leave it empty, and set RIVET_STORE in the environment of every node."""
    topology: Topology = "partition"
    """`coordinate`: one host actor for all actors. `partition`: one for each."""
    deployment: str = "default"
    """Tells deployments of one cluster apart."""
    namespace: str = ids.DEFAULT_NAMESPACE
    spare_workers: int = 2
    """Processes kept ready on each node for hosts to come, at most one for `coordinate`."""
    release: str = ""
    """Another one than the last where code changed: processes kept ready have imported theirs."""

    close_timeout: float = 15.0
    """Seconds for a host to close, whatever its actors and the store do."""

    @property
    def prefix(self) -> str:
        """What the Ray names of its host actors begin with."""
        return f"rivet-ray:{self.deployment}:"

    @property
    def store_url(self) -> str:
        """Of this process. Raises StoreError where neither the spec nor its environment has one."""
        return store_url(self.store)

    def ray_name(self, host: str) -> str:
        return self.prefix + host
