"""What a gateway may hold in memory: its own bound, and one for each caller.

Half of the gateway's bound is for what comes in, so that requests never keep answers
and events from being delivered. If what goes out exceeds a bound, the client for whom
most waits is closed, and not the one whose turn it happens to be.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakValueDictionary

from rivet_ray.budget import Budget
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.protocol.caller import Caller


class Waiting(Protocol):
    """A client for whom something waits."""

    @property
    def share(self) -> Budget:
        """The bound of its caller."""
        ...

    @property
    def waiting(self) -> int:
        """Bytes that wait for it."""
        ...

    def drop(self) -> None:
        """Close it as a slow consumer: what waits for it is held no longer."""
        ...


class Share:
    """The bounds of one caller."""

    __slots__ = ("__weakref__", "bodies", "budget", "incoming")

    def __init__(self, budgets: Budgets, limit: int) -> None:
        self.budget = Budget("caller", limit, budgets.gateway)
        self.incoming = Budget("caller", limit, self.budget, budgets.incoming)
        """For what the caller has sent."""
        self.bodies = Budget("caller", limit, self.incoming, budgets.bodies)
        """For their long bodies, until these are read."""


class Budgets:
    """The bounds of one gateway."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._limit = settings.max_held_size_per_caller
        self.gateway = Budget("gateway", settings.max_held_size)
        self.incoming = Budget("gateway", settings.max_held_size // 2, self.gateway)
        """For what clients have sent."""
        self.unread = Budget("gateway's unread", settings.max_unread_size, self.incoming)
        """For what cannot be acted on yet: parts of heads, bodies and messages."""
        self.bodies = Budget("gateway's bodies", settings.max_bodies_size, self.unread)
        """For long bodies among them, so that these never keep a short one out."""
        self._shares: WeakValueDictionary[object, Share] = WeakValueDictionary()
        self._clients: dict[Waiting, None] = {}

    def of(self, caller: Caller) -> Share:
        """The bounds of a caller, to be kept for as long as something is held for them."""
        who = caller.party
        share = self._shares.get(who)
        if share is None:
            share = self._shares[who] = Share(self, self._limit)
        return share

    # --- What goes out ----------------------------------------------------------

    def add(self, client: Waiting) -> None:
        """From now on something may wait for the client."""
        self._clients[client] = None

    def remove(self, client: Waiting) -> None:
        self._clients.pop(client, None)

    def make_room(self, share: Budget, size: int) -> None:
        """Close the clients for whom most waits, until `size` bytes fit into `share`.

        Returns as well if that is not enough.
        """
        while (exceeded := share.exceeded(size)) is not None:
            below = (client for client in self._clients if client.share.below(exceeded))
            most = max(below, key=lambda client: client.waiting, default=None)
            if most is None or not most.waiting:
                return
            exceeded.refuse()
            most.drop()

    def shared(self, data: bytes) -> Frame:
        """A frame for many clients: it counts once, for as long as anybody holds it."""
        self.make_room(self.gateway, len(data))
        frame = Frame(data)
        frame.budget = self.gateway
        self.gateway.hold(len(data))
        return frame


class Frame(bytes):
    """A frame that several clients share."""

    budget: Budget

    def __del__(self) -> None:
        self.budget.give_back(len(self))
