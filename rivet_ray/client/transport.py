"""What carries a client's calls: HTTP and WebSocket, or nothing but function calls.

Handles and connections are written against these two protocols only.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rivet_ray.errors import Outcome, RivetError
from rivet_ray.protocol import values
from rivet_ray.protocol.error_codes import from_code
from rivet_ray.protocol.queries import ActorQuery
from rivet_ray.protocol.subprotocols import Resume
from rivet_ray.protocol.v0 import Arrived, ErrorMessage, Init, ToServer

if TYPE_CHECKING:
    import httpx
    from websockets.asyncio.client import ClientConnection


class Closing(NamedTuple):
    """How a connection ended: a WebSocket close code and its reason."""

    code: int
    reason: str

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".rstrip()


class Refused(Exception):
    """The server did not take one message; the connection goes on without it."""

    def __init__(self, error: RivetError) -> None:
        super().__init__(str(error))
        self.error = error


class ConnectionTransport(Protocol):
    """One life of one connection: opened once, used until it ends, never again."""

    @property
    def closing(self) -> Closing:
        """How the connection ended; meaningful once iteration has ended."""
        ...

    async def open(self) -> Init:
        """Open the connection. Raises the RivetError that the server refused it with.

        Raises RequestFailed where no server answered. Nothing stays open when
        this raises or is cancelled.
        """
        ...

    async def send(self, message: ToServer) -> None:
        """Hand a message over, in order of the calls; waits while the way is full.

        Raises ConnectionClosed, with the outcome NOT_STARTED where the message
        certainly did not leave, and Refused where this one alone fails.
        """
        ...

    def __aiter__(self) -> AsyncIterator[Arrived]:
        """Every message after Init, in order. Ends when the connection does."""
        ...

    async def leave(self) -> None:
        """Tell the server that the client goes for good; `close` follows."""
        ...

    async def close(self) -> None:
        """Close the connection and wait until it is. Harmless at any time."""
        ...


class Options(NamedTuple):
    """What `with_options` of a handle says about its calls."""

    idempotency_key: str | None = None
    timeout: float | None = None
    """Seconds; None for the client's."""


NO_OPTIONS = Options()


class Fetch(NamedTuple):
    """A raw HTTP request of a handle."""

    path: str
    method: str = "GET"
    headers: Mapping[str, str] | None = None
    body: bytes | str | AsyncIterable[bytes] | None = None
    stream: bool = False
    """Return with the head; the body is read later."""


class Transport(Protocol):
    """A way to the actors of one server.

    Arguments and outputs are msgpack. `params` is any JSON-like value, None for
    none. Every method raises the RivetError that the server answered, or
    RequestFailed where it cannot be reached or understood.
    """

    async def resolve(self, query: ActorQuery, params: Any) -> str:
        """The id of the actor, which is created where the query says so."""
        ...

    async def call(
        self,
        query: ActorQuery,
        action: str,
        arguments: bytes,
        params: Any,
        timeout: float,
        key: str | None,
    ) -> bytes | None:
        """Run an action; its output, or None where it returns nothing.

        `key` is the call's idempotency key, if it has one.

        Waits at most `timeout` seconds. Cancelling it gives up the answer, not
        necessarily the action.
        """
        ...

    def connect(self, query: ActorQuery, params: Any, resume: Resume) -> ConnectionTransport:
        """A connection that is not open yet; it goes on with another one where it can."""
        ...

    async def fetch(
        self, query: ActorQuery, params: Any, fetch: Fetch, timeout: float
    ) -> httpx.Response:
        """A raw HTTP request. Answers of any status are returned.

        Waits at most `timeout` seconds for the answer, or where it is streamed for
        its head.
        """
        ...

    def websocket(
        self, query: ActorQuery, params: Any, path: str, protocols: Sequence[str]
    ) -> AbstractAsyncContextManager[ClientConnection]:
        """A raw WebSocket."""
        ...

    async def aclose(self) -> None:
        """Let go of every socket. Connections are closed by their owners before."""
        ...


def rebuild(
    message: ErrorMessage, outcome: Outcome | None, status: int | None = None
) -> RivetError:
    """The error of a message as the class it was raised as.

    `outcome` and `status` hold where the message does not say them.
    """
    metadata = None if message.metadata is None else values.decode(message.metadata)
    told = read_outcome(message.outcome, outcome)
    status = status if message.status is None else message.status
    return from_code(message.code, message.message, metadata, told, status)


def retry_after(header: str | None) -> dict[str, float] | None:
    """What `Retry-After` says in seconds, as metadata of an error; dates are passed over."""
    if header is None or re.fullmatch(r"\d{1,9}", header) is None:
        return None
    return {"retry_after": float(header)}


def read_outcome(text: str | None, otherwise: Outcome | None) -> Outcome | None:
    """An outcome as a server writes it; one that we do not know is `otherwise`."""
    try:
        return otherwise if text is None else Outcome(text)
    except ValueError:
        return otherwise
