"""The messages of the documented dialect, as values: what `v0` reads and writes."""

from __future__ import annotations

import msgspec


class ActionRequest(msgspec.Struct, frozen=True, gc=False):
    """Run an action. Answered by the ActionResponse or ErrorMessage of the same id."""

    id: int
    name: str
    arguments: bytes
    key: str | None = None
    """An idempotency key; an extra member of ours, which the original ignores."""


class UnreadableRequest(msgspec.Struct, frozen=True, gc=False):
    """An ActionRequest whose arguments cannot be read: it alone fails."""

    id: int
    problem: str


class SubscriptionRequest(
    msgspec.Struct, frozen=True, gc=False, rename={"event": "e", "subscribe": "s"}
):
    """The client wants, or no longer wants, an event."""

    event: str
    subscribe: bool


class Goodbye(msgspec.Struct, frozen=True, gc=False):
    """Ours: the client of an event stream goes for good, and was not cut off."""


_INIT_NAMES = {
    "actor_id": "ai",
    "connection_id": "ci",
    "token": "ct",
    "sequence": "s",
    "longest": "ml",
}


class Init(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename=_INIT_NAMES):
    """The connection is open. The first message on every connection."""

    actor_id: str
    connection_id: str
    token: str
    sequence: int | None = None
    """The actor's last event before, for clients that count events."""
    longest: int | None = None
    """The longest message that they may send: characters of a text frame, or bytes."""


class ActionResponse(msgspec.Struct, frozen=True, gc=False):
    """What an action returned; `output` is None where it returns nothing at all."""

    id: int
    output: bytes | None


class EventMessage(msgspec.Struct, frozen=True, gc=False):
    """An event of the actor."""

    name: str
    arguments: bytes
    sequence: int | None = None
    """Its number, for clients that count events: an extra member of ours."""


class ErrorMessage(msgspec.Struct, frozen=True, gc=False):
    """An action failed, or the connection did where `action_id` is None."""

    code: str
    message: str
    metadata: bytes | None = None
    action_id: int | None = None
    outcome: str | None = None
    """An `errors.Outcome` value."""
    status: int | None = None
    """What HTTP would say, where the code does not imply it: an extra member of ours."""


class UnreadableAnswer(msgspec.Struct, frozen=True, gc=False):
    """The answer to a call, whose value cannot be read: that call alone fails."""

    id: int
    problem: str
    took_effect: bool
    """It is a result; otherwise it is an error."""
    too_long: bool = False
    """It was not read to its end."""


class UnreadableEvent(msgspec.Struct, frozen=True, gc=False):
    """An EventMessage whose arguments cannot be read: it alone is missing."""

    name: str
    problem: str
    sequence: int | None = None


ToServer = ActionRequest | SubscriptionRequest | Goodbye
Received = ToServer | UnreadableRequest
"""What a server makes of a client's message."""
ToClient = Init | ActionResponse | EventMessage | ErrorMessage
Arrived = ToClient | UnreadableAnswer | UnreadableEvent
"""What a client makes of a server's message."""
