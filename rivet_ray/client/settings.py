"""How much a client holds at most, for a server that sends and a program that calls."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from rivet_ray.budget import MIB, Budget


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Bounds in bytes, each for one connection, and one for the whole client. Values count
    as long as they are on the wire.

    What is longer than a bound all by itself passes if nothing else is held.
    """

    max_held_size: int = 256 * MIB
    """What all connections and calls of the client hold together: the calls that wait, the
    events that are not handled or read, and answers over HTTP while they are read. Beyond it
    each does what it does beyond its own bound; a call over HTTP fails with Overloaded, as
    not started, or as one that took effect if it is the answer that has no room. Events for
    the threads of a SyncClient's handlers may hold as much again."""

    max_message_size: int = 64 * MIB
    """A message or an answer of the server. A longer answer over HTTP or an event stream fails
    its call with MessageTooLong. A longer message on a WebSocket, or one that is no answer,
    ends the socket: calls under way are unknown, and the connection comes back with `resync`.
    It bounds messages of raw sockets too, which are closed with 1009, and the answer to a
    `fetch` that is not streamed, which fails with MessageTooLong."""
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


class Held:
    """What a whole client holds; its connections and calls count for it."""

    def __init__(self, settings: ClientSettings = DEFAULTS) -> None:
        self.budget = Budget("client", settings.max_held_size)
        self.handlers = Budget("client's handlers", settings.max_held_size)
        """For events in threads of handlers; guarded by `lock`."""
        self.lock = threading.Lock()


def admit(budget: Budget, size: int, own: int = 0) -> Budget | None:
    """Take `size` bytes; return the bound that is in the way instead, if there is one.

    None is in the way under which nothing is held but the `own` bytes of the one who asks.
    """
    exceeded = budget.exceeded(size, own)
    if exceeded is None:
        budget.hold(size)
    else:
        exceeded.refuse()
    return exceeded
