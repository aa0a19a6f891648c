"""The documented dialect: what RivetKit 0.9 clients send and are sent.

Nothing here does I/O. Each function turns wire bytes into a message or a message
into wire bytes. `arguments` (an array), `output` and `metadata` are msgpack, as
inside the system. Unknown members are ignored, as in the original.

What a server reads raises the error that its client must see; what a client
reads, DecodeFault. Writing raises EncodeFault for a value without a wire form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from rivet_ray.errors import InvalidActionRequest, MalformedMessage
from rivet_ray.protocol import dates, values
from rivet_ray.protocol.encodings import UNDEFINED, DecodeFault, EncodeFault, Encoding, Schema
from rivet_ray.protocol.faults import HeavyFault as HeavyFault
from rivet_ray.protocol.messages import ActionRequest as ActionRequest
from rivet_ray.protocol.messages import ActionResponse as ActionResponse
from rivet_ray.protocol.messages import Arrived as Arrived
from rivet_ray.protocol.messages import ErrorMessage as ErrorMessage
from rivet_ray.protocol.messages import EventMessage as EventMessage
from rivet_ray.protocol.messages import Goodbye as Goodbye
from rivet_ray.protocol.messages import Init as Init
from rivet_ray.protocol.messages import Received as Received
from rivet_ray.protocol.messages import SubscriptionRequest as SubscriptionRequest
from rivet_ray.protocol.messages import ToClient as ToClient
from rivet_ray.protocol.messages import ToServer as ToServer
from rivet_ray.protocol.messages import UnreadableAnswer as UnreadableAnswer
from rivet_ray.protocol.messages import UnreadableEvent as UnreadableEvent
from rivet_ray.protocol.messages import UnreadableRequest as UnreadableRequest
from rivet_ray.protocol.unreadable import MAX_ACTION_ID as MAX_ACTION_ID
from rivet_ray.protocol.unreadable import call_of
from rivet_ray.protocol.unreadable_answers import subject_of
from rivet_ray.protocol.weighing import CONTAINER

PUBLIC_HEADERS = tuple(
    f"X-RivetKit-{name}"
    for name in ("Query", "Encoding", "Conn-Params", "Actor", "Conn", "Conn-Token")
)
INTERNAL_HEADERS = ("X-RivetKit-Auth-Data", "X-RivetKit-Expose-Internal-Error")
"""Never believed of a client: a server strips them from public requests."""

SEEN_HEADER = "X-RivetKit-Conn-Seen"
"""Ours: the number of the last event that reached a client that counts them."""
INTEGERS_HEADER = "X-RivetKit-Integers"
"""Ours: `exact` of a client that reads integers of 64 bits as they are.

Without it a client counts as one whose numbers are doubles, as JavaScript's are.
"""
EXACT = "exact"
KEY_HEADER = "Idempotency-Key"
"""A request header of ours: at most one effect for all calls that carry the same."""
OLDER_HEADERS = {name.replace("X-RivetKit-", "X-AC-"): name for name in PUBLIC_HEADERS}
"""The older names of the public headers; see `rivet_ray.protocol.older`."""
ALLOWED_PUBLIC_HEADERS = (
    "Content-Type",
    "User-Agent",
    *PUBLIC_HEADERS,
    SEEN_HEADER,
    INTEGERS_HEADER,
    KEY_HEADER,
    *OLDER_HEADERS,
)
"""What pages of other origins must be allowed to send, for a CORS middleware of your own."""

OUTCOME_HEADER = "X-RivetKit-Outcome"
"""Ours: an `errors.Outcome` value on an HTTP error, so its body stays the original's."""

BANNER = """\
This is a RivetKit registry, served by rivet_ray.
The documentation of rivet_ray says how to reach its actors.
"""
"""The text of `GET /`."""


# --- Wire forms of the messages ---------------------------------------------


class _Wire(msgspec.Struct, gc=False, omit_defaults=True):
    """Base of what is written: full names here, the short ones on the wire."""


_ActionId = Annotated[int, msgspec.Meta(ge=0, le=MAX_ACTION_ID)]


class _Arguments(_Wire, rename={"arguments": "a"}):
    arguments: list[Any]


class _Output(_Wire, rename={"output": "o"}):
    output: Any = msgspec.UNSET


class _Resolved(_Wire, rename={"actor_id": "i"}):
    actor_id: str


class _Action(_Wire, rename={"id": "i", "name": "n", "arguments": "a", "key": "k"}):
    id: _ActionId
    name: str
    arguments: list[Any]
    key: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None


class _ToServerBody(_Wire, rename={"action": "ar", "subscription": "sr"}):
    action: _Action | None = None
    subscription: SubscriptionRequest | None = None
    bye: bool = False


