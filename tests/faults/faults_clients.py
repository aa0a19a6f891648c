"""Clients of three kinds, all told apart by nothing but how they carry their calls."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Protocol

import httpx

from rivet_ray import Client
from rivet_ray.errors import Outcome, RivetError

ACTOR = "journal"
TIMEOUT = 20.0
LOST = frozenset({"connection_closed", "request_failed", "connect", "broken"})
"""Codes of our own: no server answered."""
AGAIN = LOST | {"store_unavailable", "actor_stopped"}
"""Codes at which a call with a key is sent again: what became of it may be unknown."""


class Result(NamedTuple):
    """What one call was told."""

    told: str
    """`answer`, or the outcome of its error."""
    answer: Any = None
    code: str = ""


class Carrier(Protocol):
    """One way to one server."""

    async def call(self, key: str, action: str, *args: Any, once: str | None = None) -> Result:
        """`once` is the call's idempotency key. Never raises what the server answers."""
        ...

    async def aclose(self) -> None: ...


class Handles:
    """rivet_ray's client over HTTP."""

    def __init__(self, url: str) -> None:
        self._client = Client(url, timeout=TIMEOUT)

    async def call(self, key: str, action: str, *args: Any, once: str | None = None) -> Result:
        handle = self._client.actor(ACTOR, key).with_options(idempotency_key=once)
        return await _result(handle.call(action, *args))

    async def aclose(self) -> None:
        await self._client.aclose()


class Sockets:
    """rivet_ray's client over WebSocket, one connection for each actor."""

    def __init__(self, url: str) -> None:
        # The next server has another port, so there is nothing to come back to.
        self._client = Client(url, timeout=TIMEOUT, reconnect=False)
        self._connections: dict[str, Any] = {}

    async def call(self, key: str, action: str, *args: Any, once: str | None = None) -> Result:
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = self._client.actor(ACTOR, key).connect()
        actor = connection.actor.with_options(idempotency_key=once)
        result = await _result(actor.call(action, *args))
        # A connection that could not be opened says so to each later call too.
        if result.code in LOST or (result.code in AGAIN and result.told == "not_started"):
            if self._connections.get(key) is connection:
                del self._connections[key]
            await connection.dispose()
        return result

    async def aclose(self) -> None:
        await self._client.aclose()


async def _result(call: Any) -> Result:
    try:
        return Result("answer", await call)
    except RivetError as error:
        return Result((error.outcome or Outcome.UNKNOWN).value, None, error.code)


class Raw:
    """HTTP by hand, from the specification of the wire."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT)

    async def call(self, key: str, action: str, *args: Any, once: str | None = None) -> Result:
        headers = {
            "X-RivetKit-Encoding": "json",
            "X-RivetKit-Query": json.dumps({"getOrCreateForKey": {"name": ACTOR, "key": [key]}}),
        }
        if once is not None:
            headers["Idempotency-Key"] = once
        try:
            answer = await self._http.post(
                f"/registry/actors/actions/{action}", json={"a": args}, headers=headers
            )
        except httpx.ConnectError:
            return Result("not_started", None, "connect")
        except httpx.HTTPError:
            return Result("unknown", None, "broken")
        if answer.status_code == 200:
            return Result("answer", answer.json().get("o"))
        # C8: an error that does not say means unknown.
        told = answer.headers.get("X-RivetKit-Outcome", "unknown")
        return Result(told, None, answer.json().get("c", ""))

    async def aclose(self) -> None:
        await self._http.aclose()


KINDS: tuple[type[Handles] | type[Sockets] | type[Raw], ...] = (Handles, Sockets, Raw)
