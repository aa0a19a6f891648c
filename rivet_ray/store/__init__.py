"""What storage must promise: the ports that drivers implement (floor 1)."""

from rivet_ray.store.examination import Examinable, Finding, Verdict, examine
from rivet_ray.store.ports import ANYBODY, Store
from rivet_ray.store.probing import Probing, probe
from rivet_ray.store.records import (
    LEASE_KEPT,
    TOMBSTONE_KEPT,
    TOMBSTONES,
    UNWRITTEN,
    ActorRecord,
    ActorSize,
    ActorType,
    Claim,
    Claimant,
    Commit,
    CommitResult,
    Fence,
    HostLease,
    IndexEntry,
    NewActor,
    Ownership,
    Refusal,
    Stamp,
    TypeSize,
    refused,
)
from rivet_ray.store.timekeeping import Timekeeper
from rivet_ray.store.urls import VARIABLE as STORE_VARIABLE
from rivet_ray.store.urls import driver_schemes, load_driver, open_store, shown, store_url

__all__ = [
    "ANYBODY",
    "LEASE_KEPT",
    "STORE_VARIABLE",
    "TOMBSTONES",
    "TOMBSTONE_KEPT",
    "UNWRITTEN",
    "ActorRecord",
    "ActorSize",
    "ActorType",
    "Claim",
    "Claimant",
    "Commit",
    "CommitResult",
    "Examinable",
    "Fence",
    "Finding",
    "HostLease",
    "IndexEntry",
    "NewActor",
    "Ownership",
    "Probing",
    "Refusal",
    "Stamp",
    "Store",
    "Timekeeper",
    "TypeSize",
    "Verdict",
    "driver_schemes",
    "examine",
    "load_driver",
    "open_store",
    "probe",
    "refused",
    "shown",
    "store_url",
]
