"""What an operator may want to know of one gateway."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class GatewayStatistics:
    """Counts of one gateway in one process, since it began; `GET /metadata` tells them."""

    slow_consumers: int = 0
    """Connections that were closed with `slow_consumer`: more waited for their client
    than `max_queued_frames`, or more for the gateway than the actor's host keeps."""
