"""What a gateway is told instead of a message that cannot go over the link.

One message that is too long must not cost everybody else the link.
"""

from __future__ import annotations

from rivet_ray.errors import InternalError, InvalidRequest, MessageTooLong, Outcome, RivetError
from rivet_ray.link.frames import TooLong
from rivet_ray.protocol.caller import Message
from rivet_ray.protocol.port import (
    Attach,
    Call,
    Close,
    Failed,
    Failure,
    Forward,
    Reply,
    ToGateway,
)
from rivet_ray.protocol.raw import RawEnd, RawOpen, RawStart

LOST_ERROR = "The action failed; its error is larger than a link carries."


def instead_of(message: Message, fault: Exception) -> ToGateway | None:
    """The end of what waits for a message, or None where nothing does.

    None as well where the message is such an end already.
    """
    too_long = isinstance(fault, TooLong)
    match message:
        case Call() | Attach() | Forward() | RawOpen():
            refused = (
                MessageTooLong("The request is larger than a link carries.")
                if too_long
                else InvalidRequest("The request holds something that a link cannot carry.")
            )
            return Failed(message.call, _failure(refused, Outcome.NOT_STARTED))
        case Reply():
            lost = MessageTooLong("The action's result is larger than a link carries.")
            return Failed(message.call, _failure(lost, Outcome.TOOK_EFFECT))
        case RawStart():
            lost = MessageTooLong("The response's head is larger than a link carries.")
            return Failed(message.call, _failure(lost, Outcome.TOOK_EFFECT))
        case Failed():
            failure = message.failure
            if failure.message == LOST_ERROR:
                return None
            code = failure.code if failure.code.isascii() and len(failure.code) < 256 else "error"
            lost_error = Failure(code, LOST_ERROR, failure.status, None, failure.outcome)
            return Failed(message.call, lost_error)
        case Close() if message.reason:
            return Close(message.connection, message.code, "")
        case RawEnd() if message.reason:
            return RawEnd(message.call, message.code)
        case _:
            return None


def fault_of(message: Message) -> ToGateway | None:
    """The answer to what broke the host's side of the port."""
    if isinstance(message, Call | Attach | Forward | RawOpen):
        return Failed(message.call, _failure(InternalError(InternalError.MESSAGE), Outcome.UNKNOWN))
    return None


def _failure(error: RivetError, outcome: Outcome) -> Failure:
    return Failure(error.code, error.message, error.status, None, outcome.value)
