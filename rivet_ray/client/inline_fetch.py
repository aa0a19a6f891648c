"""`handle.fetch` without network: a raw request over the port, streamed both ways.

Request and response are httpx's, as over HTTP; nothing else of it takes part.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx
from typing_extensions import override

from rivet_ray.budget import Budget
from rivet_ray.client.answers import Share, read_whole
from rivet_ray.client.settings import DEFAULTS
from rivet_ray.client.transport import Fetch
from rivet_ray.errors import InternalError, Outcome, RequestFailed, RivetError
from rivet_ray.protocol import v0, values
from rivet_ray.protocol.encodings import ENCODINGS
from rivet_ray.protocol.queries import ActorQuery
from rivet_ray.protocol.raw import RAW_PIECE, RawRequest, is_withheld
from rivet_ray.runtime import Tunnel
from rivet_ray.runtime.failures import failure_of
from rivet_ray.store import ActorRecord

if TYPE_CHECKING:
    from rivet_ray.client.inline import InlineTransport

HOST = "actor"
"""Of the URLs that the actor sees: no network names one."""


async def fetch_inline(
    way: InlineTransport, query: ActorQuery, params: Any, fetch: Fetch, timeout: float
) -> httpx.Response:
    """See `rivet_ray.client.transport.Transport.fetch`.

    What cannot be answered is an answer too, as a gateway would give it.
    """
    url = f"http://{HOST}/{fetch.path.removeprefix('/')}"
    request = httpx.Request(fetch.method, url, headers=fetch.headers, content=fetch.body)
    body: bytes | AsyncIterable[bytes]
    given = fetch.body or b""
    body = given.encode() if isinstance(given, str) else given
    whole = isinstance(body, bytes) and len(body) <= RAW_PIECE
    raw = raw_request(request)

    async def send(record: ActorRecord) -> httpx.Response:
        tunnel = way.tunnel(
            record,
            raw,
            params,
            body=body if whole and isinstance(body, bytes) else b"",
            more=not whole,
            timeout=timeout,
        )
        exchange = Exchanged(way, tunnel, None if whole else body)
        try:
            start = await tunnel.started()
            if start is None:
                raise exchange.fault()
        except BaseException:
            await exchange.aclose()
            raise
        return httpx.Response(start.status, headers=start.headers, stream=exchange, request=request)

    try:
        async with asyncio.timeout(timeout):
            try:
                response = await way.reach(query, send)
            except RivetError as error:
                return _refusal(error, request)
            if not fetch.stream:
                longest = DEFAULTS.max_message_size
                with Share(Budget("fetch", longest)) as share:
                    await read_whole(response, longest, share)
            return response
    except TimeoutError as error:
        late = f"The actor did not answer within {timeout:g} s; it may still do what was asked."
        raise RequestFailed(late, outcome=Outcome.UNKNOWN) from error
    except httpx.HTTPError as error:
        cut = f"The answer broke off before it was complete: {error}"
        raise RequestFailed(cut, outcome=Outcome.UNKNOWN) from error


def raw_request(request: httpx.Request, protocols: list[str] | None = None) -> RawRequest:
    """The request as the actor sees it, without what is the wire's or the hop's own."""
    path, _, query = request.url.raw_path.partition(b"?")
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    return RawRequest(
        method=request.method,
        path=path,
        query=query,
        headers=[(name, value) for name, value in headers if not is_withheld(name)],
        scheme=request.url.scheme,
        protocols=protocols,
    )


class Exchanged(httpx.AsyncByteStream):
    """The body of the response, and what is left of the request's."""

    def __init__(
        self, way: InlineTransport, tunnel: Tunnel, body: bytes | AsyncIterable[bytes] | None
    ) -> None:
        self._way = way
        self._tunnel = tunnel
        self._raised: Exception | None = None
        self._upload: asyncio.Task[None] | None = None
        if body is not None:
            chunks = _once(body) if isinstance(body, bytes) else body
            self._upload = asyncio.create_task(self._send(aiter(chunks)))

    async def _send(self, chunks: AsyncIterator[bytes]) -> None:
        """Hand the body over as the actor takes it, each chunk behind the caller's gate."""
        tunnel = self._tunnel
        try:
            # First room, then reading: what is read cannot be put back.
            while await tunnel.room():
                chunk = await anext(chunks, None)
                await self._way.leaving()
                await tunnel.give(chunk or b"", more=chunk is not None)
                if chunk is None:
                    return
        except Exception as error:
            self._raised = error
            tunnel.leave()

    def fault(self) -> Exception:
        """Why it ended too early."""
        if self._raised is not None:
            return self._raised
        failure, closing = self._tunnel.failure, self._tunnel.closing
        reason = str(failure) if failure else closing.reason if closing else "it was closed"
        return httpx.RemoteProtocolError(reason)

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._tunnel.take()) is not None:
            if piece.data:
                yield piece.data
            if not piece.more:
                return
        raise self.fault()

    @override
    async def aclose(self) -> None:
        self._tunnel.leave()
        if self._upload is not None:
            self._upload.cancel()
            await asyncio.gather(self._upload, return_exceptions=True)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _refusal(error: RivetError, request: httpx.Request) -> httpx.Response:
    """An error of the server as the answer that a gateway gives."""
    outcome = error.outcome or Outcome.NOT_STARTED
    if type(error) is InternalError:
        # The actor's host has logged it, and hidden its text.
        status = InternalError.status
        message = v0.ErrorMessage(InternalError.code, InternalError.MESSAGE, values.encode({}))
    else:
        failure = failure_of(error, outcome, f"a request to {request.url}")
        status = failure.status
        message = v0.ErrorMessage(failure.code, failure.message, failure.metadata)
    headers = {"Content-Type": "text/plain;charset=UTF-8", v0.OUTCOME_HEADER: outcome.value}
    content = v0.encode_error(ENCODINGS["json"], message)
    return httpx.Response(status, headers=headers, content=content, request=request)
