"""What an operator may set about a gateway."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rivet_ray.definition import CORS

_BASE_PATH = re.compile(r"/|(/[^/?#{}\s]+)+/?")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Limits of a gateway, and what it offers. Sizes are bytes, for text frames characters.

    A part of an actor's key has at most 128 UTF-16 units, whatever is set here: a
    longer one would name no actor to other servers of the dialect.
    """

    max_connections: int | None = None
    """Connections of all clients to this process. If all places are taken, the client that has
    been silent for the longest loses its; if none is silent, a new one gets 503 `overloaded`.
    By default seven eighths of the files that may be open (`ulimit -n`). As the four bounds
    below it holds under `rivet-ray` and `uvicorn_config`; other servers have their own."""
    max_connections_per_address: int | None = None
    """Connections from one address; none by default, because all clients behind one proxy
    share one."""
    head_timeout: float = 10.0
    """Seconds for a client to send the head of a request, counted from its connection or
    from the first byte of a later request. Then the connection is closed."""
    max_head_size: int = 131_072
    """The longest address and headers of a request together, where each header counts 32
    bytes more. Longer ones get 414 or 431 `message_too_long`, unread."""
    max_raw_message_size: int = 16 * 1024 * 1024
    """The longest message of a client for `on_websocket`; the socket is closed with 1009."""
    max_unread_size: int = 112 * 1024 * 1024
    """Bytes of heads, bodies and messages of all clients that have not come to their end or
    are not read yet; more are refused as `overloaded`. Part of `max_held_size`."""
    max_bodies_size: int = 96 * 1024 * 1024
    """Bytes of bodies among them, without those up to 16 KiB."""
    max_incoming_message_size: int = 65_536
    """The longest message on a connection a client may send; posted ones in bytes."""
    max_body_size: int = 20 * 1024 * 1024
    """The longest body of an action a client may send; raw bodies stream, without a limit."""
    max_body_items: int = 250_000
    """How many values a body or message may hold: numbers, texts and constants count one,
    the names of members four, and lists and objects eight. Each takes about 0.1 µs in one
    call, and nothing else is done meanwhile. More are refused with `message_too_long`."""
    body_timeout: float = 60.0
    """Seconds for a client to send a body that is read whole before anything begins."""
    max_params_size: int = 4_096
    """The longest connection parameters, in bytes of the shortest JSON, in UTF-8."""
    params_timeout: float = 5.0
    """Seconds for the first message of a WebSocket that brings its parameters in one."""
    max_in_flight: int = 1_024
    """Actions of one connection that may run at once; more wait for one to end."""
    max_waiting_size: int = 16 * 1024 * 1024
    """Bytes of the actions of one connection that wait or run, names, keys and some for
    each among them; more are answered `overloaded`."""
    max_subscriptions_size: int = 256 * 1024
    """Bytes of the names of events that one connection subscribes to, and some for each:
    about 400. Another one is refused with `too_many_subscriptions`."""
    max_queued_size: int = 32 * 1024 * 1024
    """Bytes of answers and events that may wait for one client. While a quarter of it waits
    no action of the connection starts; an answer beyond it becomes an error, an event
    beyond it closes the client with `slow_consumer`."""
    max_held_size_per_caller: int = 64 * 1024 * 1024
    """Bytes that are held for all connections and requests of one caller, both ways."""
    max_held_size: int = 256 * 1024 * 1024
    """Bytes that are held for all callers. Beyond half of it requests are answered
    `overloaded`; beyond all of it the client is closed for whom most waits."""
    blocked_after: float | None = 1.0
    """Seconds for which code may hold the event loop; then the log names it, with its stack
    and its actor. None: nobody watches."""
    answer_timeout: float = 60.0
    """Seconds for a client to take 64 KiB of a long answer over HTTP; beyond it the client is
    cut off."""
    close_timeout: float = 4.0
    """Seconds for a client to take what waits for it when its socket is closed."""
    keep_alive: float = 15.0
    """Seconds between two comments on an event stream, for proxies; 0 for none."""
    unacknowledged_timeout: float = 10.0
    """Seconds that what was sent on an event stream may stay unacknowledged, until its client
    counts as gone: it is noticed so long after the next event or comment. It is the socket
    that notices (TCP_USER_TIMEOUT), so on Linux only, under `rivet-ray` or `uvicorn_config`;
    0, and other systems, leave it to TCP, which takes about 15 minutes."""
    raw_start_timeout: float = 60.0
    """Seconds until an actor's `on_fetch` or `on_websocket` has to begin its answer."""
    raw_idle_timeout: float = 300.0
    """Seconds without a byte in either direction, after which a raw response is broken off."""
    auth_timeout: float = 10.0
    """Seconds that an asynchronous `on_auth` may take."""
    cors: CORS | None = None
    """Which pages of other origins may use this gateway, on every transport; None for none,
    but those that the CORSMiddleware of a Starlette application around it admits."""
    loopback_origins: bool = False
    """Let pages of `localhost` and other names of this machine in too, whatever their port."""
    hosts: Sequence[str] | None = None
    """Names by which this server may be asked (`Host`), beside those of the loopback; others
    are refused, as those of a page whose name was led here (DNS rebinding). None for any."""
    open: bool = False
    """Let anybody use actor types that have no `on_auth`: for development."""
    documentation: bool = True
    """Serve `/openapi.json` and `/docs`, which name every action of the registry."""
    base_path: str = "/"
    """The path below which every route answers, and none beside it: with `/api` there is
    `/api/actors/…` and `/api/registry/actors/…`, for clients of `http://host/api`."""

    def __post_init__(self) -> None:
        if _BASE_PATH.fullmatch(self.base_path) is None:
            raise ValueError(
                f"base_path is a path like /api, unescaped and without ? or #, "
                f"not {self.base_path!r}."
            )
