"""What the code of an actor can reach: the other end of `Actor`'s attributes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rivet_ray.definition import Log, Schedule
from rivet_ray.definition.user_code import finish
from rivet_ray.errors import InternalError, NoConnection
from rivet_ray.repeated_lines import REPEATED, logger_of_strangers
from rivet_ray.runtime.deadline import within
from rivet_ray.runtime.turn import Turn, current_turn

if TYPE_CHECKING:
    from rivet_ray.runtime.connection import Connection
    from rivet_ray.runtime.instance import Instance

log = logger_of_strangers("rivet_ray.runtime")

CLOSE_TIMEOUT = 5.0
"""Seconds for the connections of an actor's clients to end when it leaves memory."""


class Context:
    """One instance's; see `rivet_ray.definition.ActorContext`."""

    __slots__ = ("_clients", "_instance", "_log", "input")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._log: Log | None = None
        self._clients: dict[type[Any], Any] | None = None
        self.input: Any = None

    @property
    def id(self) -> str:
        return self._instance.record.id

    @property
    def name(self) -> str:
        return self._instance.record.name

    @property
    def key(self) -> tuple[str, ...]:
        return self._instance.record.key

    @property
    def region(self) -> str:
        return self._instance.record.region or "unknown"

    @property
    def schedule(self) -> Schedule:
        return self._instance.schedule

    @property
    def driver(self) -> object:
        return self._instance.host.store

    # --- Connections --------------------------------------------------------

    @property
    def conns(self) -> list[Any]:
        turn = current_turn.get()
        if turn is not None and turn.instance is self._instance:
            # The caller of a plain action is among the connections while it runs.
            self._instance.connections.of_turn(turn)
        return self._instance.connections.all()

    def current_conn(self) -> Connection:
        turn = current_turn.get()
        if turn is not None and turn.instance is self._instance:
            connection = self._instance.connections.of_turn(turn)
            if connection is not None:
                return connection
        raise NoConnection(
            "self.conn exists only while a connection's call or hook runs; "
            "pass the connection on to code that runs later."
        )

    def broadcast(self, event: str, arguments: tuple[Any, ...]) -> None:
        instance = self._instance
        encoded = instance.definition.encode_event(event, arguments)
        instance.host.home.do(instance.events.broadcast, event, encoded)

    # --- Saving, and leaving memory -------------------------------------------

    async def save(self) -> None:
        self._instance.host.home.require("self.save()")
        await self._instance.durable()

    def sleep(self) -> None:
        self._instance.host.home.do(self._instance.idleness.sleep_soon)

    def destroy(self) -> None:
        # It spares the task that asks for it, which is known on the loop alone.
        self._instance.host.home.require("self.destroy()")
        self._instance.leaving.destroy()

    @contextmanager
    def keep_awake(self) -> Generator[None]:
        home, keep_awake = self._instance.host.home, self._instance.idleness.keep_awake
        home.do(keep_awake, True)
        try:
            yield
        finally:
            home.do(keep_awake, False)

    def wait_until(self, work: Awaitable[Any]) -> None:
        async def run() -> None:
            # Nothing waits for it: what it calls does not come back to who started it.
            caused_by = current_turn.get()
            turn = Turn(self._instance)
            if caused_by is not None and caused_by.instance is self._instance:
                turn.connection = caused_by.connection
                turn.schedule_id = caused_by.schedule_id
            current_turn.set(turn)
            try:
                await finish(self._instance, work, work)
            except Exception:
                log.exception("%r: work given to wait_until failed", self._instance, extra=REPEATED)
            finally:
                self._instance.touch()

        def begin() -> None:
            task = self._instance.own(run())
            if asyncio.iscoroutine(work):
                # Cancelled before its first step it was never begun, and Python warns of such.
                coroutine: Coroutine[Any, Any, Any] = work
                task.add_done_callback(lambda _: coroutine.close())

        self._instance.host.home.do(begin)

    # --- Others -----------------------------------------------------------------

    def client(self, registry: type[Any]) -> Any:
        self._instance.host.home.require("self.client()")
        connect = self._instance.host.connect
        if connect is None:
            raise InternalError("this host was made without a way to other actors")
        clients = self._clients = {} if self._clients is None else self._clients
        if registry not in clients:
            clients[registry] = connect(registry, self._instance)
        return clients[registry]

    def close_clients(self) -> None:
        """The actor leaves memory: its connections to others end."""
        clients, self._clients = self._clients, None
        for client in (clients or {}).values():
            self._instance.host.run(self._close(client))

    async def _close(self, client: Any) -> None:
        try:
            async with within(self._instance.clock, CLOSE_TIMEOUT, "the end of its connections"):
                await client.aclose()
        except Exception:
            log.exception("%r: a client of its is not closed", self._instance, extra=REPEATED)

    @property
    def log(self) -> Log:
        if self._log is None:
            from rivet_ray.runtime.logging import actor_log

            self._log = actor_log(self.name, self.key, self.id)
        turn = current_turn.get()
        if turn is None or turn.connection is None or turn.instance is not self._instance:
            return self._log
        from rivet_ray.runtime.logging import with_connection

        return with_connection(self._log, turn.connection.id)
