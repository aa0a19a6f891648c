"""What an operator may set about a gateway."""

from __future__ import annotations

from dataclasses import dataclass

from rivet_ray.definition import CORS


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Limits of a gateway. Sizes are bytes, for text frames characters."""

    max_incoming_message_size: int = 65_536
    """The longest message on a connection a client may send; posted ones in bytes."""
    max_body_size: int = 20 * 1024 * 1024
    """The longest HTTP body a client may send."""
    max_params_size: int = 4_096
    """The longest connection parameters, in bytes of JSON."""
    params_timeout: float = 5.0
    """Seconds for the first message of a WebSocket that brings its parameters in one."""
    max_in_flight: int = 1_024
    """Actions of one connection that may run at once; more wait for one to end."""
    max_waiting_size: int = 1_048_576
    """Bytes of actions of one connection that may wait; more are answered `overloaded`."""
    max_queued_frames: int = 4_096
    """Frames or events that wait for one slow client; beyond, it is closed."""
    close_timeout: float = 4.0
    """Seconds for a client to take what waits for it when its socket is closed."""
    keep_alive: float = 15.0
    """Seconds between two comments on an event stream, for proxies; 0 for none."""
    raw_start_timeout: float = 60.0
    """Seconds until an actor's `on_fetch` or `on_websocket` has to begin its answer."""
    raw_idle_timeout: float = 300.0
    """Seconds without a byte in either direction, after which a raw response is broken off."""
    auth_timeout: float = 10.0
    """Seconds that an asynchronous `on_auth` may take."""
    cors: CORS | None = None
    """Which pages of other origins browsers let call; None for none, at no cost."""
    open: bool = False
    """Let anybody use actor types that have no `on_auth`: for development."""
    documentation: bool = True
    """Serve `/openapi.json` and `/docs`, which name every action of the registry."""
