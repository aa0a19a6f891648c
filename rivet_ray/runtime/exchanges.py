"""The raw requests and sockets of one instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rivet_ray.errors import (
    FetchHandlerNotDefined,
    InternalError,
    Outcome,
    RivetError,
    WebSocketHandlerNotDefined,
)
from rivet_ray.protocol.port import Failed
from rivet_ray.protocol.raw import RawOpen
from rivet_ray.runtime.exchange import Exchange
from rivet_ray.runtime.failures import failure_of

if TYPE_CHECKING:
    from rivet_ray.runtime.instance import Instance
    from rivet_ray.runtime.session import Session


class Exchanges:
    """Those of one instance."""

    __slots__ = ("_instance", "_running")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._running: dict[Exchange, None] = {}

    @property
    def any(self) -> bool:
        """Whether one runs."""
        return bool(self._running)

    def begin(self, session: Session, message: RawOpen) -> None:
        """Serve what a gateway has opened."""
        instance, handle = self._instance, self._instance.host.handle
        try:
            exchange = Exchange(instance, session, message)
            if exchange.is_websocket and "on_websocket" not in instance.definition.hooks:
                raise WebSocketHandlerNotDefined(f"{instance.record.name} has no on_websocket.")
            if not exchange.is_websocket and "on_fetch" not in instance.definition.hooks:
                raise FetchHandlerNotDefined(f"{instance.record.name} has no on_fetch.")
            if handle is None:
                raise InternalError("this host was made without a way to serve raw requests")
        except RivetError as error:
            failed = Failed(message.call, failure_of(error, Outcome.NOT_STARTED, repr(instance)))
            instance.hold(lambda _: session.tell_raw(failed))
            return
        session.own_raw(message.call, exchange)
        self._running[exchange] = None
        exchange.run(handle, more=message.more).add_done_callback(
            lambda _: self._running.pop(exchange, None)
        )

    def stop(self) -> None:
        """The actor leaves memory in good order."""
        for exchange in tuple(self._running):
            exchange.stop()
