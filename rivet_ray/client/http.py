"""The transport for everyone: HTTP for calls, WebSocket or event streams for connections."""

from __future__ import annotations

import asyncio
import importlib.metadata
import math
import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Literal, get_args
from urllib.parse import quote

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection

from rivet_ray.client.addresses import below, registry_url
from rivet_ray.client.answers import CALL, Share, read_body, read_whole
from rivet_ray.client.either import EitherConnection
from rivet_ray.client.event_stream import EventStreamConnection
from rivet_ray.client.settings import DEFAULTS, ClientSettings, Held
from rivet_ray.client.transport import (
    ConnectionTransport,
    Fetch,
    read_outcome,
    rebuild,
    retry_after,
)
from rivet_ray.client.websocket import WebSocketConnection, raw_websocket
from rivet_ray.errors import MessageTooLong, Outcome, Overloaded, RequestFailed, RivetError
from rivet_ray.protocol import values
from rivet_ray.protocol.encodings import ENCODINGS, JSON, DecodeFault
from rivet_ray.protocol.queries import ActorQuery, encode_query
from rivet_ray.protocol.subprotocols import Resume, connect_protocols
from rivet_ray.protocol.v0 import (
    EXACT,
    INTEGERS_HEADER,
    KEY_HEADER,
    OUTCOME_HEADER,
    SEEN_HEADER,
    HeavyFault,
    decode_action_response,
    decode_error,
    decode_resolved,
    encode_action_request,
)

MAX_CONNECTIONS = 1_000
CONNECT_TIMEOUT = 10.0
"""Seconds to reach the server, or to wait for a free connection to it."""
KEEP_ALIVE = 30.0
"""Seconds that an idle connection is kept."""
STREAMS_FOR = 300.0
"""Seconds for which connections are event streams after no WebSocket got through; then
it is tried again, since what was in its way may have passed."""

_NEVER_LEFT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)
Way = Literal["auto", "websocket", "sse"]
"""What carries connections."""

_NOT_PLAIN = re.compile(r"[^\x20-\x7e]")


