"""What calls and connections hold while they wait for a host that is elsewhere.

They wait until the host can be reached, and then for its answer. Each counts for its
caller, or for the connection that it came on if nobody knows the caller, and for the
process. Policy beyond a bound: `overloaded`, as not started.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from rivet_ray.budget import MIB, Budget
from rivet_ray.protocol.caller import Caller


class Unanswered:
    """The bounds of one process, for its calls to all hosts."""

    def __init__(self, limit: int = 256 * MIB, limit_per_caller: int = 64 * MIB) -> None:
        """Both are in bytes."""
        self.budget = Budget("unanswered", limit)
        """Of the process; `refusals` counts what was refused, for callers too."""
        self._per_caller = limit_per_caller
        self._shares: WeakValueDictionary[object, Budget] = WeakValueDictionary()

    def of(self, caller: Caller) -> Budget:
        """The bound of a caller, to be kept for as long as something is held for them."""
        return self._share(caller.party)

    def of_connection(self, connection: str) -> Budget:
        """The bound of a connection that another process holds."""
        return self._share(connection)

    def _share(self, who: object) -> Budget:
        share = self._shares.get(who)
        if share is None:
            name = "unanswered calls of a caller"
            share = self._shares[who] = Budget(name, self._per_caller, self.budget)
        return share
