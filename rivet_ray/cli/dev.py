"""`rivet-ray dev`: one process, one command."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import socket

from fastapi import FastAPI

from rivet_ray.errors import DefinitionError, StoreError
from rivet_ray.gateway.server import PortTaken, Server, bind, uvicorn_config
from rivet_ray.gateway.settings import GatewaySettings
from rivet_ray.registry import Registry, merge
from rivet_ray.store import driver_schemes, open_store

ENVIRONMENT = "RIVET_RAY_DEV"
"""How the settings reach the processes that `--reload` starts."""


class CommandError(Exception):
    """Something that the user can mend, in one line."""


def serve_dev(registries: Sequence[str], *, host: str, port: int, store: str, reload: bool) -> None:
    """Serve until Ctrl-C. Raises CommandError before anything is started."""
    _check_store(store)
    registry = load(registries)
    try:
        listener = bind(host, port)
    except PortTaken as error:
        raise CommandError(str(error)) from error
    with listener:
        asyncio.run(_try_store(store))
        chosen: int = listener.getsockname()[1]
        if reload:
            _serve_reloading(registries, registry, host, chosen, store, listener)
            return
        config = uvicorn_config(_app(registry, store), host, chosen)
        Server(config, _announcement(registry, host, chosen, store)).run(sockets=[listener])


def _serve_reloading(
    registries: Sequence[str],
    registry: type[Registry],
    host: str,
    port: int,
    store: str,
    listener: socket,
) -> None:
    from uvicorn.supervisors import ChangeReload

    os.environ[ENVIRONMENT] = json.dumps({"registries": list(registries), "store": store})
    config = uvicorn_config(
        "rivet_ray.cli.dev:app_from_environment",
        host,
        port,
        reload=True,
        factory=True,
    )
    _announcement(registry, host, port, store)()
    ChangeReload(config, target=Server(config).run, sockets=[listener]).run()


def app_from_environment() -> FastAPI:
    """The application that a reloading server serves."""
    settings = json.loads(os.environ[ENVIRONMENT])
    return _app(load(settings["registries"]), settings["store"])


def _app(registry: type[Registry], store: str) -> FastAPI:
    return registry.create_server(store=store, settings=GatewaySettings(open=True)).handler


def load(names: Sequence[str]) -> type[Registry]:
    """The registries of `module:Class` names, as one. Raises CommandError."""
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        return merge([_load(name) for name in names])
    except DefinitionError as error:
        raise CommandError(str(error)) from error


def _load(name: str) -> type[Registry]:
    module_name, separator, attribute = name.partition(":")
    if not separator or not module_name or not attribute:
        raise CommandError(f"{name!r} is no registry; write module:Class, like counter:App.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise CommandError(
                f"There is no module {module_name!r} here or among the installed packages."
            ) from error
        raise CommandError(f"{module_name} needs the module {error.name!r}.") from error
    except DefinitionError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise CommandError(
            f"{module_name} cannot be imported: {type(error).__name__}: {error} "
            f"({place.filename}:{place.lineno})"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        raise CommandError(f"{module_name} has no {attribute!r}.")
    if not (isinstance(found, type) and issubclass(found, Registry)):
        raise CommandError(f"{name} is no Registry class.")
    return found


def _check_store(url: str) -> None:
    scheme = url.partition("://")[0]
    if scheme not in driver_schemes():
        known = ", ".join(f"{name}://" for name in driver_schemes())
        raise CommandError(f"There is no driver for the store {url!r}; there are: {known}")


async def _try_store(url: str) -> None:
    """Find out now whether the store can be opened: a server would say it in a traceback."""
    try:
        opened = await open_store(url)
    except StoreError as error:
        raise CommandError(str(error)) from error
    await opened.close()


def _announcement(registry: type[Registry], host: str, port: int, store: str) -> Callable[[], None]:
    def announce() -> None:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{port}"
        definitions = registry.definitions()
        lines = [f"rivet-ray serves {', '.join(definitions)} at {url} (store: {store})", ""]
        for name, definition in definitions.items():
            if "on_auth" not in definition.hooks and not definition.public:
                lines.append(
                    f"warning: {name} has no on_auth and does not say public = True; "
                    "it is open to everybody here and refused everywhere else."
                )
        lines += ["Try:", f"  {_curl(url, registry)}", "", "Stop with Ctrl-C."]
        print("\n".join(lines), flush=True)

    return announce


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
