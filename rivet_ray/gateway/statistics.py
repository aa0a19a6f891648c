"""What an operator may want to know of one gateway."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rivet_ray.budget import Budget
from rivet_ray.runtime.watchdog import Watchdog


@dataclass(slots=True)
class GatewayStatistics:
    """Counts of one gateway in one process, since it began; `GET /metadata` tells them."""

    held: Budget
    """What it holds in memory for its clients, and has refused to hold."""
    watchdog: Watchdog = field(default_factory=lambda: Watchdog(None))
    """Counts how often user code has held the event loop for too long."""
    slow_consumers: int = 0
    """Connections that were closed with `slow_consumer`: more waited for their client
    than may, or more for the gateway than the actor's host keeps."""
    connections_refused: int = 0
    """Connections for which there was no place, or that sent too many requests at once."""
    silent_connections: int = 0
    """Connections that ended because their client had not sent a request in time, or at all
    when their places were needed."""
    heads_too_long: int = 0
    """Requests whose address and headers were longer than `max_head_size`."""
    messages_too_long: int = 0
    """Messages that were refused before they had come to their end."""
    too_many_items: int = 0
    """Messages and bodies that were refused for more values than `max_body_items`."""
    left_out_events: int = 0
    """Events that were not sent to a client because they have no form in its encoding."""

    def told(self) -> dict[str, Any]:
        """As `GET /metadata` tells it. `refused` has the names of the bounds."""
        return {
            "slowConsumers": self.slow_consumers,
            "connectionsRefused": self.connections_refused,
            "silentConnections": self.silent_connections,
            "headsTooLong": self.heads_too_long,
            "messagesTooLong": self.messages_too_long,
            "tooManyItems": self.too_many_items,
            "leftOutEvents": self.left_out_events,
            "blockedLoop": self.watchdog.blocked,
            **held_by(self.held),
        }


def held_by(budget: Budget) -> dict[str, Any]:
    """What is held in memory, and how often more was refused, by the name of the bound."""
    return {
        "heldBytes": budget.held,
        "mostHeldBytes": budget.peak,
        "refused": budget.refusals,
    }
