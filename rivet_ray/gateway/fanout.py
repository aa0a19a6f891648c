"""Events to sockets: encoded once for each encoding, not for each socket."""

from __future__ import annotations

from rivet_ray.protocol import v0
from rivet_ray.protocol.encodings import Encoding
from rivet_ray.protocol.port import Deliver


class EventFrames:
    """The frames of the event that is being delivered.

    A host's one `Deliver` message is handed to every subscribed socket in
    turn, so remembering the last message is enough.
    """

    __slots__ = ("_frames", "_message")

    def __init__(self) -> None:
        self._message: Deliver | None = None
        self._frames: dict[str, bytes] = {}

    def frame(self, message: Deliver, encoding: Encoding) -> bytes:
        """The wire form of an event."""
        if message is not self._message:
            self._message = message
            self._frames = {}
        frame = self._frames.get(encoding.name)
        if frame is None:
            event = v0.EventMessage(message.event, message.arguments)
            frame = self._frames[encoding.name] = v0.encode_to_client(encoding, event)
        return frame
