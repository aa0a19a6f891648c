"""The part of the port that carries raw requests and sockets: bytes, both ways, in windows.

See `rivet_ray.protocol.port` for the rest, and for how messages travel.
"""

from __future__ import annotations

import msgspec

from rivet_ray.protocol import older, v0
from rivet_ray.protocol.caller import Caller, Message, cost_of_headers

RAW_WINDOW = 262_144
"""Bytes of a raw request or socket that may be under way in each direction."""
RAW_PIECE = 65_536
"""The longest `RawData`, in bytes."""
RAW_OVERHEAD = 128
"""Bytes that every `RawData` counts for beside its own, so that empty ones cost too."""

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that speak of one hop, which is not the actor's."""
_CONTROL = frozenset(
    name.lower().encode()
    for name in (
        *v0.PUBLIC_HEADERS,
        *v0.INTERNAL_HEADERS,
        *older.HEADERS,
        *older.INTERNAL_HEADERS,
        v0.SEEN_HEADER,
        v0.INTEGERS_HEADER,
        v0.OUTCOME_HEADER,
    )
)


def is_withheld(name: bytes) -> bool:
    """Whether a header, in lower case, is the wire's or a hop's own, and never the actor's.

    With underscores too: what runs inside an actor may read them as dashes.
    """
    dashed = name.replace(b"_", b"-") if b"_" in name else name
    return dashed in _CONTROL or name in _HOP_BY_HOP


class RawRequest(Message, frozen=True):
    """A request as the actor sees it: what is the wire's own is gone."""

    method: str
    path: bytes
    """As the client wrote it, percent-encoded, behind the gateway's own."""
    query: bytes
    headers: list[tuple[bytes, bytes]]
    scheme: str
    client: tuple[str, int] | None = None
    protocols: list[str] | None = None
    """Of a WebSocket, the user's own subprotocols; None for an HTTP request."""
    root: bytes = b""
    """What stood in front of `path`, percent-encoded: the gateway's own part."""


class RawData(Message, frozen=True, tag="raw_data"):
    """A piece of a body, or of a WebSocket message; `more` of the same follows.

    The last one of a response ends its exchange. Every byte is paid for with the
    window of its direction, which `RawTaken` grants.
    """

    call: int
    data: bytes
    more: bool = False
    text: bool = False
    """Of a WebSocket message in UTF-8."""

    @property
    def cost(self) -> int:
        return len(self.data) + RAW_OVERHEAD


class RawTaken(Message, frozen=True, tag="raw_taken"):
    """Whoever reads the pieces has taken `size` bytes; as many more may be sent.

    A host grants the first window when the actor can read, a gateway has
    granted `RAW_WINDOW` with the opening.
    """

    call: int
    size: int


class RawArrived(Message, frozen=True, tag="raw_arrived"):
    """`size` bytes of `RawData`, of any exchange, have come out of the link."""

    size: int


class RawEnd(Message, frozen=True, tag="raw_end"):
    """To a host: the client has left. To a gateway: break off, or close the socket."""

    call: int
    code: int = 1000
    reason: str = ""


class RawOpen(Message, frozen=True, tag="raw_open"):
    """A request or socket for the actor's own code.

    Answered by `RawStart`, by `Failed`, or by `RawEnd` where a socket is closed
    before it was accepted.
    """

    call: int
    actor: str
    request: RawRequest
    caller: Caller
    body: bytes = b""
    """The whole body where there is no `more`."""
    more: bool = False
    timeout: float | None = None
    """Seconds that the client will wait for the answer to begin."""
    chain: list[str] = msgspec.field(default_factory=list[str])
    """The turns that wait for the answer, the outermost first."""

    connection = None
    key = None

    @property
    def cost(self) -> int:
        """Bytes that it counts for while it waits."""
        request = self.request
        head = 1_024 + len(request.path) + len(request.query) + cost_of_headers(request.headers)
        return head + len(self.body) + self.caller.cost


class RawStart(Message, frozen=True, tag="raw_start"):
    """The response begins, or the socket is accepted; its `RawData` follow."""

    call: int
    status: int
    """101 for a socket."""
    headers: list[tuple[bytes, bytes]]
    protocol: str | None = None
    """The subprotocol that was chosen."""
