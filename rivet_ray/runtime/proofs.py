"""What the client of a connection has to show: its token."""

from __future__ import annotations

import hmac
from dataclasses import dataclass


def proves(token: str, proof: str) -> bool:
    """Whether a token is the one that was given out; takes as long for any that is not."""
    return hmac.compare_digest(token.encode(), proof.encode())


@dataclass(slots=True)
class Proof:
    """What the client of a connection has to show."""

    actor: str
    token: str
    previous: str | None = None
    """The token before, which counts until the client has used the connection."""
