"""HTTP answers of the v0 dialect, written straight to ASGI."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from starlette.types import Send

from rivet_ray.errors import InexactInteger, InternalError, Outcome, RivetError
from rivet_ray.protocol import v0, values
from rivet_ray.protocol.encodings import EncodeFault, Encoding, IntegerFault
from rivet_ray.protocol.port import own_status
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers

log = logger_of_strangers("rivet_ray.gateway")

TEXT = b"text/plain;charset=UTF-8"
JSON = b"application/json"
OUTCOME = v0.OUTCOME_HEADER.lower().encode()
CHALLENGE = (b"www-authenticate", b"Bearer")
"""Of every 401, as RFC 9110 wants it; this scheme makes no browser ask for a password."""


async def respond(
    send: Send,
    status: int,
    body: bytes,
    content_type: bytes,
    extra: list[tuple[bytes, bytes]] | None = None,
) -> None:
    """A whole response."""
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    if extra:
        headers.extend(extra)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_message(error: BaseException, action_id: int | None = None) -> v0.ErrorMessage:
    """What a client may know of an error (promise C10: no text of a hidden one)."""
    if not isinstance(error, RivetError) or not error.public:
        if type(error) is not InternalError:  # That one was logged where it was made.
            log.error("a request failed: %s", error, exc_info=error, extra=REPEATED)
        outcome = error.outcome if isinstance(error, RivetError) else Outcome.UNKNOWN
        told = outcome.value if outcome else None
        hidden = values.encode({})
        return v0.ErrorMessage(InternalError.code, InternalError.MESSAGE, hidden, action_id, told)
    outcome = error.outcome or Outcome.NOT_STARTED
    code, message = values.sendable(error.code), values.sendable(error.told)
    status = own_status(error.code, error.status)
    return v0.ErrorMessage(code, message, _metadata(error), action_id, outcome.value, status)


def _metadata(error: RivetError) -> bytes | None:
    if error.metadata is None:
        return None
    try:
        return values.encode_sent(error.metadata)
    except (TypeError, OverflowError, RecursionError, ValueError) as fault:
        log.error("the metadata of %r cannot be sent: %s", error.code, fault, extra=REPEATED)
        return None


def without_metadata(message: v0.ErrorMessage, fault: EncodeFault) -> v0.ErrorMessage:
    """The same error for a client to which its metadata cannot be sent."""
    log.warning("the metadata of %r cannot be sent: %s", message.code, fault, extra=REPEATED)
    return msgspec.structs.replace(message, metadata=None)


def inexact(what: str, fault: IntegerFault) -> InexactInteger:
    """The error of a client whose numbers are doubles; it names the integer and the cure."""
    return InexactInteger(
        f"{what} holds the integer {fault.value}, which a number of JavaScript cannot hold "
        "exactly. Send it as text: str(…) in the actor. A client that reads integers of 64 "
        f"bits gets it as it is if it says so: {v0.INTEGERS_HEADER}: {v0.EXACT}.",
        outcome=Outcome.TOOK_EFFECT,
    )


async def respond_error(send: Send, error: BaseException, encoding: Encoding) -> None:
    """An error's body and status, in the encoding of the request."""
    message = error_message(error)
    status = error.status if isinstance(error, RivetError) and error.public else 500
    content_type = TEXT if not encoding.binary else encoding.content_type.encode()
    extra = [(OUTCOME, message.outcome.encode())] if message.outcome else []
    if status == HTTPStatus.UNAUTHORIZED:
        extra.append(CHALLENGE)
    try:
        body = v0.encode_error(encoding, message)
    except EncodeFault as fault:
        body = v0.encode_error(encoding, without_metadata(message, fault))
    await respond(send, status, body, content_type, extra)
