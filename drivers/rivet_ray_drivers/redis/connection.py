"""The way to the server: batches of commands, each one round trip.

redis-py's own retries are off everywhere. A commit carries its sequence, so the
runtime may repeat it; whatever else is repeated behind our back, such as a
claim, would only blur what an error means. All of redis-py's loose types end here.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import hiredis
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from rivet_ray.errors import StoreError, StoreUnavailable
from rivet_ray_drivers.redis.failures import NodeOfCluster, failure_of, silent
from rivet_ray_drivers.redis.location import Address, Location
from rivet_ray_drivers.redis.scripts import ALL, Script

CONNECT_TIMEOUT = 3.0
REPLY_TIMEOUT = 5.0
BATCH_TIMEOUT = 10.0
"""Seconds for a batch altogether, with its wait for a connection."""
CONNECTIONS = 16
"""To each server."""
BATCH_LIMIT = 10_000
"""How many batches may be under way or waiting; one more is refused."""

T = TypeVar("T")

Argument = bytes | str | int
Reply = object
"""None, an int, bytes, or a list of these."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command to Redis; with `script`, a call of that script."""

    arguments: Sequence[Argument]
    script: Script | None = None

    def packed(self, source: bool = False) -> tuple[Argument, ...]:
        if self.script is None:
            return tuple(self.arguments)
        if source:
            return (b"EVAL", self.script.source, *self.arguments)
        return (b"EVALSHA", self.script.sha, *self.arguments)


def run(script: Script, keys: Sequence[bytes], *arguments: Argument) -> Command:
    return Command((len(keys), *keys, *arguments), script)


@dataclass(frozen=True, slots=True)
class Statistics:
    """`under_way` is of now, the others count since the store was opened."""

    under_way: int
    round_trips: int
    refused: int


class Node:
    """A bounded pool of connections to one server, on one event loop."""

    def __init__(self, place: Location) -> None:
        self.place = place
        self.under_way = 0
        self._pool: Any = _pool(place)

    async def exchange(
        self, commands: Sequence[tuple[Argument, ...]], timeout: float | None = None
    ) -> list[Reply]:
        """The replies, among them the errors that are the answer to one command.

        Raises StoreUnavailable when the server gives none within `timeout` seconds,
        of which there are BATCH_TIMEOUT where nothing is said.
        """
        packed = _pack(commands)
        seconds = BATCH_TIMEOUT if timeout is None else timeout
        self.under_way += 1
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(packed, len(commands))
        except TimeoutError as error:
            raise silent(self.place, f"nothing for {seconds:g} s") from error
        except (exceptions.RedisError, OSError) as error:
            raise failure_of(error, self.place) from error
        finally:
            self.under_way -= 1

    async def _exchange(self, packed: bytes, count: int) -> list[Reply]:
        """Below redis-py's client, whose pipeline takes three times the processor's time."""
        connection = await self._pool.get_connection()
        try:
            await connection.send_packed_command(packed)
            # What follows the first reply is right behind it; the timeout holds for all.
            return [
                await _reply(connection, None if number == 0 else math.inf)
                for number in range(count)
            ]
        finally:  # a connection that failed or was cancelled has closed itself
            await asyncio.shield(self._pool.release(connection))

    async def disconnect(self) -> None:
        with contextlib.suppress(exceptions.RedisError, OSError):  # the gone need no goodbye
            await self._pool.disconnect()