class HttpTransport:
    """Calls over HTTP/1.1, connections over `transport`; all speak dialect v0."""

    def __init__(
        self,
        url: str,
        *,
        encoding: str = "cbor",
        timeout: float = 65.0,
        transport: Way = "auto",
        heartbeat: float | None = 10.0,
        settings: ClientSettings = DEFAULTS,
        held: Held | None = None,
    ) -> None:
        """`held` is what the whole client holds.

        Raises ValueError for a URL, an encoding or a transport that cannot be used."""
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, not {encoding!r}")
        if transport not in get_args(Way):
            raise ValueError(f"transport must be one of {', '.join(get_args(Way))}")
        if heartbeat is not None and not 0 < heartbeat < math.inf:
            raise ValueError(f"heartbeat is a number of seconds, or None, not {heartbeat!r}")
        self._way = transport
        self._no_websocket: float | None = None
        """When none got through, and a stream did."""
        self._heartbeat = heartbeat
        self._settings = settings
        self._longest = settings.max_message_size
        self._held = (held or Held(settings)).budget
        self._encoding = ENCODINGS[encoding]
        self._base = registry_url(url)
        self._url = url
        self._timeout = timeout
        self._http = self._client(MAX_CONNECTIONS)
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop to which the sockets belong."""
        self._streams: httpx.AsyncClient | None = None
        """Apart from the others, which must not wait for one of them to end."""

    async def resolve(self, query: ActorQuery, params: Any) -> str:
        body = self._encoding.encode({})
        headers = self._headers(query, params)
        with Share(self._held) as share:
            answer = await self._post("actors/resolve", body, headers, self._timeout, share)
        try:
            return decode_resolved(self._encoding, answer)
        except DecodeFault as fault:
            raise self._unreadable(str(fault)) from fault

    async def call(
        self,
        query: ActorQuery,
        action: str,
        arguments: bytes,
        params: Any,
        timeout: float,
        key: str | None,
    ) -> bytes | None:
        body = encode_action_request(self._encoding, arguments)
        path = f"actors/actions/{quote(action, safe='')}"
        headers = self._headers(query, params, key)
        with Share(self._held) as share:
            share.take(CALL + len(body))
            answer = await self._post(path, body, headers, timeout, share)
        try:
            return decode_action_response(self._encoding, answer, self._settings.max_message_items)
        except HeavyFault as fault:
            raise MessageTooLong(
                f"The answer to {action!r} cannot be read: {fault}. Let it return less at once, "
                "or raise ClientSettings.max_message_items.",
                outcome=Outcome.TOOK_EFFECT,
            ) from fault
        except DecodeFault as fault:
            raise self._unreadable(str(fault)) from fault

    def connect(self, query: ActorQuery, params: Any, resume: Resume) -> ConnectionTransport:
        stream = partial(self._event_stream, query, params, resume)
        if self._way == "sse" or self._prefers_streams():
            return stream()
        socket = self._websocket(query, params, resume)
        if self._way == "websocket":
            return socket
        return EitherConnection(socket, stream, self._prefer_streams)

    def _prefer_streams(self) -> None:
        """No WebSocket gets through, and a stream did: the next one is a stream at once."""
        self._no_websocket = time.monotonic()

    def _prefers_streams(self) -> bool:
        since = self._no_websocket
        return since is not None and time.monotonic() - since < STREAMS_FOR

    def _event_stream(
        self, query: ActorQuery, params: Any, resume: Resume
    ) -> EventStreamConnection:
        self._join_loop()
        if self._streams is None:
            self._streams = self._client(None)
        return EventStreamConnection(
            self._streams,
            f"{self._base}/actors/connect/sse",
            self._headers(query, params) | _resume_headers(resume),
            self._encoding,
            self._say,
            self._failure_of,
            self._heartbeat,
            self._settings,
        )

    def _websocket(self, query: ActorQuery, params: Any, resume: Resume) -> WebSocketConnection:
        return WebSocketConnection(
            # http://… becomes ws://…, https://… becomes wss://…
            f"ws{self._base.removeprefix('http')}/actors/connect/websocket",
            connect_protocols(
                encode_query(query),
                self._encoding.name,
                None if params is None else to_json(params),
                resume,
                exact=True,
            ),
            self._encoding,
            USER_AGENT,
            self._heartbeat,
            self._settings,
        )

    async def fetch(
        self, query: ActorQuery, params: Any, fetch: Fetch, timeout: float
    ) -> httpx.Response:
        headers = httpx.Headers(fetch.headers)
        headers.update(self._headers(query, params))
        # An error of the server itself comes as JSON, whatever actions travel in.
        headers["X-RivetKit-Encoding"] = "json"
        self._join_loop()
        url = f"{self._base}/actors/raw/http/{below(fetch.path)}"
        request = self._http.build_request(fetch.method, url, headers=headers, content=fetch.body)
        if "Content-Type" not in httpx.Headers(fetch.headers):
            del request.headers["Content-Type"]
        with Share(self._held) as share:
            async with self._reaching(timeout):
                answer = await self._http.send(request, stream=True)
                if not fetch.stream:
                    await read_whole(answer, self._longest, share)
                return answer

    def websocket(
        self, query: ActorQuery, params: Any, path: str, protocols: Sequence[str]
    ) -> AbstractAsyncContextManager[ClientConnection]:
        return raw_websocket(
            f"ws{self._base.removeprefix('http')}/actors/raw/websocket/{below(path)}",
            connect_protocols(
                encode_query(query),
                "json",
                None if params is None else to_json(params),
                own=protocols,
            ),
            USER_AGENT,
            self._longest,
        )

    def _join_loop(self) -> None:
        """Leave the sockets of an event loop that has ended, as with a second asyncio.run.

        Raises RuntimeError if the client is used by two loops at once.
        """
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None:
            if not self._loop.is_closed():
                raise RuntimeError(
                    "This client belongs to another event loop, which still runs. Make a client "
                    "for each loop, or use SyncClient, which serves any number of threads."
                )
            self._http, self._streams = self._client(MAX_CONNECTIONS), None
        self._loop = loop

    async def aclose(self) -> None:
        await self._http.aclose()
        if self._streams is not None:
            await self._streams.aclose()

    def _client(self, most: int | None) -> httpx.AsyncClient:
        connect = min(CONNECT_TIMEOUT, self._timeout)
        return httpx.AsyncClient(
            headers={
                "User-Agent": USER_AGENT,
                "Content-Type": self._encoding.content_type,
                "X-RivetKit-Encoding": self._encoding.name,
                INTEGERS_HEADER: EXACT,
            },
            limits=httpx.Limits(
                max_connections=most,
                max_keepalive_connections=most,
                keepalive_expiry=KEEP_ALIVE,
            ),
            # The whole request has one deadline, in `_reaching`.
            timeout=httpx.Timeout(None, connect=connect, pool=connect),
        )

    def _headers(self, query: ActorQuery, params: Any, key: str | None = None) -> dict[str, str]:
        headers = {"X-RivetKit-Query": plain_json(encode_query(query))}
        if key is not None:
            headers[KEY_HEADER] = key
        if params is not None:
            headers["X-RivetKit-Conn-Params"] = plain_json(to_json(params))
        return headers

    async def _say(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        with Share(self._held) as share:  # What is sent counts for its connection.
            return await self._post(path, body, headers, self._timeout, share)

    async def _post(
        self, path: str, body: bytes, headers: Mapping[str, str], timeout: float, share: Share
    ) -> bytes:
        self._join_loop()
        request = self._http.build_request(
            "POST", f"{self._base}/{path}", content=body, headers=headers
        )
        async with self._reaching(timeout):
            answer = await self._http.send(request, stream=True)
            try:
                content = await read_body(answer, self._longest, share)
            finally:
                await answer.aclose()
        if answer.is_success:
            return content
        raise self._failure(answer, content)

    @asynccontextmanager
    async def _reaching(self, timeout: float) -> AsyncGenerator[None]:
        """What goes wrong on the way to an answer, as the error that says what is known."""
        try:
            async with asyncio.timeout(timeout):
                yield
        except _NEVER_LEFT as error:
            raise RequestFailed(
                f"No server could be reached at {self._url} ({_text(error)}). "
                "Is the server running? Start it with `rivet-ray dev`.",
                outcome=Outcome.NOT_STARTED,
            ) from error
        except TimeoutError as error:
            raise RequestFailed(
                f"The server at {self._url} did not answer within {timeout:g} s; the call may "
                "still have its effect. Give Client(timeout=…) more seconds if it needs them.",
                outcome=Outcome.UNKNOWN,
            ) from error
        except httpx.HTTPError as error:
            raise RequestFailed(
                f"The connection to {self._url} broke before the answer was complete "
                f"({_text(error)}); the call may have had its effect.",
                outcome=Outcome.UNKNOWN,
            ) from error

    async def _failure_of(self, answer: httpx.Response) -> RivetError:
        """The error in an answer that is not read yet."""
        try:
            with Share(self._held) as share:
                return self._failure(answer, await read_body(answer, self._longest, share))
        except (MessageTooLong, Overloaded) as error:
            return error
        except httpx.HTTPError as error:
            return self._unreadable(f"status {answer.status_code}, then {_text(error)}")

    def _failure(self, answer: httpx.Response, content: bytes) -> RivetError:
        outcome = read_outcome(answer.headers.get(OUTCOME_HEADER), Outcome.UNKNOWN)
        is_json = "application/json" in answer.headers.get("Content-Type", "")
        try:
            message = decode_error(JSON if is_json else self._encoding, content)
        except DecodeFault:
            start = content[:200].decode(errors="replace")
            error = self._unreadable(f"status {answer.status_code}: {start!r}", outcome)
            error.metadata = retry_after(answer.headers.get("Retry-After"))
            return error
        return rebuild(message, outcome, answer.status_code)

    def _unreadable(self, what: str, outcome: Outcome | None = Outcome.UNKNOWN) -> RequestFailed:
        return RequestFailed(
            f"{self._url} answered something that is no answer of an actor server ({what}). "
            "Does the URL lead to a rivet_ray server, without the trailing /registry?",
            outcome=outcome,
        )


def _resume_headers(resume: Resume) -> dict[str, str]:
    headers = {SEEN_HEADER: str(resume.seen)}
    if resume.connection is not None and resume.token is not None:
        headers |= {"X-RivetKit-Conn": resume.connection, "X-RivetKit-Conn-Token": resume.token}
    return headers


def to_json(value: Any) -> str:
    """A JSON-like value, a dataclass, a Struct or a pydantic model as JSON."""
    return msgspec.json.encode(value, enc_hook=values.encode_custom).decode()


def plain_json(text: str) -> str:
    r"""JSON that may stand in a header: anything beyond printable ASCII is `\u` escaped."""
    return _NOT_PLAIN.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _user_agent() -> str:
    try:
        return f"rivet_ray/{importlib.metadata.version('rivet-ray')}"
    except importlib.metadata.PackageNotFoundError:
        return "rivet_ray/unknown"


USER_AGENT = _user_agent()
