"""`rivet-ray serve --ray`: a Ray cluster, its hosts and its gateway, on this machine."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rivet_ray.cli.checks import CommandError, check_store, cors_of, try_store
from rivet_ray.gateway.server import PortTaken, bind
from rivet_ray.link.secret import VARIABLE
from rivet_ray.loading import load
from rivet_ray.store import STORE_VARIABLE, shown

CLUSTER_GRACE = 45.0
"""Seconds from the first signal to the end of every process: hosts save, Ray stops."""
LEAST_GRACE = 10.0
ENDING = 5.0
"""The part of it for what is left, which is ended then, saved or not."""

ONE_PROCESS = ("memory", "file")


def serve_ray(
    registries: Sequence[str],
    *,
    host: str,
    port: int,
    store: str,
    topology: str,
    replicas: int,
    spare_workers: int,
    open: bool,
    cors_origins: Sequence[str] = (),
    grace: float = CLUSTER_GRACE,
) -> None:
    """Serve until Ctrl-C or SIGTERM; `grace` seconds later everything has ended. Raises
    CommandError before anything is started.
    """
    check_store(store)
    scheme = store.partition("://")[0]
    if scheme in ONE_PROCESS:
        raise CommandError(
            f"{scheme}:// serves one process; on Ray use redis://, or `rivet-ray dev` without it."
        )
    if importlib.util.find_spec("ray") is None:
        raise CommandError("Ray is missing; pip install 'rivet-ray[ray]'")
    cors = cors_of(cors_origins)
    load(registries)
    asyncio.run(try_store(store))
    port = _port(host, port)
    settings = {
        "registries": list(registries),
        "topology": topology,
        "host": host,
        "port": port,
        "replicas": replicas,
        "spare_workers": spare_workers,
        "open": open,
        "grace": grace,
        "cors_origin": None if cors is None else cors.origin,
    }
    print(f"rivet-ray starts Ray, {', '.join(registries)} as {topology} ...", flush=True)
    keeper = subprocess.Popen(
        [sys.executable, "-m", "rivet_ray_serve.local", json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(store),
        start_new_session=True,
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        assert keeper.stdout is not None
        said = json.loads(keeper.stdout.readline() or '{"error": "it ended at once"}')
        if "error" in said:
            raise CommandError(f"Ray Serve could not be started: {said['error']}")
        print(f"rivet-ray serves at http://{host}:{port} (store: {shown(store)})", flush=True)
        print("Stop with Ctrl-C.", flush=True)
        code = keeper.wait()
        raise CommandError(f"The Ray cluster ended by itself with code {code}.")
    except KeyboardInterrupt:
        print("rivet-ray stops ...", flush=True)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert keeper.stdin is not None
        keeper.stdin.close()
        _end(keeper, grace)


def _end(keeper: subprocess.Popen[bytes], grace: float) -> None:
    """Wait for the cluster to stop, but not for ever. Raises CommandError where it does not."""
    try:
        keeper.wait(grace - ENDING)
        return
    except subprocess.TimeoutExpired:
        keeper.terminate()  # It ends every process of the cluster then, saved or not.
    try:
        keeper.wait(ENDING)
    except subprocess.TimeoutExpired:
        keeper.kill()
    raise CommandError(f"The cluster did not stop within {grace:g} s and was ended.")


def _port(host: str, port: int) -> int:
    """The port, or a free one for 0; it is free now. Raises CommandError."""
    try:
        with bind(host, port) as listener:
            chosen: int = listener.getsockname()[1]
            return chosen
    except PortTaken as error:
        raise CommandError(str(error)) from error
    except socket.gaierror as error:
        raise CommandError(f"There is no address {host!r}: {error.strerror}") from error


def _environment(store: str) -> dict[str, str]:
    """Of every process of the cluster; it holds what must not be among its arguments."""
    environment = {**os.environ, STORE_VARIABLE: store}
    environment.setdefault(VARIABLE, secrets.token_hex(32))
    # Every process imports the registries from here.
    path = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), *([path] if path else [])])
    return environment


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
