"""`rivet-ray dev`: one process, one command."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from socket import socket

from fastapi import FastAPI

from rivet_ray.cli.checks import CommandError, check_store, cors_of, try_store
from rivet_ray.gateway.origins import host_of, is_loopback
from rivet_ray.gateway.server import PortTaken, Server, bind, uvicorn_config
from rivet_ray.loading import load
from rivet_ray.registry import Registry, settings_of
from rivet_ray.shutdown import DRAIN, GRACE
from rivet_ray.store import shown

ENVIRONMENT = "RIVET_RAY_DEV"
"""How the settings reach the processes that `--reload` starts."""


def serve_dev(
    registries: Sequence[str],
    *,
    host: str,
    port: int,
    store: str,
    reload: bool,
    cors_origins: Sequence[str] = (),
    allow_hosts: Sequence[str] = (),
    grace: float = GRACE,
) -> None:
    """Serve until Ctrl-C. Raises CommandError before anything is started."""
    check_store(store)
    registry = load(registries)
    origins = list(cors_origins)
    hosts = [host, *(_name(item) for item in allow_hosts)]
    cors_of(origins)
    try:
        listener = bind(host, port)
    except PortTaken as error:
        raise CommandError(str(error)) from error
    with listener:
        asyncio.run(try_store(store))
        chosen: int = listener.getsockname()[1]
        if reload:
            _serve_reloading(
                registries, registry, host, chosen, store, origins, hosts, grace, listener
            )
            return
        app = _app(registry, store, origins, hosts, grace)
        config = uvicorn_config(app, host, chosen, timeout_graceful_shutdown=grace * DRAIN)
        Server(config, _announcement(registry, host, chosen, store), grace).run(sockets=[listener])


def _serve_reloading(
    registries: Sequence[str],
    registry: type[Registry],
    host: str,
    port: int,
    store: str,
    origins: list[str],
    hosts: list[str],
    grace: float,
    listener: socket,
) -> None:
    from uvicorn.supervisors import ChangeReload

    os.environ[ENVIRONMENT] = json.dumps(
        {
            "registries": list(registries),
            "store": store,
            "origins": origins,
            "hosts": hosts,
            "grace": grace,
        }
    )
    config = uvicorn_config(
        "rivet_ray.cli.dev:app_from_environment",
        host,
        port,
        reload=True,
        factory=True,
        timeout_graceful_shutdown=grace * DRAIN,
    )
    _announcement(registry, host, port, store)()
    ChangeReload(config, target=Server(config, grace=grace).run, sockets=[listener]).run()


def app_from_environment() -> FastAPI:
    """The application that a reloading server serves."""
    settings = json.loads(os.environ[ENVIRONMENT])
    registry, grace = load(settings["registries"]), settings["grace"]
    return _app(registry, settings["store"], settings["origins"], settings["hosts"], grace)


def _app(
    registry: type[Registry], store: str, origins: list[str], hosts: list[str], grace: float
) -> FastAPI:
    settings = replace(settings_of(registry), open=True, loopback_origins=True, hosts=hosts)
    cors = cors_of(origins)
    return registry.create_server(store=store, settings=settings, cors=cors, grace=grace).handler


def _name(host: str) -> str:
    """A host as `--allow-host` names it. Raises CommandError."""
    found = host_of(host)
    if found is None or found[1] is not None:
        raise CommandError(
            f"--allow-host: {host!r} is not a name. Write it without scheme and port: app.internal"
        )
    return found[0]


def _announcement(registry: type[Registry], host: str, port: int, store: str) -> Callable[[], None]:
    def announce() -> None:
        name = f"[{host}]" if ":" in host else host
        url = f"http://{name}:{port}"
        served = ", ".join(registry.definitions())
        lines = [f"rivet-ray serves {served} at {url} (store: {shown(store)})", ""]
        lines += ["Try:", f"  {_curl(url, registry)}", ""]
        print("\n".join(lines), flush=True)
        if warnings := _warnings(registry, host):
            colour, plain = ("\033[1;33m", "\033[0m") if sys.stderr.isatty() else ("", "")
            for warning in warnings:
                print(f"{colour}WARNING: {warning}{plain}", file=sys.stderr)
            print(file=sys.stderr, flush=True)
        print("Stop with Ctrl-C.", flush=True)

    return announce


def _warnings(registry: type[Registry], host: str) -> list[str]:
    """What is open here, and to whom; one line for each type, so that none is overlooked."""
    unguarded = [
        name
        for name, definition in registry.definitions().items()
        if "on_auth" not in definition.hooks and not definition.public
    ]
    found = [
        f"{name} has no on_auth and does not say public = True; "
        "it is open to everybody here and refused everywhere else."
        for name in unguarded
    ]
    if unguarded and not is_loopback(host):
        found.append(f"{host} is no address of this machine alone: others can use these actors.")
    return found


def _curl(url: str, registry: type[Registry]) -> str:
    name, definition = next(iter(registry.definitions().items()))
    action = next(
        (name for name, item in definition.actions.items() if not item.arguments.required),
        next(iter(definition.actions), "action"),
    )
    query = json.dumps({"getOrCreateForKey": {"name": name, "key": ["demo"]}})
    return (
        f"curl -X POST {url}/registry/actors/actions/{action} "
        f"-H 'X-RivetKit-Encoding: json' -H 'X-RivetKit-Query: {query}' -d '{{\"a\": []}}'"
    )
