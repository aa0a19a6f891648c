"""A caller's end of raw requests and sockets: bytes to an actor's own code and back.

The other end is `rivet_ray.runtime.exchange`. Windows bound what is under way in
each direction; see `rivet_ray.runtime.flow`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rivet_ray.errors import ActorStopped, Outcome, RivetError
from rivet_ray.protocol.port import Failed, ToHost
from rivet_ray.protocol.raw import RawArrived, RawData, RawEnd, RawOpen, RawStart, RawTaken
from rivet_ray.runtime.flow import Arrivals, Inflow, Lane, Outflow, pieces

FromHost = RawStart | RawData | RawTaken | RawArrived | RawEnd


class Tunnel:
    """One request or socket. Whoever opened it ends it with `leave`, in any case."""

    __slots__ = ("_inflow", "_outflow", "_start", "_tunnels", "closing", "failure", "opening")

    def __init__(self, tunnels: Tunnels, opening: RawOpen) -> None:
        self.opening = opening
        self.closing: RawEnd | None = None
        """How the actor has closed the socket, or broken the response off."""
        self.failure: RivetError | None = None
        """Why it failed, when `closing` is not what ended it."""
        self._tunnels = tunnels
        self._start: asyncio.Future[RawStart | None] = asyncio.get_running_loop().create_future()
        self._inflow = Inflow(self._grant)
        # The host grants the first window when the actor can read.
        self._outflow = Outflow(0)

    @property
    def is_websocket(self) -> bool:
        return self.opening.request.protocols is not None

    def _grant(self, size: int) -> None:
        self._tunnels.send(RawTaken(self.opening.call, size))

    # --- For whoever opened it ------------------------------------------------

    async def started(self) -> RawStart | None:
        """The head of the answer; None after `leave`, or for a socket that is closed instead.

        Raises what kept the actor from answering.
        """
        start = await asyncio.shield(self._start)
        if start is None and self.failure is not None:
            raise self.failure
        return start

    async def take(self) -> RawData | None:
        """The next piece of the answer; None at its end. See `closing` and `failure`."""
        return await self._inflow.take()

    async def room(self) -> bool:
        """Wait until the actor reads; False when nobody does any more."""
        return await self._outflow.room()

    async def give(self, data: bytes, *, more: bool = False, text: bool = False) -> bool:
        """A piece of the body, or a message; waits while the actor does not read.

        Without `more` a body ends. False when nobody reads it any more. For one
        task at a time.
        """
        cut = pieces(data)
        for at, part in enumerate(cut, 1):
            if not await self._outflow.room():
                return False
            piece = RawData(self.opening.call, part, more or at < len(cut), text)
            self._outflow.given(piece)
            self._tunnels.lane.put(piece)
        return True

    def leave(self, code: int = 1006, reason: str = "") -> None:
        """The client is gone; harmless after the end."""
        if self._tunnels.forget(self):
            self._tunnels.lane.put(RawEnd(self.opening.call, code, reason))
            self._end()

    # --- From the host --------------------------------------------------------

    def received(self, message: FromHost | Failed) -> None:
        match message:
            case RawStart():
                if not self._start.done():
                    self._start.set_result(message)
            case RawData():
                self._inflow.put(message)
                if not (message.more or self.is_websocket):
                    self._finished()
            case RawTaken():
                self._outflow.grant(message.size)
            case RawEnd():
                self.closing = message
                self._finished()
            case Failed():
                self.failure = message.failure.exception()
                self._finished()
            case RawArrived():
                pass

    def _finished(self) -> None:
        self._tunnels.forget(self)
        self._end()

    def _end(self) -> None:
        self._inflow.end()
        self._outflow.end()
        if not self._start.done():
            self._start.set_result(None)


class Tunnels:
    """Those of one caller's session."""

    def __init__(self, send: Callable[[ToHost], None], ended: Callable[[int], None]) -> None:
        """`ended` hears of each that has ended, by its number."""
        self.send = send
        self._ended = ended
        self._open: dict[int, Tunnel] = {}
        self.begin_session()

    def begin_session(self) -> None:
        """What was under way in the last session is not any more."""
        self.lane: Lane[ToHost] = Lane(self.send)
        self._arrivals = Arrivals(lambda size: self.send(RawArrived(size)))

    def add(self, opening: RawOpen) -> Tunnel:
        tunnel = self._open[opening.call] = Tunnel(self, opening)
        return tunnel

    def forget(self, tunnel: Tunnel) -> bool:
        known = self._open.pop(tunnel.opening.call, None) is not None
        if known:
            self._ended(tunnel.opening.call)
        return known

    def received(self, message: FromHost | Failed) -> bool:
        """Whether the message was for a tunnel."""
        if isinstance(message, RawArrived):
            self.lane.arrived(message.size)
            return True
        if isinstance(message, RawData):
            self._arrivals.count(message.cost)
        tunnel = self._open.get(message.call)
        if tunnel is None:
            return not isinstance(message, Failed)
        tunnel.received(message)
        return True

    def close(self) -> None:
        """The session has ended for good."""
        for tunnel in tuple(self._open.values()):
            tunnel.failure = ActorStopped(
                "The session with the host ended.", outcome=Outcome.UNKNOWN
            )
            tunnel._finished()
