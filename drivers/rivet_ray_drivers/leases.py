"""Host leases in this process's memory, for stores that only one process uses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

from rivet_ray.store import LEASE_KEPT, HostLease


class Leases:
    """See the part about hosts of `rivet_ray.store.Store`."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._leases: dict[str, tuple[HostLease, float]] = {}
        """Each with the time when it was written, the oldest first."""

    def renew(self, incarnation: str, beat: int, address: str) -> bool:
        lease = self.find(incarnation)
        alive = beat == 1 if lease is None else not lease.dead
        if alive and (lease is None or beat > lease.beat):
            self._write(HostLease(incarnation, beat, address))
        return alive

    def find(self, incarnation: str) -> HostLease | None:
        self._sweep()
        lease, _ = self._leases.get(incarnation, (None, 0.0))
        return lease

    def list(self, limit: int) -> list[HostLease]:
        self._sweep()
        written_last = islice(reversed(self._leases.values()), max(limit, 0))
        return sorted((lease for lease, _ in written_last), key=lambda lease: lease.incarnation)

    def mark_dead(self, incarnation: str, beat: int) -> bool:
        lease = self.find(incarnation)
        if lease is None or (not lease.dead and lease.beat != beat):
            return False
        if not lease.dead:
            self._write(replace(lease, dead=True))
        return True

    def end(self, incarnation: str) -> None:
        self._leases.pop(incarnation, None)

    def _write(self, lease: HostLease) -> None:
        self.end(lease.incarnation)
        self._leases[lease.incarnation] = lease, self.now()

    def _sweep(self) -> None:
        oldest = self.now() - LEASE_KEPT
        while self._leases:
            incarnation, (_, written) = next(iter(self._leases.items()))
            if written >= oldest:
                return
            del self._leases[incarnation]
