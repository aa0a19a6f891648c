"""Events to clients: encoded once for each encoding, not for each client."""

from __future__ import annotations

import logging
from collections.abc import Callable

from rivet_ray.gateway.budgets import Budgets
from rivet_ray.gateway.statistics import GatewayStatistics
from rivet_ray.protocol import v0
from rivet_ray.protocol.encodings import EncodeFault, Encoding
from rivet_ray.protocol.port import Deliver

log = logging.getLogger("rivet_ray.gateway")

Shape = Callable[[Encoding, bytes], bytes]
"""What a transport makes of an encoded message before it is sent."""
MOST_LOGGED = 1_000
"""Events of which it is logged, once each, that they cannot be sent."""


class EventFrames:
    """The frames of the event that is being delivered.

    A host's one `Deliver` message is handed to every subscribed client in
    turn, so remembering the last message is enough.
    """

    __slots__ = ("_budgets", "_frames", "_logged", "_message", "_shaped", "_statistics")

    def __init__(self, budgets: Budgets, statistics: GatewayStatistics) -> None:
        self._budgets = budgets
        self._statistics = statistics
        self._message: Deliver | None = None
        self._frames: dict[tuple[Encoding, bool], bytes | EncodeFault] = {}
        self._shaped: dict[tuple[Encoding, bool, Shape], bytes] = {}
        self._logged: set[str] = set()

    def frame(self, message: Deliver, encoding: Encoding, counted: bool) -> bytes:
        """The wire form of an event; with its number for clients that count them.

        Raises EncodeFault for one that has none.
        """
        if message is not self._message:
            self._message = message
            self._frames = {}
            self._shaped = {}
        place = (encoding, counted)
        frame = self._frames.get(place)
        if frame is None:
            number = message.sequence if counted else None
            event = v0.EventMessage(message.event, message.arguments, number)
            try:
                frame = self._budgets.shared(v0.encode_to_client(encoding, event))
            except EncodeFault as fault:
                frame = fault
            self._frames[place] = frame
        if isinstance(frame, EncodeFault):
            raise frame.with_traceback(None)
        return frame

    def shaped(self, message: Deliver, encoding: Encoding, shape: Shape, counted: bool) -> bytes:
        """The wire form of an event in the shape of a transport. Raises EncodeFault."""
        frame = self.frame(message, encoding, counted)
        place = (encoding, counted, shape)
        shaped = self._shaped.get(place)
        if shaped is None:
            shaped = self._shaped[place] = self._budgets.shared(shape(encoding, frame))
        return shaped

    def left_out(self, message: Deliver, fault: EncodeFault) -> None:
        """A client does not get an event that has no form in its encoding."""
        self._statistics.left_out_events += 1
        if message.event not in self._logged and len(self._logged) < MOST_LOGGED:
            self._logged.add(message.event)
            log.warning(
                "an event %r is not sent to clients of its encoding, nor will others like it: %s",
                message.event,
                fault,
            )