class RedisConnection:
    """The way to one server: batches of commands, no more at once than it may have."""

    def __init__(self, place: Location) -> None:
        self.place = place
        self._node = Node(place)
        self._under_way = 0
        self._round_trips = 0
        self._refused = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    def statistics(self) -> Statistics:
        return Statistics(self._under_way, self._round_trips, self._refused)

    async def open(self) -> None:
        """See that the server answers and is one that we can use; load the scripts.

        Raises NodeOfCluster where it belongs to one.
        """
        with self._admitted():
            ping, info, *_ = await self._exchange(
                self._node,
                [(b"PING",), (b"INFO", b"server"), *((b"SCRIPT", b"LOAD", s.source) for s in ALL)],
            )
        if isinstance(ping, Exception):
            raise failure_of(ping, self._node.place) from ping
        if isinstance(info, bytes) and b"redis_mode:cluster" in info:
            raise NodeOfCluster(self.place)

    async def do(self, command: Command) -> Reply:
        (reply,) = await self.batch([command])
        return reply

    async def batch(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies to all, in order, or the first failure among them."""
        replies = await self.answers(commands)
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        return replies

    async def answers(self, commands: Sequence[Command]) -> list[Reply | StoreError]:
        """The reply to each, or its failure; raises what a server has refused to all.

        The commands are sent together, without a transaction: each is atomic
        for itself, and those behind one that fails are carried out too.
        """
        with self._admitted():
            replies = await self._replies(commands)
        answers = [
            failure_of(reply, self._node.place) if isinstance(reply, Exception) else reply
            for reply in replies
        ]
        if isinstance(answers[0], StoreUnavailable) and all(
            isinstance(answer, StoreUnavailable) for answer in answers
        ):
            raise answers[0]
        return answers

    @property
    def servers(self) -> list[Node]:
        """Those that keep our data, as far as is known."""
        return [self._node]

    async def answers_of(self, node: Node, commands: Sequence[Command]) -> list[Reply | StoreError]:
        """The replies of one of `servers` to commands without a key. Raises StoreUnavailable."""
        with self._admitted():
            replies = await self._exchange(node, [command.packed() for command in commands])
        return [
            failure_of(reply, node.place) if isinstance(reply, Exception) else reply
            for reply in replies
        ]

    async def of_each(
        self, ask: Callable[[Node], Awaitable[T]]
    ) -> list[tuple[Location, T | StoreError]]:
        """What each of `servers` tells, or why it does not. Raises StoreError where none does."""

        async def told(node: Node) -> tuple[Location, T | StoreError]:
            try:
                return node.place, await ask(node)
            except StoreError as error:
                return node.place, error

        answers = await asyncio.gather(*map(told, self.servers))
        failures = [answer for _, answer in answers if isinstance(answer, StoreError)]
        if len(failures) == len(answers):
            raise failures[0]
        return answers

    def server_of(self, key: bytes) -> Address | None:
        """The server that has this key, as far as is known."""
        return self.place.host, self.place.port

    async def _replies(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies, among them the errors that are the answer to one command."""
        node = self._node
        replies = await self._exchange(node, [command.packed() for command in commands])
        missing = [
            number
            for number, reply in enumerate(replies)
            if isinstance(reply, exceptions.NoScriptError)
        ]
        if missing:  # a new or flushed server; these did nothing yet
            again = await self._exchange(
                node, [commands[number].packed(source=True) for number in missing]
            )
            for number, reply in zip(missing, again, strict=True):
                replies[number] = reply
        return replies

    async def _exchange(
        self, node: Node, commands: Sequence[tuple[Argument, ...]], timeout: float | None = None
    ) -> list[Reply]:
        self._round_trips += 1
        return await node.exchange(commands, timeout)

    @contextlib.contextmanager
    def _admitted(self) -> Generator[None, None, None]:
        """One more batch under way. Raises StoreUnavailable when closed or overloaded."""
        if self._closing:
            raise StoreUnavailable(f"The store on Redis at {self.place} is closed.")
        if self._under_way >= BATCH_LIMIT:
            self._refused += 1
            raise StoreUnavailable(f"The store on Redis at {self.place} is overloaded.")
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def close(self) -> None:
        """Take no more, wait for what is under way, disconnect; may be repeated."""
        self._closing = True
        await self._idle.wait()
        await self._disconnect()

    async def _disconnect(self) -> None:
        await self._node.disconnect()


async def _reply(connection: Any, timeout: float | None) -> Reply:
    try:
        return await cast("Awaitable[Reply]", connection.read_response(timeout=timeout))
    except exceptions.ResponseError as error:
        return error


def _pack(commands: Sequence[tuple[Argument, ...]]) -> bytes:
    pack = cast("Callable[[tuple[Argument, ...]], bytes]", cast("Any", hiredis).pack_command)
    try:
        return b"".join(map(pack, commands))
    except TypeError as error:
        raise StoreError(f"What was given to Redis cannot be stored: {error}.") from error


def _pool(place: Location) -> BlockingConnectionPool:
    options: dict[str, Any] = {
        "host": place.host,
        "port": place.port,
        "db": place.database,
        "username": place.username,
        "password": place.password,
        "protocol": 2,
        "socket_timeout": REPLY_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "client_name": "rivet-ray",
    }
    if place.tls:
        options |= place.tls_files
    return BlockingConnectionPool(
        max_connections=CONNECTIONS,
        timeout=REPLY_TIMEOUT,
        connection_class=SSLConnection if place.tls else Connection,
        **options,
    )
