"""What the code of an actor can reach: the other end of `Actor`'s attributes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from rivet_ray.errors import NoConnection, RivetError
from rivet_ray.protocol import values
from rivet_ray.protocol.port import Deliver
from rivet_ray.runtime.turn import current_turn

if TYPE_CHECKING:
    from rivet_ray.runtime.connections import Connection
    from rivet_ray.runtime.instance import Instance


class Context:
    """One instance's; see `rivet_ray.definition.ActorContext`."""

    __slots__ = ("_instance", "input")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
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
        message = Deliver(instance.record.id, event, encode_event(event, arguments))

        def release(error: RivetError | None) -> None:
            # C5: only now, that the state behind it is durable.
            if error is None:
                for session in instance.connections.subscribed_sessions(event):
                    session.deliver(message)

        instance.hold(release)

    async def save(self) -> None:
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def release(error: RivetError | None) -> None:
            if durable.done():
                return
            if error is None:
                durable.set_result(None)
            else:
                durable.set_exception(error)

        self._instance.hold(release)
        await durable


def encode_event(name: str, arguments: tuple[Any, ...]) -> bytes:
    """An event's arguments, encoded now so that they cannot change any more."""
    try:
        return values.encode(arguments)
    except (TypeError, OverflowError, RecursionError, ValueError) as error:
        raise TypeError(f"event {name!r} cannot be sent: {error}") from error
