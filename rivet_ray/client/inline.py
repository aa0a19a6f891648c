"""A client without network: calls go straight to the port of a host.

There is no `on_auth` here, and connections have no request. For the code of the
server itself, for other actors, and for tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rivet_ray import ids
from rivet_ray.budget import MIB, Budget
from rivet_ray.client.transport import Closing, Fetch
from rivet_ray.definition.identity import identity_of
from rivet_ray.errors import (
    ActionTimedOut,
    ConnectionClosed,
    Outcome,
    SlowConsumer,
)
from rivet_ray.protocol import values
from rivet_ray.protocol.caller import SERVER, Caller
from rivet_ray.protocol.port import Ask, Attached, Deliver, Failed, Reply, Said, Want, own_status
from rivet_ray.protocol.queries import ActorQuery
from rivet_ray.protocol.raw import RawRequest
from rivet_ray.protocol.subprotocols import Resume
from rivet_ray.protocol.v0 import (
    ActionRequest,
    ActionResponse,
    ErrorMessage,
    EventMessage,
    Init,
    SubscriptionRequest,
    ToClient,
    ToServer,
)
from rivet_ray.runtime import Calls, Directory, Tunnel
from rivet_ray.store import ActorRecord

if TYPE_CHECKING:
    import httpx
    from websockets.asyncio.client import ClientConnection

T = TypeVar("T")

UNREAD_LIMIT = 32 * MIB
"""Bytes of what a connection was told and its consumer has not dealt with; beyond it the
connection is closed as `slow_consumer`."""
UNREAD_OVERHEAD = 256
"""Bytes that each message counts for beside what it carries."""


class Backend(Protocol):
    """A directory and a host; `rivet_ray.runtime.Standalone` is one."""

    @property
    def directory(self) -> Directory: ...
    @property
    def calls(self) -> Calls: ...
    async def start(self) -> None: ...


class InlineTransport:
    """The way of the server's own code; see `rivet_ray.client.transport.Transport`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def leaving(self) -> None:
        """Called before anything leaves the caller."""

    def handled(self) -> None:
        """Called after the caller has dealt with a message of a connection."""

    def chain(self) -> list[str]:
        """The turns that wait for what is called now."""
        return []

    async def resolve(self, query: ActorQuery, params: Any) -> str:
        await self._backend.start()
        await self.leaving()
        return (await self._backend.directory.resolve(query)).id

    async def call(
        self,
        query: ActorQuery,
        action: str,
        arguments: bytes,
        params: Any,
        timeout: float,
        key: str | None,
    ) -> bytes | None:
        await self._backend.start()
        calls = self._backend.calls

        def call(record: ActorRecord) -> Awaitable[bytes | None]:
            return calls.call(
                record.id,
                action,
                arguments,
                caller=self.caller(record.name, params),
                key=key,
                chain=self.chain(),
                timeout=timeout,
            )

        try:
            async with asyncio.timeout(timeout):
                await self.leaving()
                return await self._backend.directory.reach(query, call)
        except TimeoutError as error:
            late = f"{action} was not answered within {timeout:g} s."
            raise ActionTimedOut(late, outcome=Outcome.UNKNOWN) from error

    def connect(self, query: ActorQuery, params: Any, resume: Resume) -> InlineConnection:
        """Nothing cuts a connection in this process but the loss of its host."""
        return InlineConnection(self, self._backend, query, params)

    def caller(self, name: str, params: Any) -> Caller:
        """Who calls an actor of the type `name`, with these parameters."""
        return Caller(encoded(params), identity=self.identity)

    @property
    def identity(self) -> str:
        """Whose the idempotency keys are."""
        return SERVER

    async def fetch(
        self, query: ActorQuery, params: Any, fetch: Fetch, timeout: float
    ) -> httpx.Response:
        from rivet_ray.client.inline_fetch import fetch_inline

        return await fetch_inline(self, query, params, fetch, timeout)

    async def reach(self, query: ActorQuery, use: Callable[[ActorRecord], Awaitable[T]]) -> T:
        """Use the actor of a query, once what its caller has changed is durable."""
        await self._backend.start()
        await self.leaving()
        return await self._backend.directory.reach(query, use)

    def tunnel(
        self,
        record: ActorRecord,
        request: RawRequest,
        params: Any,
        *,
        body: bytes = b"",
        more: bool = False,
        timeout: float | None = None,
    ) -> Tunnel:
        """A raw request or socket to the actor; see `Calls.tunnel`."""
        return self._backend.calls.tunnel(
            record.id,
            request,
            self.caller(record.name, params),
            body=body,
            more=more,
            timeout=timeout,
            chain=self.chain(),
        )

    def websocket(
        self, query: ActorQuery, params: Any, path: str, protocols: Sequence[str]
    ) -> AbstractAsyncContextManager[ClientConnection]:
        from rivet_ray.client.inline_websocket import websocket_inline

        return websocket_inline(self, query, params, path, protocols)

    async def aclose(self) -> None:
        """The backend belongs to the server; nothing is closed here."""


