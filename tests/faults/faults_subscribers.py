"""Clients of many kinds that listen to one actor, and what each of them may not miss."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

import httpx
from faults_server import ROOT
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from rivet_ray import Client

TIMEOUT = 20.0
EVENTS = ("kept", "passing")


class Told(NamedTuple):
    """An event that the actor was asked for; the marks of a run grow."""

    mark: int
    event: str
    acknowledged: bool
    """Its call was answered. Otherwise nobody knows whether there is such an event."""


class Subscriber(ABC):
    """One client: `seen` are the marks that came, and None for each gap that it was told of."""

    def __init__(self, name: str, url: str, key: str, events: Iterable[str] = EVENTS) -> None:
        self.name = name
        self.url = url
        self.key = key
        self.events = frozenset(events)
        self.seen: list[int | None] = []

    @abstractmethod
    async def run(self) -> None:
        """Listen until cancelled."""

    @property
    def last(self) -> int:
        return max((mark for mark in self.seen if mark is not None), default=0)

    @property
    def gaps(self) -> int:
        """How often it was told that it has missed something."""
        return self.seen.count(None)

    def violations(self, told: list[Told], first: int) -> list[str]:
        """What is wrong with what it saw of the events from the mark `first` on."""
        marks = [mark for mark in self.seen if mark is not None]
        found = [f"{self.name}: {at} came after {before}" for before, at in _pairs(marks)]
        known = {event.mark: event for event in told}
        found += [f"{self.name}: {mark} was never sent" for mark in marks if mark not in known]
        found += [
            f"{self.name}: {mark} is not what it wants"
            for mark in marks
            if mark in known and known[mark].event not in self.events
        ]
        said = _gaps(self.seen)
        for event in told:
            if event.mark < first or not event.acknowledged or event.event not in self.events:
                continue
            if event.mark not in marks and not any(low < event.mark < high for low, high in said):
                found.append(f"{self.name}: {event.event} {event.mark} is missing, and unsaid")
        return found


def _pairs(marks: list[int]) -> list[tuple[int, int]]:
    """Neighbours that are in the wrong order, or the same."""
    return [(before, mark) for before, mark in pairwise(marks) if mark <= before]


def _gaps(seen: list[int | None]) -> list[tuple[float, float]]:
    """The marks around each gap that was told."""
    found: list[tuple[float, float]] = []
    low, open_ = 0.0, False
    for mark in seen:
        if mark is None:
            open_ = True
            continue
        if open_:
            found.append((low, mark))
        low, open_ = mark, False
    return [*found, (low, float("inf"))] if open_ else found


class OfClient(Subscriber):
    """rivet_ray's client."""

    def __init__(
        self, url: str, key: str, transport: Any, encoding: str, events: Iterable[str] = EVENTS
    ) -> None:
        wanted = "+".join(events)
        super().__init__(f"{transport} {encoding} {wanted}", url, key, events)
        self._transport = transport
        self._encoding = encoding

    async def run(self) -> None:
        async with Client(
            self.url, encoding=self._encoding, transport=self._transport, timeout=TIMEOUT
        ) as client:
            connection = client.actor("teller", self.key).connect()
            for event in self.events:
                connection.on(event, self.seen.append)
            connection.on("resync", lambda: self.seen.append(None))
            async with connection:
                await asyncio.Event().wait()


class OfPage(Subscriber):
    """The client of `examples/connection.js`, in Node."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__("connection.js", url, key)

    @staticmethod
    def possible() -> bool:
        return shutil.which("node") is not None

    async def run(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *("node", "--experimental-websocket", "--no-warnings", "faults_subscriber.mjs"),
            *(str(ROOT / "examples/connection.js"), self.url, self.key, *self.events),
            cwd=ROOT / "tests/faults",
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                self.seen.append(json.loads(line))
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Raw(Subscriber):
    """Speaks the wire by hand, opens another connection after each cut, and believes no number.

    Asked to count, it is only told the numbers, which it keeps beside the marks.
    """

    def __init__(self, name: str, url: str, key: str) -> None:
        super().__init__(name, url, key)
        self.numbers: list[tuple[int, int]] = []
        """Each number, and the mark that came with it."""

    @abstractmethod
    async def listen(self) -> None:
        """One connection, until it ends."""

    async def run(self) -> None:
        while True:
            with suppress(OSError, WebSocketException, httpx.HTTPError):
                await self.listen()
            self.seen.append(None)
            await asyncio.sleep(0.05)

    def take(self, text: str | bytes) -> Any:
        """A message of the server: its body."""
        body = json.loads(text)["b"]
        if "ev" in body:
            [mark] = body["ev"]["a"]
            self.seen.append(mark)
            if "s" in body["ev"]:
                self.numbers.append((body["ev"]["s"], mark))
        return body

    @property
    def query(self) -> str:
        return json.dumps({"getOrCreateForKey": {"name": "teller", "key": [self.key]}})


class RawSocket(Raw):
    def __init__(self, url: str, key: str, *, counted: bool) -> None:
        super().__init__("raw socket" + " counted" * counted, url, key)
        self._counted = counted

    async def listen(self) -> None:
        query = re.sub(r"\W", lambda found: f"%{ord(found[0]):02X}", self.query)
        offered: list[Any] = [f"query.{query}", "encoding.json", "rivetkit"]
        if self._counted:
            offered.insert(0, "conn_seen.0")
        url = f"ws{self.url.removeprefix('http')}/registry/actors/connect/websocket"
        async with connect(url, subprotocols=offered, compression=None) as socket:
            for event in self.events:
                await socket.send(json.dumps({"b": {"sr": {"e": event, "s": True}}}))
            async for text in socket:
                self.take(text)


class RawStream(Raw):
    def __init__(self, url: str, key: str) -> None:
        super().__init__("raw stream", url, key)

    async def listen(self) -> None:
        headers = {"X-RivetKit-Encoding": "json", "X-RivetKit-Query": self.query}
        base = f"{self.url}/registry/actors"
        async with (
            httpx.AsyncClient(timeout=TIMEOUT, headers=headers) as client,
            client.stream("GET", f"{base}/connect/sse") as stream,
        ):
            async for line in stream.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                text = line.removeprefix("data: ")
                if '"b"' not in text:
                    return  # the word of a close
                init = self.take(text).get("i")
                if init is not None:
                    proof = {
                        "X-RivetKit-Actor": init["ai"],
                        "X-RivetKit-Conn": init["ci"],
                        "X-RivetKit-Conn-Token": init["ct"],
                    }
                    for event in self.events:
                        body = {"b": {"sr": {"e": event, "s": True}}}
                        await client.post(f"{base}/message", json=body, headers=proof)


def audience(url: str, key: str) -> list[Subscriber]:
    """One of each kind."""
    found: list[Subscriber] = [
        OfClient(url, key, "websocket", "json"),
        OfClient(url, key, "websocket", "cbor"),
        OfClient(url, key, "sse", "json"),
        OfClient(url, key, "websocket", "json", ["kept"]),
        OfClient(url, key, "sse", "cbor", ["kept"]),
        RawSocket(url, key, counted=False),
        RawSocket(url, key, counted=True),
        RawStream(url, key),
    ]
    return [*found, OfPage(url, key)] if OfPage.possible() else found
