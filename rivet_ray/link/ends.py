"""What a connection is to either of its owners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from rivet_ray.link.faults import LinkError
from rivet_ray.link.frames import Beat, Unreadable
from rivet_ray.protocol.caller import Message

InT = TypeVar("InT", bound=Message)


class End(Protocol[InT]):
    """Who a connection belongs to. Nothing here may block or raise."""

    def decode(self, payload: bytes) -> Sequence[InT | Beat | Unreadable]:
        """A batch. Raises LinkGarbled if it is not even that."""
        ...

    def opened(self) -> None:
        """Both ends are proven. Called once, or never."""
        ...

    def received(self, message: InT) -> None:
        """A message; only between `opened` and `ended`."""
        ...

    def broke(self, message: InT) -> None:
        """`received` raised, against its promise; it is logged already."""
        ...

    def unreadable(self, item: Unreadable) -> bool:
        """Fail what was meant alone; return False if nobody knows what that is."""
        ...

    def unsendable(self, message: Message, fault: Exception) -> Sequence[Message]:
        """Fail a message that does not go out; `fault` is a TooLong if it is too long.

        Return what goes out in its place.
        """
        ...

    def ended(self, reason: LinkError | None) -> None:
        """The connection is gone: why, or None where either end closed it. Called once."""
        ...
