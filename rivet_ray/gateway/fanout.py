"""Events to clients: encoded once for each encoding, not for each client."""

from __future__ import annotations

from collections.abc import Callable

from rivet_ray.gateway.budgets import Budgets
from rivet_ray.protocol import v0
from rivet_ray.protocol.encodings import Encoding
from rivet_ray.protocol.port import Deliver

Shape = Callable[[Encoding, bytes], bytes]
"""What a transport makes of an encoded message before it is sent."""


class EventFrames:
    """The frames of the event that is being delivered.

    A host's one `Deliver` message is handed to every subscribed client in
    turn, so remembering the last message is enough.
    """

    __slots__ = ("_budgets", "_frames", "_message", "_shaped")

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._message: Deliver | None = None
        self._frames: dict[tuple[str, bool], bytes] = {}
        self._shaped: dict[tuple[str, bool, Shape], bytes] = {}

    def frame(self, message: Deliver, encoding: Encoding, counted: bool) -> bytes:
        """The wire form of an event; with its number for clients that count them."""
        if message is not self._message:
            self._message = message
            self._frames = {}
            self._shaped = {}
        place = (encoding.name, counted)
        frame = self._frames.get(place)
        if frame is None:
            number = message.sequence if counted else None
            event = v0.EventMessage(message.event, message.arguments, number)
            encoded = v0.encode_to_client(encoding, event)
            frame = self._frames[place] = self._budgets.shared(encoded)
        return frame

    def shaped(self, message: Deliver, encoding: Encoding, shape: Shape, counted: bool) -> bytes:
        """The wire form of an event in the shape of a transport."""
        frame = self.frame(message, encoding, counted)
        place = (encoding.name, counted, shape)
        shaped = self._shaped.get(place)
        if shaped is None:
            shaped = self._shaped[place] = self._budgets.shared(shape(encoding, frame))
        return shaped