class _ToServer(_Wire, rename={"body": "b"}):
    body: _ToServerBody


class _Error(_Wire, rename={"code": "c", "message": "m", "metadata": "md", "action_id": "ai"}):
    code: str
    message: str
    metadata: Any = msgspec.UNSET
    action_id: _ActionId | None = None
    outcome: str | None = msgspec.field(default=None, name="oc")
    status: int | None = msgspec.field(default=None, name="st")


class _Response(_Wire, rename={"id": "i", "output": "o"}):
    id: _ActionId
    output: Any = msgspec.UNSET


class _Event(_Wire, rename={"name": "n", "arguments": "a", "sequence": "s"}):
    name: str
    arguments: list[Any]
    sequence: int | None = None


class _ToClientBody(_Wire, rename={"init": "i", "error": "e", "response": "ar", "event": "ev"}):
    init: Init | None = None
    error: _Error | None = None
    response: _Response | None = None
    event: _Event | None = None


class _ToClient(_Wire, rename={"body": "b"}):
    body: _ToClientBody


_arguments = Schema(_Arguments)
_output = Schema(_Output)
_resolved = Schema(_Resolved)
_error = Schema(_Error)
_to_server = Schema(_ToServer)
_to_client = Schema(_ToClient)


# --- Server side ------------------------------------------------------------


def decode_action_request(encoding: Encoding, body: bytes) -> bytes:
    """The arguments in the body of an action request, a msgpack array.

    Raises InvalidActionRequest.
    """
    try:
        return _pack_arguments(encoding.decode_as(body, _arguments).arguments)
    except DecodeFault as error:
        raise InvalidActionRequest(f"The action request cannot be read: {error}") from error


def encode_action_response(encoding: Encoding, output: bytes | None) -> bytes:
    """The body that answers an action; without output where it returned nothing."""
    return encoding.encode(_Output(_unpack_optional(output)))


def encode_error(encoding: Encoding, error: ErrorMessage) -> bytes:
    """The body of an HTTP error; action, outcome and status are not part of it."""
    return encoding.encode(_error_body(error))


def encode_resolved(encoding: Encoding, actor_id: str) -> bytes:
    """The body that answers which actor a query means."""
    return encoding.encode(_Resolved(actor_id))


def decode_to_server(encoding: Encoding, frame: bytes | str) -> Received:
    """A client's message. Raises MalformedMessage, also for the wrong kind of frame."""
    if isinstance(frame, str) is encoding.binary:
        raise MalformedMessage(_wrong_frame(encoding))
    return _read_to_server(encoding, frame)


def decode_posted(encoding: Encoding, body: bytes) -> Received:
    """A client's message that is the body of a request. Raises MalformedMessage."""
    return _read_to_server(encoding, body)


def _read_to_server(encoding: Encoding, data: bytes | str) -> Received:
    try:
        body = encoding.decode_as(data, _to_server).body
        action, subscription = body.action, body.subscription
        if body.bye and action is None and subscription is None:
            return Goodbye()
        if action is not None and subscription is None:
            arguments = _pack_arguments(action.arguments)
            return ActionRequest(action.id, action.name, arguments, action.key)
    except DecodeFault as error:
        call = call_of(encoding, data)
        if call is not None:
            return UnreadableRequest(call, f"The action request cannot be read: {error}")
        raise MalformedMessage(f"The message cannot be read: {error}") from error
    if subscription is None or action is not None:
        raise MalformedMessage("A message must have exactly one of ar and sr.")
    return subscription


def encode_to_client(encoding: Encoding, message: ToClient) -> bytes:
    """A server's message; of a text encoding, the UTF-8 of the text frame."""
    match message:
        case ActionResponse():
            body = _ToClientBody(response=_Response(message.id, _unpack_optional(message.output)))
        case EventMessage():
            event = _Event(message.name, _unpack(message.arguments), message.sequence)
            body = _ToClientBody(event=event)
        case Init():
            body = _ToClientBody(init=message)
        case ErrorMessage():
            error = _error_body(message)
            error.action_id, error.outcome = message.action_id, message.outcome
            error.status = message.status
            body = _ToClientBody(error=error)
    return encoding.encode(_ToClient(body))


# --- Client side ------------------------------------------------------------


def encode_action_request(encoding: Encoding, arguments: bytes) -> bytes:
    """The body of an action request; `arguments` is a msgpack array."""
    return encoding.encode(_Arguments(_unpack(arguments)))


def decode_action_response(
    encoding: Encoding, body: bytes, most: int | None = None
) -> bytes | None:
    """What an action returned, or None for nothing at all. Raises DecodeFault.

    Raises HeavyFault where its values weigh more than `most`.
    """
    _check_weight(encoding, body, most)
    return _pack_optional(encoding.decode_as(body, _output).output)


