"""Limits of a link."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1 << 20
SHORTEST = 1_024
"""Bytes of a frame that holds whatever takes the place of a message that is too long."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Both ends should use the same. Times are seconds, sizes bytes."""

    frame_limit: int = 64 * MEBIBYTE
    """The longest frame, at least 1 KiB. A longer one that arrives ends the link. A
    message that would need one is not sent, and fails alone: whoever waits for it is
    told; the connections that an event was for are closed as `resync`, and the raw
    socket that a piece was for with 1009."""
    buffer_limit: int = 64 * MEBIBYTE
    """What may wait for a peer that does not read. When more waits and there is
    another frame for it, the link is dropped (`LinkOverflow`)."""
    connect_timeout: float = 5.0
    """How long a gateway tries to reach the host."""
    handshake_timeout: float = 5.0
    """How long the peer may take to prove itself."""
    heartbeat: float = 5.0
    """How often an end looks whether it has heard from its peer."""
    silence: int = 3
    """After so many intervals in a row without a single byte the link is dropped."""
    close_timeout: float = 5.0
    """How long an orderly close may take to write what waits."""
    handshakes: int = 256
    """How many peers may be unproven at once; a server refuses the next one."""

    def __post_init__(self) -> None:
        """Raise ValueError for frames in which not even an error fits."""
        if self.frame_limit < SHORTEST:
            raise ValueError(f"frame_limit is {self.frame_limit} bytes. Use at least {SHORTEST}.")
