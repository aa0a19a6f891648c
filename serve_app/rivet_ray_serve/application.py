"""`create_app` as a deployment of Ray Serve."""

# Ray types its interface in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray.util
from ray import serve
from ray._common.tls_utils import add_port_to_grpc_server
from ray.serve._private import replica
from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy
from ray.serve.schema import LoggingConfig
from starlette.types import ASGIApp

from rivet_ray.cluster import ClusterSpec, backend_of, start_spares
from rivet_ray.definition import CORS
from rivet_ray.gateway import GatewaySettings, create_app
from rivet_ray.loading import load
from rivet_ray.registry import settings_of
from rivet_ray_serve.listening import listen_as_gateways

MAX_ONGOING = 20_000
"""Requests and sockets of one replica; each socket holds one for as long as it lives."""

QUIET = LoggingConfig(log_level="WARNING")
"""Serve's own line for each request took a twelfth of the gateway's time."""


def application(
    spec: ClusterSpec,
    *,
    replicas: int = 1,
    settings: GatewaySettings | None = None,
    cors: CORS | None = None,
    open: bool = False,
) -> Any:
    """The gateway of a deployment, for `serve.run`. Ray's `serve.Application`.

    The registries are imported in the replicas, where RIVET_CLUSTER_SECRET has
    to be in the environment; their settings and their CORS hold where none are given.
    `open` lets anybody use actor types that have no `on_auth`.
    """

    spec = replace(spec, release=spec.release or secrets.token_hex(8))

    def build() -> ASGIApp:
        start_spares(spec)
        chosen = settings_of(load(spec.registries), settings, cors)
        return create_app(backend_of(spec), replace(chosen, open=open or chosen.open))

    return deployed(build, replicas=replicas)


def deployed(build: Callable[[], ASGIApp], *, replicas: int = 1) -> Any:
    """An ASGI application that `build` makes in each replica, served as the gateway is.

    Ray's `serve.Application`.
    """

    def build_in_replica() -> ASGIApp:
        _without_reading_ahead()
        _on_its_nodes_address()
        app = build()
        listen_as_gateways(app)
        return app

    deployment: Any = serve.deployment(
        name="gateway",
        num_replicas=replicas,
        max_ongoing_requests=MAX_ONGOING,
        ray_actor_options={"num_cpus": 0},
        logging_config=QUIET,
        graceful_shutdown_timeout_s=10,
    )
    return deployment(serve.ingress(build_in_replica)()).bind()


class _ReceiveProxy(ASGIDIReceiveProxy):
    """Reads no further ahead of the application than a few messages.

    Serve reads a request to its end whether or not anybody takes what it reads:
    an upload that its actor takes slowly would gather in the replica's memory.
    Its queue has no bound and no option for one; it waits for room in it where
    there is one, as long as it and the application share a loop.
    """

    _AHEAD = 2

    def __init__(self, scope: Any, receive: Any, user_event_loop: Any) -> None:
        super().__init__(scope, receive, user_event_loop)
        if asyncio.get_running_loop() is user_event_loop:
            self._queue = asyncio.Queue(self._AHEAD)


def _without_reading_ahead() -> None:
    """In this process, for requests that come from now on."""
    replica.ASGIDIReceiveProxy = _ReceiveProxy  # type: ignore[attr-defined]  # pyright: ignore[reportPrivateImportUsage]


def _on_its_nodes_address() -> None:
    """In this process: the replica's port for other replicas listens where they look for it.

    Serve opens it on all interfaces, after the application was built, and it asks nobody
    who they are. On a cluster of one machine the node's address is the loopback.
    """
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    host = f"[{address}]" if ":" in address else address

    def add(server: Any, where: str) -> int:
        at = where.replace("[::]:", f"{host}:")
        port: int = add_port_to_grpc_server(server, at)  # type: ignore[no-untyped-call]
        return port

    replica.add_port_to_grpc_server = add  # type: ignore[attr-defined]  # pyright: ignore[reportPrivateImportUsage]
