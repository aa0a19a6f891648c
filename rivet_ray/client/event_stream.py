"""A connection over an event stream; what is said on it goes out as requests."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import httpx

from rivet_ray.client.listeners import log
from rivet_ray.client.reconnecting import unread, unreadable
from rivet_ray.client.settings import ClientSettings
from rivet_ray.client.transport import Closing, Refused, rebuild
from rivet_ray.errors import (
    ConnectionClosed,
    MessageTooLong,
    Outcome,
    RequestFailed,
    RivetError,
)
from rivet_ray.protocol.encodings import DecodeFault, Encoding
from rivet_ray.protocol.error_codes import from_code
from rivet_ray.protocol.event_stream import (
    CLOSE,
    CONTENT_TYPE,
    ERROR,
    KEEP_ALIVE_HEADER,
    MESSAGE,
    EventStreamReader,
    ServerSentEvent,
    ended_of,
    message_of,
)
from rivet_ray.protocol.unreadable_answers import subject_of
from rivet_ray.protocol.v0 import (
    ActionRequest,
    Arrived,
    ErrorMessage,
    Goodbye,
    Init,
    ToServer,
    UnreadableAnswer,
    decode_to_client,
    encode_to_server,
)

ABNORMAL = 1006
GOODBYE_TIMEOUT = 2.0

_SECONDS = re.compile(r"\d+(\.\d+)?")

Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[bytes]]
"""Sends a body to a path of the server. Raises the error that it answered, or RequestFailed."""


class EventStreamConnection:
    """Implements ConnectionTransport.

    Messages are posted one after another, each when the one before it has been
    taken, so that they arrive in the order of the calls whichever gateway of a
    cluster they meet.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        headers: Mapping[str, str],
        encoding: Encoding,
        post: Post,
        failure: Callable[[httpx.Response], Awaitable[RivetError]],
        heartbeat: float | None,
        settings: ClientSettings,
    ) -> None:
        """`failure` reads the error in an answer that is no stream.
        `heartbeat` is how many seconds late a server may be that says how often it
        gives a sign of life.
        """
        self._http = http
        self._url = url
        self._headers = {**headers, "Accept": CONTENT_TYPE, "Cache-Control": "no-store"}
        self._encoding = encoding
        self._post = post
        self._failure = failure
        self._heartbeat = heartbeat
        self._silence: float | None = None
        """Seconds without a byte after which the server counts as gone."""
        self._proof: dict[str, str] = {}
        self._longest = settings.max_message_size
        self._most_items = settings.max_message_items
        # base64 takes four characters for three bytes.
        self._reader = EventStreamReader(
            -(-self._longest // 3) * 4 if encoding.binary else self._longest
        )
        self._events: deque[ServerSentEvent] = deque()
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._closing = Closing(ABNORMAL, "")
        self._closed = False
        self._over = False
        """The server, or something on the way, has ended the stream."""

    @property
    def closing(self) -> Closing:
        return self._closing

    async def open(self) -> Init:
        request = self._http.build_request("GET", self._url, headers=self._headers)
        try:
            self._response = await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise self._unreachable(str(error) or type(error).__name__) from error
        try:
            return await self._first(self._response)
        except BaseException:
            await self.close()
            raise

    async def send(self, message: ToServer) -> None:
        if self._closed or not self._proof:
            raise ConnectionClosed("The stream is closed.", outcome=Outcome.NOT_STARTED)
        body = encode_to_server(self._encoding, message)
        try:
            await self._post("actors/message", body, self._proof)
        except RivetError as error:
            if isinstance(message, ActionRequest) or isinstance(error, MessageTooLong):
                raise Refused(error) from error
            # Without it events would be missing, and nobody would know.
            self._closing = Closing(ABNORMAL, f"a subscription was not taken: {error}")
            await self.close()
            raise ConnectionClosed(
                "A subscription was not taken.", outcome=Outcome.NOT_STARTED
            ) from error

    def __aiter__(self) -> AsyncIterator[Arrived]:
        return self

    async def __anext__(self) -> Arrived:
        while (event := await self._next()) is not None:
            if event.cut:
                answer = self._too_long(event)
                if answer is not None:
                    return answer
                self._closing = unread(self._url, self._longest)
                break
            try:
                if event.name == MESSAGE:
                    frame = message_of(self._encoding, event)
                    return decode_to_client(self._encoding, frame, self._most_items)
                if event.name == CLOSE:
                    ended = ended_of(event)
                    self._closing, self._over = Closing(ended.code, ended.reason), True
                    break
            except DecodeFault as fault:
                self._closing = unreadable(self._url, fault)
                break
        await self.close()
        raise StopAsyncIteration

    def _too_long(self, event: ServerSentEvent) -> UnreadableAnswer | None:
        """The answer whose start this is; it alone fails."""
        try:
            subject = subject_of(self._encoding, message_of(self._encoding, event))
        except DecodeFault:
            return None
        if subject is None or subject.call is None:
            return None
        problem = f"it has more than {self._longest} bytes (ClientSettings.max_message_size)"
        return UnreadableAnswer(subject.call, problem, subject.answered, too_long=True)

    async def close(self) -> None:
        self._closed = True
        if self._response is not None:
            await self._response.aclose()

    async def leave(self) -> None:
        """The end of a stream does not tell whether it was cut."""
        if not self._proof or self._closed or self._over:
            return
        self._closed = True
        try:
            async with asyncio.timeout(GOODBYE_TIMEOUT):
                body = encode_to_server(self._encoding, Goodbye())
                await self._post("actors/message", body, self._proof)
        except (RivetError, TimeoutError) as error:
            # The server then keeps the connection until its time is over.
            log.info("a server was not told that its client left: %s", error)

    async def _next(self) -> ServerSentEvent | None:
        """The next event, or None where the stream has ended."""
        while not self._events:
            if self._chunks is None or self._closed:
                return None
            try:
                async with asyncio.timeout(self._silence):
                    chunk = await anext(self._chunks)
                self._events.extend(self._reader.feed(chunk))
            except TimeoutError:
                self._closing = Closing(ABNORMAL, f"nothing came for {self._silence:g} s")
                self._over = True
                return None
            except (StopAsyncIteration, httpx.HTTPError, httpx.StreamError):
                self._over = True
                return None
        return self._events.popleft()

    async def _first(self, response: httpx.Response) -> Init:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if not response.is_success or kind != CONTENT_TYPE:
            raise await self._failure(response)
        self._chunks = response.aiter_bytes()
        event = await self._next()
        if event is None:
            raise self._unreachable("the stream ended at once")
        if event.name == ERROR:
            raise from_code(event.data, f"The server refused the connection ({event.data}).")
        if event.name == CLOSE:
            raise self._unreachable(f"it closed the stream at once ({event.data})")
        try:
            message = decode_to_client(self._encoding, message_of(self._encoding, event))
        except DecodeFault as fault:
            raise self._unreachable(f"its first message cannot be read: {fault}") from fault
        if isinstance(message, ErrorMessage):
            raise rebuild(message, None)
        if not isinstance(message, Init):
            raise self._unreachable(f"its first message is {type(message).__name__}, not Init")
        self._proof = {
            "X-RivetKit-Actor": message.actor_id,
            "X-RivetKit-Conn": message.connection_id,
            "X-RivetKit-Conn-Token": message.token,
        }
        # Opening has a deadline of its own.
        self._silence = self._longest_silence(response)
        return message

    def _longest_silence(self, response: httpx.Response) -> float | None:
        """None where the server does not say how often it gives a sign of life."""
        every = response.headers.get(KEEP_ALIVE_HEADER, "")
        if self._heartbeat is None or _SECONDS.fullmatch(every) is None:
            return None
        return float(every) + self._heartbeat

    def _unreachable(self, why: str) -> RequestFailed:
        return RequestFailed(
            f"No event stream from {self._url} could be opened: {why}. "
            "Is the server running? Start it with `rivet-ray dev`.",
            outcome=Outcome.NOT_STARTED,
        )
