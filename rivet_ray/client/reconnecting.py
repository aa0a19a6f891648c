"""When a connection comes back after a cut, and how long it waits before each try."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, cast

from rivet_ray.client.listeners import log
from rivet_ray.client.transport import Closing
from rivet_ray.errors import PublicError, RivetError
from rivet_ray.protocol.encodings import DecodeFault
from rivet_ray.repeated_lines import REPEATED

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
"""Seconds, each pause twice the one before; a random part of it is left out."""

STEADY = 5.0
"""Seconds that a connection has to last before the pauses begin anew."""

LONGEST_WAIT = 300.0
"""Seconds for which a refusal may put a client off."""

NORMAL, PROTOCOL_ERROR, POLICY, SERVICE_RESTART = 1000, 1002, 1008, 1012
RESYNC = "resync"
"""The reason of a close by which a server says that events were missed."""
TOO_LONG = "message_too_long"
"""The reason of a close for one message, which is not sent again."""
UNREAD = "max_message_size"
"""The reason of our own close for a message that is longer than we read."""
OUR_FAULT = frozenset({"malformed_message", UNREAD})
"""Reasons of closes for what was sent, or would be answered so again: nothing is sent again."""


def comes_back(closing: Closing) -> bool:
    """Whether to connect again: not where the actor or the server wants no more of us."""
    return closing.code not in (NORMAL, PROTOCOL_ERROR, POLICY)


def unreadable(url: str, fault: DecodeFault) -> Closing:
    """How a connection ends after a message that cannot be decoded, which the log names.

    Nobody knows whose message it was: another connection begins, and is told of the gap.
    """
    log.warning("a message of %s cannot be read, connecting again: %s", url, fault, extra=REPEATED)
    return Closing(SERVICE_RESTART, RESYNC)


def unread(url: str, longest: int) -> Closing:
    """How a connection ends after a message that is too long to be read."""
    log.warning(
        "a message of %s has more than %d bytes, connecting again: "
        "raise ClientSettings.max_message_size, or send less at once",
        url,
        longest,
        extra=REPEATED,
    )
    return Closing(SERVICE_RESTART, UNREAD)


def begins_anew(closing: Closing) -> bool:
    """Whether events are missing, so that the old connection is not asked for."""
    return closing.reason in (RESYNC, UNREAD)


def may_pass(error: Exception) -> bool:
    """Whether a refusal may pass by itself: nobody answered, or not now."""
    return not isinstance(error, PublicError) or error.may_pass


def wait_of(error: Exception) -> float:
    """Seconds that a refusal asks to wait: `retry_after` of its metadata."""
    told: Any = error.metadata if isinstance(error, RivetError) else None
    seconds = cast("dict[Any, Any]", told).get("retry_after") if isinstance(told, dict) else None
    if isinstance(seconds, (int, float)) and seconds > 0:
        return min(float(seconds), LONGEST_WAIT)
    return 0.0


def pauses() -> Iterator[float]:
    """Seconds to wait before each try."""
    longest = FIRST_PAUSE
    yield random.uniform(0.0, longest)
    while True:
        longest = min(2 * longest, LONGEST_PAUSE)
        yield random.uniform(longest / 2, longest)
