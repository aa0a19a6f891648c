"""The port between gateway and host: every message, as plain values.

A gateway opens a session with a host. It sends `ToHost` messages and is handed
`ToGateway` messages; both directions are ordered, and neither side ever blocks
the other. In one process the messages are passed as they are, between
processes the link carries `encode(message)`: neither side can tell.

Arguments, outputs and event arguments are msgpack bytes. They are encoded when
they are given, so nothing that happens later can change them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from rivet_ray.budget import size_of_text
from rivet_ray.errors import Outcome, RivetError
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import Caller, Message
from rivet_ray.protocol.error_codes import from_code
from rivet_ray.protocol.raw import RawArrived, RawData, RawEnd, RawOpen, RawStart, RawTaken

INITIAL_CREDIT = 1024
"""How many `Deliver` messages a host may send before the gateway grants more."""
CALL_OVERHEAD = 512
"""Bytes that a call counts for beside its own while it waits or runs."""


class Failure(Message, frozen=True):
    """An error on its way to a caller, already translated: hidden text is gone."""

    code: str
    message: str
    status: int
    metadata: bytes | None = None
    outcome: str | None = None

    def exception(self) -> RivetError:
        """The error as the class it was raised as."""
        metadata = None if self.metadata is None else values.decode(self.metadata)
        outcome = None if self.outcome is None else Outcome(self.outcome)
        return from_code(self.code, self.message, metadata, outcome, self.status)


def own_status(code: str, status: int) -> int | None:
    """The status of an error where its code does not imply it."""
    return None if from_code(code, "").status == status else status


# --- Raw requests and sockets, in both directions ------------------------------
#
# One of them is known by the `call` of its `RawOpen`. What comes for one that has
# ended is ignored.


# --- What a client says on its connection -------------------------------------


class Ask(Message, frozen=True, tag="ask"):
    """Run an action; its answer goes to the client's stream."""

    id: int
    """The client's own number for it."""
    action: str
    arguments: bytes
    """A msgpack array."""
    key: str | None = None
    """An idempotency key."""

    @property
    def cost(self) -> int:
        """Bytes that it counts for while it waits or runs."""
        names = size_of_text(self.action) + size_of_text(self.key)
        return CALL_OVERHEAD + names + len(self.arguments)


class Want(Message, frozen=True, tag="want"):
    """The client wants, or no longer wants, an event."""

    event: str
    subscribed: bool


def subscription_cost(event: str) -> int:
    """Bytes that a connection's interest in an event counts for."""
    return CALL_OVERHEAD + size_of_text(event)


class Leave(Message, frozen=True, tag="leave"):
    """The client goes, and will not come back."""


class Unreadable(Message, frozen=True, tag="unreadable"):
    """An action's arguments cannot be read; the client is told so."""

    id: int
    """The client's own number for it."""
    problem: str


Said = Ask | Want | Leave | Unreadable


# --- Gateway to host --------------------------------------------------------


class Call(Message, frozen=True, tag="call"):
    """Run an action. Answered by one `Reply` or `Failed` with the same `call`."""

    call: int
    actor: str
    action: str
    arguments: bytes
    """A msgpack array."""
    connection: str | None = None
    """The attached connection that calls; None for a call on its own."""
    caller: Caller | None = None
    """Who calls, where `connection` is None."""
    key: str | None = None
    """An idempotency key."""
    chain: list[str] = msgspec.field(default_factory=list[str])
    """The turns that wait for this call, the outermost first."""
    timeout: float | None = None
    """Seconds that the caller will wait from now on; None leaves it to the host."""

    @property
    def cost(self) -> int:
        """Bytes that it counts for while it waits or runs."""
        names = size_of_text(self.action) + size_of_text(self.key)
        caller = 0 if self.caller is None else self.caller.cost
        return CALL_OVERHEAD + names + len(self.arguments) + caller


class Cancel(Message, frozen=True, tag="cancel"):
    """Nobody waits for `call` any more. Its reply may still arrive."""

    call: int


class Attach(Message, frozen=True, tag="attach"):
    """Open a connection to an actor. Answered by `Attached` or `Failed`.

    With `resume` it is a connection that this gateway had opened before its
    session or the actor's host was lost: it goes on as it was, without hooks.
    Refused where it has ended meanwhile, or the token is another.

    With `claim` as well it is the client that was cut off and comes back, through
    any gateway: it gets another token, and whoever holds the connection is told to
    close it. Of its `caller` auth and request are the connection's from then on; the
    parameters stay those of the opening. The token before is good for one more claim
    until the connection is used, because the answer may be lost on its way.
    """

    call: int
    actor: str
    connection: str
    token: str
    caller: Caller
    resume: bool = False
    events: list[str] = msgspec.field(default_factory=list[str])
    """What a resumed connection is subscribed to; that of a claim is known to the host."""
    seen: int = 0
    """The actor's last event that reached the gateway, or the client that claims."""
    claim: bool = False
    chain: list[str] = msgspec.field(default_factory=list[str])
    """The turns that wait for the connection to open, the outermost first."""

    @property
    def cost(self) -> int:
        """Bytes that it counts for while it waits."""
        return (
            CALL_OVERHEAD
            + size_of_text(self.connection)
            + size_of_text(self.token)
            + self.caller.cost
        )