def decode_error(encoding: Encoding, body: bytes) -> ErrorMessage:
    """The error in an HTTP body. Raises DecodeFault.

    A server that could not tell the encoding of a request answers in JSON.
    """
    error = encoding.decode_as(body, _error)
    return ErrorMessage(error.code, error.message, _pack_optional(error.metadata))


def decode_resolved(encoding: Encoding, body: bytes) -> str:
    """The id of the actor that a query means. Raises DecodeFault."""
    return encoding.decode_as(body, _resolved).actor_id


def encode_to_server(encoding: Encoding, message: ToServer) -> bytes:
    """A client's message; of a text encoding, the UTF-8 of the text frame."""
    if isinstance(message, ActionRequest):
        arguments = _unpack(message.arguments)
        body = _ToServerBody(_Action(message.id, message.name, arguments, message.key))
    elif isinstance(message, Goodbye):
        body = _ToServerBody(bye=True)
    else:
        body = _ToServerBody(subscription=message)
    return encoding.encode(_ToServer(body))


def decode_to_client(encoding: Encoding, frame: bytes | str, most: int | None = None) -> Arrived:
    """A server's message. Raises DecodeFault, also for the wrong kind of frame.

    Of one whose values weigh more than `most` only the subject is read.
    """
    _check_frame(encoding, frame)
    try:
        _check_weight(encoding, frame, most)
        return _read_to_client(encoding, frame)
    except DecodeFault as fault:
        subject = subject_of(encoding, frame)
        if subject is None:
            raise
        if subject.call is not None:
            heavy = isinstance(fault, HeavyFault)
            return UnreadableAnswer(subject.call, str(fault), subject.answered, heavy)
        assert subject.event is not None
        return UnreadableEvent(subject.event, str(fault), subject.sequence)


def _check_weight(encoding: Encoding, data: bytes | str, most: int | None) -> None:
    # A byte weighs no more than a list that it begins.
    if most is not None and len(data) * CONTAINER > most and encoding.weigh(data, most) > most:
        raise HeavyFault(f"its values count for more than {most}")


def _read_to_client(encoding: Encoding, frame: bytes | str) -> ToClient:
    body = encoding.decode_as(frame, _to_client).body
    match (body.init, body.error, body.response, body.event):
        case (None, None, _Response(id=id, output=output), None):
            return ActionResponse(id, _pack_optional(output))
        case (None, None, None, _Event(name=name, arguments=arguments, sequence=sequence)):
            return EventMessage(name, _pack_arguments(arguments), sequence)
        case (None, _Error(code=code, message=text) as error, None, None):
            metadata = _pack_optional(error.metadata)
            return ErrorMessage(code, text, metadata, error.action_id, error.outcome, error.status)
        case (Init() as init, None, None, None):
            return init
        case _:
            raise DecodeFault("a message must have exactly one of i, e, ar and ev")


# --- Shared -------------------------------------------------------------------


def _error_body(error: ErrorMessage) -> _Error:
    return _Error(error.code, error.message, _unpack_optional(error.metadata))


def _encode_undefined(value: Any) -> Any:
    if value is UNDEFINED:
        return None
    raise TypeError(f"a value of type {type(value).__qualname__} cannot be read")


_packer = msgspec.msgpack.Encoder(enc_hook=_encode_undefined)
_array = msgspec.msgpack.Decoder(list[Any])


def _pack(value: Any) -> bytes:
    try:
        return _packer.encode(value)
    except OverflowError as error:
        raise DecodeFault("an integer outside -2**63..2**64-1 cannot be read") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise DecodeFault(str(error)) from error


def _pack_optional(value: Any) -> bytes | None:
    return None if value is msgspec.UNSET or value is UNDEFINED else _pack(value)


def _pack_arguments(arguments: list[Any]) -> bytes:
    # A call with fewer arguments and one that ends in undefined mean the same.
    while arguments and arguments[-1] is UNDEFINED:
        arguments.pop()
    return _pack(arguments)


def _unpack(data: bytes, decode: Callable[[bytes], Any] = _array.decode) -> Any:
    try:
        value = decode(data)
        return dates.written(value) if dates.may_have_dates(data) else value
    except (ValueError, RecursionError) as error:
        raise EncodeFault(f"not the msgpack that is expected: {error}") from error


def _unpack_optional(data: bytes | None) -> Any:
    return msgspec.UNSET if data is None else _unpack(data, values.decode)


def _check_frame(encoding: Encoding, frame: bytes | str) -> None:
    if isinstance(frame, str) is encoding.binary:
        raise DecodeFault(_wrong_frame(encoding))


def _wrong_frame(encoding: Encoding) -> str:
    expected = "binary" if encoding.binary else "text"
    return f"{encoding.name} travels in {expected} frames"
