"""What either end is told instead of a message that does not get through a link.

One message that is too long, or cannot be encoded or decoded, must not cost everybody
else the link: it ends the call, the connection or the raw request that it belongs to,
at both ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from rivet_ray.errors import InternalError, InvalidRequest, MessageTooLong, Outcome, RivetError
from rivet_ray.link.frames import TooLong, Unreadable
from rivet_ray.protocol.caller import Message
from rivet_ray.protocol.port import (
    Attach,
    Attached,
    Call,
    Close,
    Detach,
    Failed,
    Failure,
    Forward,
    Handed,
    Reply,
    Subscribe,
    Taken,
    ToGateway,
    ToHost,
)
from rivet_ray.protocol.raw import (
    RAW_OVERHEAD,
    RawArrived,
    RawData,
    RawEnd,
    RawOpen,
    RawStart,
    RawTaken,
)

LOST_ERROR = "The action failed; its error is larger than a link carries."
INTERNAL = 1011
SERVICE_RESTART = 1012
TOO_BIG = 1009

OwnT = TypeVar("OwnT", bound=Message)


@dataclass(frozen=True, slots=True)
class Instead(Generic[OwnT]):
    """What takes the place of a message."""

    peer: tuple[Message, ...] = ()
    """Goes to the other end of the link."""
    own: tuple[OwnT, ...] = ()
    """What this end receives, as if the other one had sent it."""


# --- A message that cannot be sent ----------------------------------------------


def unsent_to_host(message: Message, fault: Exception) -> Instead[ToGateway]:
    """For a gateway: the end of what the message belongs to."""
    match message:
        case Call() | Attach() | Forward() | RawOpen():
            refused = (
                MessageTooLong("The request is larger than a link carries.")
                if isinstance(fault, TooLong)
                else InvalidRequest("The request holds something that a link cannot carry.")
            )
            return Instead(own=(_failed(message.call, refused, Outcome.NOT_STARTED),))
        case Subscribe():
            return Instead(own=(Close(message.connection, *_closing(fault)),))
        case RawData():
            end = RawEnd(message.call, *_closing(fault))
            return Instead((end,), (RawArrived(message.cost), end))
        case RawEnd() if message.reason:
            return Instead((RawEnd(message.call, message.code),))
        case _:
            return Instead()  # Nothing waits for it.


def unsent_to_gateway(message: Message, fault: Exception) -> Instead[ToHost] | None:
    """For a host: the same. None if a gateway would wait in vain."""
    match message:
        case Reply():
            lost = MessageTooLong("The action's result is larger than a link carries.")
            return Instead((_failed(message.call, lost, Outcome.TOOK_EFFECT),))
        case Attached():
            # The gateway detaches what it could not open.
            lost = MessageTooLong("The connection's subscriptions are more than a link carries.")
            return Instead((_failed(message.call, lost, Outcome.NOT_STARTED),))
        case RawStart():
            lost = MessageTooLong("The response's head is larger than a link carries.")
            failed = _failed(message.call, lost, Outcome.TOOK_EFFECT)
            return Instead((failed,), (RawEnd(message.call, *_closing(fault)),))
        case RawData():
            end = RawEnd(message.call, *_closing(fault))
            return Instead((end,), (RawArrived(message.cost), end))
        case Failed() if message.failure.message != LOST_ERROR:
            failure = message.failure
            code = failure.code if failure.code.isascii() and len(failure.code) < 256 else "error"
            lost_error = Failure(code, LOST_ERROR, failure.status, None, failure.outcome)
            return Instead((Failed(message.call, lost_error),))
        case Close() if message.reason:
            return Instead((Close(message.connection, message.code, ""),))
        case RawEnd() if message.reason:
            return Instead((RawEnd(message.call, message.code),))
        case _:
            return None


def unhanded(fault: Exception) -> RivetError:
    """Why what a client said is not handed over; see `Handed`."""
    text = (
        "The message is larger than a link carries."
        if isinstance(fault, TooLong)
        else "The message holds something that a link cannot carry."
    )
    kind = MessageTooLong if isinstance(fault, TooLong) else InvalidRequest
    return kind(text, outcome=Outcome.NOT_STARTED)


def _closing(fault: Exception) -> tuple[int, str]:
    if isinstance(fault, TooLong):
        return TOO_BIG, MessageTooLong.code
    return INTERNAL, InternalError.code


# --- A message that cannot be read ----------------------------------------------


def unread_by_host(item: Unreadable) -> Instead[ToHost] | None:
    """For a host: the end of what was meant. None if nobody can say what that was."""
    number, connection = item.number(), item.name()
    match item.kind:
        case "call" | "attach" | "forward" | "raw_open" if number is not None:
            bad = InvalidRequest("The request cannot be read.")
            return Instead((_failed(number, bad, Outcome.NOT_STARTED),))
        case "cancel":
            return Instead()
        case "subscribe" if connection is not None:
            return Instead((Close(connection, INTERNAL, InternalError.code),))
        case "detach" if connection is not None:
            return Instead(own=(Detach(connection),))
        case "taken" if number is not None:
            return Instead(own=(Taken(number, taken=False),))
        case "raw_data" | "raw_taken" | "raw_end" if number is not None:
            end = RawEnd(number, INTERNAL, InternalError.code)
            return Instead((*_arrived(item), end), (end,))
        case _:
            return None


def unread_by_gateway(item: Unreadable) -> Instead[ToGateway] | None:
    """For a gateway: the same."""
    number, name = item.number(), item.name()
    match item.kind:
        case "reply" | "failed" | "attached" if number is not None:
            outcome = Outcome.TOOK_EFFECT if item.kind == "reply" else Outcome.UNKNOWN
            hidden = InternalError(InternalError.MESSAGE)
            return Instead(own=(_failed(number, hidden, outcome),))
        case "deliver" if (connection := item.name(3)) is not None:
            return Instead(own=(Close(connection, SERVICE_RESTART, "resync"),))
        case "close" if name is not None:
            return Instead(own=(Close(name, INTERNAL, ""),))
        case "handed" if number is not None:
            return Instead((Taken(number, taken=False),))
        case "raw_start" | "raw_data" | "raw_taken" | "raw_end" if number is not None:
            end = RawEnd(number, INTERNAL, InternalError.code)
            return Instead((*_arrived(item), end), (end,))
        case _:
            return None


def _arrived(item: Unreadable) -> tuple[RawArrived, ...]:
    """The sender of a piece may send another, whatever became of this one."""
    data = item.data(1) if item.kind == "raw_data" else None
    return () if data is None else (RawArrived(len(data) + RAW_OVERHEAD),)


# --- A message that broke its receiver ------------------------------------------


def broke_host(message: Message) -> ToGateway | None:
    """The answer to what broke the host's side of the port."""
    if isinstance(message, Call | Attach | Forward | RawOpen):
        return _failed(message.call, InternalError(InternalError.MESSAGE), Outcome.UNKNOWN)
    return None


def broke_gateway(message: Message) -> Instead[ToGateway]:
    """The end of what broke the gateway's side of the port, if it can still be told."""
    match message:
        case Attached():
            hidden = InternalError(InternalError.MESSAGE)
            return Instead(own=(_failed(message.call, hidden, Outcome.UNKNOWN),))
        case Handed():
            return Instead((Taken(message.number, taken=False),))
        case RawStart() | RawData() | RawTaken():
            end = RawEnd(message.call, INTERNAL, InternalError.code)
            return Instead((end,), (end,))
        case _:
            return Instead()


def _failed(call: int, error: RivetError, outcome: Outcome) -> Failed:
    return Failed(call, Failure(error.code, error.message, error.status, None, outcome.value))
