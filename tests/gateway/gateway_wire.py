"""Raw clients that know the specification and nothing of ours.

What the clients send and expect is written from wire-protocol.md, part A.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import cbor2
import httpx
from gateway_serve import Stack
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

NOT_FOUND = "Not Found (RivetKit)"
HIDDEN = "Internal error. Read the server logs for more details."
OUTCOME = "x-rivetkit-outcome"
PATIENCE = 3.0
"""Seconds after which a test stops waiting for something that should have come."""

# --- Encodings ----------------------------------------------------------------


@dataclass(frozen=True)
class Wire:
    """One encoding, as the specification tells it."""

    name: str
    content_type: str

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode() if self.name == "json" else cbor2.dumps(value)

    def loads(self, data: bytes) -> Any:
        return json.loads(data) if self.name == "json" else cbor2.loads(data)

    def frame(self, value: Any) -> str | bytes:
        data = self.dumps(value)
        return data.decode() if self.name == "json" else data

    def read(self, frame: str | bytes) -> Any:
        kind = str if self.name == "json" else bytes
        assert type(frame) is kind, f"a {self.name} frame is {kind.__name__}: {frame!r}"
        return self.loads(frame.encode() if isinstance(frame, str) else frame)


JSON = Wire("json", "application/json")
CBOR = Wire("cbor", "application/octet-stream")
WIRES = {"json": JSON, "cbor": CBOR}

# --- Queries ------------------------------------------------------------------


def get(name: str, *key: str) -> dict[str, Any]:
    return {"getForKey": {"name": name, "key": list(key)}}


def get_or_create(name: str, *key: str, **more: Any) -> dict[str, Any]:
    return {"getOrCreateForKey": {"name": name, "key": list(key), **more}}


def create(name: str, *key: str, **more: Any) -> dict[str, Any]:
    return {"create": {"name": name, "key": list(key), **more}}


def by_id(actor_id: str) -> dict[str, Any]:
    return {"getForId": {"actorId": actor_id}}


# --- A server -----------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    status: int
    headers: httpx.Headers
    raw: bytes
    body: Any
    """Decoded in the request's encoding; None where it cannot be."""

    @property
    def output(self) -> Any:
        assert self.status == 200, (self.status, self.raw)
        assert isinstance(self.body, dict), self.body
        return self.body["o"]

    @property
    def code(self) -> str:
        assert self.status != 200, self.raw
        assert isinstance(self.body, dict), (self.status, self.raw)
        assert set(self.body) - {"md"} == {"c", "m"}, self.body
        code: str = self.body["c"]
        return code

    @property
    def outcome(self) -> str | None:
        return self.headers.get(OUTCOME)


class Socket:
    """A WebSocket of the documented dialect."""

    def __init__(self, connection: ClientConnection, wire: Wire) -> None:
        self.connection = connection
        self.wire = wire

    async def send(self, body: Any) -> None:
        await self.connection.send(self.wire.frame({"b": body}))

    async def call(self, number: int, action: str, *args: Any) -> None:
        await self.send({"ar": {"i": number, "n": action, "a": list(args)}})

    async def subscribe(self, event: str, wanted: bool = True) -> None:
        await self.send({"sr": {"e": event, "s": wanted}})

    async def next(self) -> Any:
        """The body of the next message."""
        async with asyncio.timeout(PATIENCE):
            message = self.wire.read(await self.connection.recv())
        assert set(message) == {"b"}, message
        return message["b"]

    async def init(self) -> dict[str, str]:
        body = await self.next()
        assert set(body) == {"i"}, body
        init: dict[str, str] = body["i"]
        return init

    async def answer(self, number: int) -> Any:
        """The output of an action whose answer must come next."""
        body = await self.next()
        assert set(body) == {"ar"}, body
        assert body["ar"]["i"] == number, body
        return body["ar"]["o"]

    async def ask(self, number: int, action: str, *args: Any) -> Any:
        await self.call(number, action, *args)
        return await self.answer(number)

    async def closed(self) -> tuple[int | None, str, list[Any]]:
        """Code and reason of the close, and the messages that came before it."""
        before: list[Any] = []
        try:
            while True:
                before.append(await self.next())
        except ConnectionClosed as end:
            received = end.rcvd
            return (None, "", before) if received is None else (*_code(received), before)

    async def quiet(self) -> None:
        """Nothing is on its way: whatever the server had sent would be here by now."""
        try:
            for _ in range(3):
                async with asyncio.timeout(PATIENCE):
                    await (await self.connection.ping())
        except ConnectionClosed as end:
            raise AssertionError(f"this left too early: {end}") from end
        await self.silent()

    async def silent(self) -> None:
        """Nothing is here now."""
        try:
            async with asyncio.timeout(0.01):
                frame = await self.connection.recv()
        except TimeoutError:
            return
        except ConnectionClosed as end:
            raise AssertionError(f"this left too early: {end}") from end
        raise AssertionError(f"this left too early: {self.wire.read(frame)}")

    def abort(self) -> None:
        """Vanish, as a phone in a tunnel does."""
        self.connection.transport.abort()