class Detach(Message, frozen=True, tag="detach"):
    """The client of a connection is gone, or was closed as asked by `Close`.

    With `keep` it was cut off and may come back within the resume window.
    """

    connection: str
    keep: bool = False


class Subscribe(Message, frozen=True, tag="subscribe"):
    """A connection wants, or no longer wants, an event."""

    connection: str
    event: str
    subscribed: bool


class Credit(Message, frozen=True, tag="credit"):
    """The gateway can take `frames` more `Deliver` messages."""

    frames: int


class Forward(Message, frozen=True, tag="forward"):
    """What the client of a connection said to a gateway that does not hold it.

    The host hands it to the session that does. Answered by a `Reply` without
    output once that gateway has taken it, or by `Failed`; the outcome of the
    failure is about the handing over. What comes of the message itself goes to
    the client's stream.
    """

    call: int
    actor: str
    connection: str
    token: str
    """Proves that it is the connection's client."""
    said: Said
    timeout: float | None = None
    """Seconds that the caller will wait from now on; None leaves it to the host."""

    @property
    def cost(self) -> int:
        """Bytes that it counts for while it waits."""
        return self.said.cost if isinstance(self.said, Ask) else CALL_OVERHEAD

    @property
    def key(self) -> str | None:
        """With one, it may be handed over twice and still have one effect."""
        return self.said.key if isinstance(self.said, Ask) else None


class Taken(Message, frozen=True, tag="taken"):
    """The answer to a `Handed`: `taken` is False where its connection has gone."""

    number: int
    taken: bool


ToHost = (
    Call
    | Cancel
    | Attach
    | Detach
    | Subscribe
    | Credit
    | Forward
    | Taken
    | RawOpen
    | RawData
    | RawTaken
    | RawArrived
    | RawEnd
)


# --- Host to gateway --------------------------------------------------------


class Reply(Message, frozen=True, tag="reply"):
    """What an action returned; `output` is None where it returns nothing at all."""

    call: int
    output: bytes | None


class Failed(Message, frozen=True, tag="failed"):
    """A call, an attachment or a handing over failed."""

    call: int
    failure: Failure


class Attached(Message, frozen=True, tag="attached"):
    """The connection is open. Everything for it comes after this message."""

    call: int
    sequence: int = 0
    """The actor's last event before."""
    token: str | None = None
    """The new token of a connection that was claimed."""
    events: list[str] = msgspec.field(default_factory=list[str])
    """What a connection that was claimed is subscribed to."""


class Deliver(Message, frozen=True, tag="deliver"):
    """One event of one actor, for one connection or all that subscribed.

    One message serves every subscribed connection of the session.
    """

    actor: str
    event: str
    arguments: bytes
    """A msgpack array."""
    connection: str | None = None
    sequence: int = 0
    """Counts the actor's events; grows by at least one from each to the next."""


class Close(Message, frozen=True, tag="close"):
    """End a connection: tell the client `code` and `reason`, then send `Detach`."""

    connection: str
    code: int
    reason: str


class Handed(Message, frozen=True, tag="handed"):
    """What the client of one of the session's connections said elsewhere.

    Its token has been checked. Answered by `Taken` with the same `number`; from
    then on it is as if it had come on the connection itself.
    """

    number: int
    connection: str
    said: Said


ToGateway = (
    Reply
    | Failed
    | Attached
    | Deliver
    | Close
    | Handed
    | RawStart
    | RawData
    | RawTaken
    | RawArrived
    | RawEnd
)


class HostSession(Protocol):
    """A gateway's end of the port."""

    def send(self, message: ToHost, /) -> None:
        """Hand over a message. Never blocks and never raises."""
        ...

    def close(self) -> None:
        """No message is received after. What is still attached may be resumed for a while."""
        ...


class Hosting(Protocol):
    """A host, as a gateway sees it."""

    def open(self, receive: Callable[[ToGateway], None]) -> HostSession:
        """Start a session. `receive` is called on the event loop and must not block."""
        ...


_to_host = msgspec.msgpack.Decoder(ToHost)
_to_gateway = msgspec.msgpack.Decoder(ToGateway)
_encoder = msgspec.msgpack.Encoder()


def encode(message: ToHost | ToGateway) -> bytes:
    """A message as msgpack."""
    return _encoder.encode(message)


def decode_to_host(data: bytes) -> ToHost:
    """A message from a gateway. Raises msgspec.ValidationError."""
    message: ToHost = _to_host.decode(data)
    return message


def decode_to_gateway(data: bytes) -> ToGateway:
    """A message from a host. Raises msgspec.ValidationError."""
    message: ToGateway = _to_gateway.decode(data)
    return message
