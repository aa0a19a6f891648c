"""Host leases in this process's memory, for stores that only one process uses."""

from __future__ import annotations

from dataclasses import replace

from rivet_ray.store import HostLease


class Leases:
    """See the part about hosts of `rivet_ray.store.Store`."""

    def __init__(self) -> None:
        self._leases: dict[str, HostLease] = {}

    def renew(self, incarnation: str, beat: int, address: str) -> bool:
        lease = self._leases.get(incarnation)
        if lease is not None and lease.dead:
            return False
        if lease is None or beat > lease.beat:
            self._leases[incarnation] = HostLease(incarnation, beat, address)
        return True

    def find(self, incarnation: str) -> HostLease | None:
        return self._leases.get(incarnation)

    def mark_dead(self, incarnation: str, beat: int) -> bool:
        lease = self._leases.get(incarnation)
        if lease is None or (not lease.dead and lease.beat != beat):
            return False
        self._leases[incarnation] = replace(lease, dead=True)
        return True

    def end(self, incarnation: str) -> None:
        self._leases.pop(incarnation, None)