def _code(close: Any) -> tuple[int, str]:
    return close.code, close.reason


class Site:
    """One server with one actor system behind it, and ways to talk to it."""

    def __init__(
        self, address: str, wire: Wire, http: httpx.AsyncClient, stack: Stack | None = None
    ):
        self.address = address
        self.wire = wire
        self.http = http
        self._stack = stack
        self.forged: dict[str, str] = {}
        """Headers beside those of the wire, with each request and each WebSocket."""

    @property
    def proxied(self) -> bool:
        """Whether something stands between the clients and the gateway."""
        return self._stack is not None

    async def take(self, module: str, name: str) -> list[Any]:
        """Empty a list that a test's module keeps in the gateway's process; what it held."""
        if self._stack is not None:
            return await self._stack.take(module, name)
        kept: list[Any] = getattr(sys.modules[module], name)
        found = list(kept)
        kept.clear()
        return found

    @asynccontextmanager
    async def crowd(self, size: int) -> AsyncIterator[list[Site]]:
        """The same server with clients of their own, each with one connection."""
        async with AsyncExitStack() as stack:
            clients = [httpx.AsyncClient(timeout=PATIENCE, verify=False) for _ in range(size)]
            for client in clients:
                await stack.enter_async_context(client)
            yield [Site(self.address, self.wire, client, self._stack) for client in clients]

    def headers(self, query: Any, params: Any = ..., /, **more: str | None) -> dict[str, str]:
        found = {
            "X-RivetKit-Query": query if isinstance(query, str) else json.dumps(query),
            "X-RivetKit-Encoding": self.wire.name,
            "Content-Type": self.wire.content_type,
        }
        if params is not ...:
            found["X-RivetKit-Conn-Params"] = _params(params)
        for name, value in more.items():
            header = "X-RivetKit-" + name.title().replace("_", "-")
            found.pop(header, None)
            if value is not None:
                found[header] = value
        return found | self.forged

    async def post(
        self, path: str, headers: Mapping[str, str], body: Any = b"", method: str = "POST"
    ) -> Answer:
        url = f"http://{self.address}{path}"
        response = await self.http.request(method, url, headers=dict(headers), content=body)
        try:
            decoded = self.wire.loads(response.content)
        except Exception:
            decoded = None
        return Answer(response.status_code, response.headers, response.content, decoded)

    async def call(
        self,
        query: Any,
        action: str,
        /,
        *args: Any,
        params: Any = ...,
        mount: str = "/registry",
        **headers: str | None,
    ) -> Answer:
        """`POST /actors/actions/{action}`."""
        body = self.wire.dumps({"a": list(args)})
        path = f"{mount}/actors/actions/{quote(action, safe='/')}"
        return await self.post(path, self.headers(query, params, **headers), body)

    async def resolve(
        self, query: Any, /, *, params: Any = ..., mount: str = "/registry", **headers: str | None
    ) -> Answer:
        """`POST /actors/resolve`."""
        body = self.wire.dumps({})
        path = f"{mount}/actors/resolve"
        return await self.post(path, self.headers(query, params, **headers), body)

    def protocols(
        self, query: Any, params: Any = ..., encoding: str | None = None
    ) -> list[Subprotocol]:
        text = query if isinstance(query, str) else json.dumps(query)
        offered = [f"query.{quote(text, safe='')}", f"encoding.{encoding or self.wire.name}"]
        if params is not ...:
            offered.append(f"conn_params.{quote(_params(params), safe='')}")
        return [Subprotocol(item) for item in (*offered, "rivetkit")]

    @asynccontextmanager
    async def offering(
        self,
        protocols: list[Subprotocol] | None,
        mount: str = "/registry",
        *,
        query: str = "",
        **options: Any,
    ) -> AsyncIterator[Socket]:
        """A WebSocket with these subprotocols; nothing of it has been read."""
        url = f"ws://{self.address}{mount}/actors/connect/websocket{query}"
        async with open_socket(
            url,
            subprotocols=protocols,
            ping_interval=None,
            close_timeout=1,
            max_size=None,
            proxy=None,
            additional_headers=self.forged,
            **options,
        ) as connection:
            yield Socket(connection, self.wire)

    @asynccontextmanager
    async def connecting(
        self, query: Any, params: Any = ..., **options: Any
    ) -> AsyncIterator[Socket]:
        """A WebSocket that has asked for an actor; nothing of it has been read."""
        async with self.offering(self.protocols(query, params), **options) as found:
            yield found

    @asynccontextmanager
    async def connect(self, query: Any, params: Any = ..., **options: Any) -> AsyncIterator[Socket]:
        """A WebSocket that has received its Init."""
        async with self.connecting(query, params, **options) as found:
            await found.init()
            yield found


class RawText(str):
    """Parameters that are sent as they stand."""


def _params(params: Any) -> str:
    return params if isinstance(params, RawText) else json.dumps(params)


Serve = Callable[..., Awaitable[Site]]


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that other parties bring about."""
    async with asyncio.timeout(PATIENCE):
        for pause in range(10_000):
            if await condition():
                return
            await asyncio.sleep(min(pause, 10) / 1000)
