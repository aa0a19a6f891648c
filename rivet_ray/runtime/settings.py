"""Limits of a host."""

from __future__ import annotations

from dataclasses import dataclass, field

from rivet_ray import ids
from rivet_ray.budget import KIB, MIB
from rivet_ray.runtime.keys import KeyLimits


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Limits of a host. Times are seconds."""

    namespace: str = ids.DEFAULT_NAMESPACE
    action_timeout: float = 60.0
    """The deadline of actions that do not set their own."""
    hook_timeout: float = 5.0
    """The deadline of each connection hook."""
    start_timeout: float = 60.0
    """How long a call waits for its actor to start."""
    stop_grace: float = 15.0
    """How long turns may run on when their actor leaves memory, and then `on_stop`."""
    close_timeout: float = 15.0
    """How long the host takes to close at the most: half of it for turns, a quarter for
    `on_stop`, or `stop_grace` where that is less, and the rest for saving."""
    save_grace: float = 5.0
    """How long beyond its action's deadline an answer may wait for its save to be confirmed.

    A call with a deadline of its own gets no more than a quarter of a second."""
    slow_save: float = 3.0
    """How long a commit may wait for the store until `/health` says 503."""
    blocked_after: float | None = 1.0
    """How long code may hold the event loop of a host process until the log names it."""
    sleep_after: float = 30.0
    """Idleness after which an actor leaves memory, where its class does not say."""
    failed_entries: int = 100
    """Scheduled actions of an actor that failed in all their attempts and are kept to be
    seen; beyond, the oldest are forgotten, counted and logged."""
    large_field: int = 262_144
    """Bytes of a state's field above which it is named in the log, once."""
    replay_events: int = 256
    """The last events of an actor that are kept for connections that come back."""
    replay_size: int = 262_144
    """Bytes of their arguments; the oldest go first."""
    alone: str | None = None
    """The id of the one actor that this host is for; None for any number."""
    max_subscriptions_size: int = 256 * KIB
    """Bytes of the names of events that one connection subscribes to, and some for each.
    Beyond it the connection is closed with `too_many_subscriptions`."""
    keys: KeyLimits = field(default_factory=KeyLimits)
    """How much of their idempotency keys actors remember."""
    max_held_size: int = 512 * MIB
    """Bytes that are held for the callers of all actors, beside the states of these."""
    max_held_size_per_actor: int = 64 * MIB
    """Bytes of the calls that wait for one actor to start, wait for their turn or run."""
    max_queued_size: int = 64 * MIB
    """Bytes of events and answers that wait for a gateway that is slow. Beyond it an answer
    becomes an error, and connections that miss an event are closed as `slow_consumer`."""
    max_backlog_size: int = 4 * MIB
    """Bytes of events for a connection that is not open yet, since `on_connect` runs. Beyond
    it they are dropped, and the connection is closed as `slow_consumer` once it is open."""
    parked_limit: int = 10_000
    """Calls that wait for one actor to start; the next one is refused."""