class CallerTransport(InlineTransport):
    """The way of a caller whom `on_auth` has let in, for tests.

    `auth` is what the actors see as `conn.auth` of every call and connection.
    """

    def __init__(self, backend: Backend, auth: Any) -> None:
        super().__init__(backend)
        self._auth = encoded(auth)

    def caller(self, name: str, params: Any) -> Caller:
        definition = self._backend.directory.definition(name)
        identity = identity_of(definition, self._auth)
        return Caller(encoded(params), self._auth, identity=identity)


def encoded(value: Any) -> bytes | None:
    return None if value is None else values.encode(value)


class InlineConnection:
    """See `rivet_ray.client.transport.ConnectionTransport`; also a `Sink`."""

    def __init__(
        self, transport: InlineTransport, backend: Backend, query: ActorQuery, params: Any
    ) -> None:
        self._transport = transport
        self._backend = backend
        self._query = query
        self._params = params
        self._actor = ""
        self._id = ids.connection_id()
        self._messages: asyncio.Queue[ToClient | None] = asyncio.Queue()
        self._unread = Budget("client", UNREAD_LIMIT)
        self._ended = False
        self.closing = Closing(1006, "")

    async def open(self) -> Init:
        token = ids.connection_token()
        await self._backend.start()
        await self._transport.leaving()

        async def attach(record: ActorRecord) -> None:
            self._actor = record.id
            caller = self._transport.caller(record.name, self._params)
            chain = self._transport.chain()
            await self._backend.calls.attach(record.id, self._id, token, caller, self, chain=chain)

        await self._backend.directory.reach(self._query, attach)
        return Init(self._actor, self._id, token)

    async def send(self, message: ToServer) -> None:
        if self._ended:
            raise ConnectionClosed("The connection has ended.", outcome=Outcome.NOT_STARTED)
        chain = self._transport.chain()
        await self._transport.leaving()
        if isinstance(message, ActionRequest):
            self._ask(Ask(message.id, message.name, message.arguments, message.key), chain)
        elif isinstance(message, SubscriptionRequest):
            self._backend.calls.subscribe(self._actor, self._id, message.event, message.subscribe)

    def _ask(self, asked: Ask, chain: list[str]) -> None:
        self._backend.calls.start(
            self._actor,
            asked.action,
            asked.arguments,
            partial(self._answer, asked.id),
            connection=self._id,
            key=asked.key,
            chain=chain,
        )

    def _answer(self, action_id: int, answer: Reply | Failed) -> None:
        if isinstance(answer, Reply):
            self._put(ActionResponse(action_id, answer.output))
            return
        failure = answer.failure
        self._put(
            ErrorMessage(
                failure.code,
                failure.message,
                failure.metadata,
                action_id,
                failure.outcome,
                own_status(failure.code, failure.status),
            )
        )

    def _put(self, message: ToClient) -> None:
        if self._unread.fits(_cost(message)):
            self._messages.put_nowait(message)
        else:
            self.closed(1011, SlowConsumer.code)

    async def __aiter__(self) -> AsyncIterator[ToClient]:
        while (message := await self._messages.get()) is not None:
            yield message
            self._unread.give_back(_cost(message))
            # The consumer has dealt with it, and may have changed the caller's state.
            self._transport.handled()

    async def leave(self) -> None:
        """The close tells it."""

    async def close(self) -> None:
        if not self._ended:
            self._end(Closing(1000, ""))

    def _end(self, closing: Closing) -> None:
        self._ended = True
        self.closing = closing
        self._backend.calls.detach(self._id, self)
        self._messages.put_nowait(None)

    # --- Sink -------------------------------------------------------------

    def attached(self, message: Attached) -> None:
        """`open` returns Init itself."""

    def deliver(self, message: Deliver) -> None:
        self._put(EventMessage(message.event, message.arguments))

    def closed(self, code: int, reason: str) -> None:
        if not self._ended:
            self._end(Closing(code, reason))

    def handed(self, said: Said) -> None:
        if isinstance(said, Ask):
            self._ask(said, [])
        elif isinstance(said, Want):
            self._backend.calls.subscribe(self._actor, self._id, said.event, said.subscribed)


def _cost(message: ToClient) -> int:
    if isinstance(message, EventMessage):
        return UNREAD_OVERHEAD + len(message.arguments)
    if isinstance(message, ActionResponse):
        return UNREAD_OVERHEAD + len(message.output or b"")
    return UNREAD_OVERHEAD
