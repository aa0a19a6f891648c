"""How much a client holds at most, for a server that sends and a program that calls."""

from __future__ import annotations

from dataclasses import dataclass

from rivet_ray.budget import MIB, Budget


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Bounds in bytes, each for one connection. Values count as long as they are on the wire.

    What is longer than a bound all by itself passes if nothing else is held.
    """

    max_message_size: int = 64 * MIB
    """A message or an answer of the server. A longer answer over HTTP or an event stream fails
    its call with MessageTooLong. A longer message on a WebSocket, or one that is no answer,
    ends the socket: calls under way are unknown, and the connection comes back with `resync`.
    It bounds messages of raw sockets too, which are closed with 1009."""
    max_message_items: int = 5_000_000
    """How many values such a message may hold: numbers, texts and constants count one, the
    names of members four, and lists and objects eight. Each takes about 0.1 µs of the event
    loop and 10 to 40 bytes. An answer with more fails its call with MessageTooLong."""
    max_waiting_size: int = 16 * MIB
    """Calls that wait to be sent, as while the client reconnects, or for their answers; each
    counts 1 KiB more. Further ones fail with Overloaded, as not started, and count as
    `refused_calls` of the connection."""

    max_unread_size: int = 16 * MIB
    """Events that handlers have not finished, and for each stream those that are not read;
    each counts 512 bytes more, and 4 KiB if its handler is asynchronous. Handlers miss
    further ones, and `error` handlers get one SlowConsumer until half of them are done; a
    stream ends with SlowConsumer. `dropped_events` of the connection counts them."""


DEFAULTS = ClientSettings()


def admit(budget: Budget, size: int) -> bool:
    """Take `size` bytes if they fit, or if nothing else is held; return whether they were."""
    if budget.held:
        return budget.fits(size)
    budget.hold(size)
    return True
