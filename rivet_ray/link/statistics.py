"""What went over links."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class LinkStatistics:
    """Counts of one client's link, or of all links that a server ever had."""

    frames_in: int = 0
    frames_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    opened: int = 0
    """Links whose handshake was completed."""
    late: int = 0
    """Messages given after the link had ended; they went nowhere."""
    unsendable: int = 0
    """Messages that were too long or could not be encoded."""
    unreadable: int = 0
    """Messages that arrived in a whole frame and could not be decoded."""
    pauses: int = 0
    """How often a peer read more slowly than it was written to."""
    drops: Counter[str] = field(default_factory=Counter[str])
    """Links that were dropped, by the code of the reason: `link_overflow`, ..."""
