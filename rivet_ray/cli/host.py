"""`rivet-ray host`: a host process, for gateways elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rivet_ray.asgi import serve_exchange
from rivet_ray.cli.checks import CommandError, check_store
from rivet_ray.client.between import between_actors
from rivet_ray.link import InvalidSecret, LinkError
from rivet_ray.loading import load
from rivet_ray.registry import host_settings_of
from rivet_ray.remote import Worker
from rivet_ray.remote.worker import Deposed, run_on_own_loop
from rivet_ray.shutdown import CLOSE, GRACE, Shutdown


def serve_host(
    registries: Sequence[str], *, store: str, listen: str, port: int, grace: float = GRACE
) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises CommandError."""
    check_store(store)
    registry = load(registries)
    try:
        worker = Worker(
            registry.definitions(),
            store,
            settings=host_settings_of(registry, close_timeout=grace * CLOSE),
            connect=between_actors,
            handle=serve_exchange,
        )
        run_on_own_loop(_run(worker, listen, port, Shutdown(grace)))
    except (InvalidSecret, LinkError, Deposed) as error:
        raise CommandError(str(error)) from error


async def _run(worker: Worker, listen: str, port: int, shutdown: Shutdown) -> None:
    serving = asyncio.ensure_future(worker.run(listen, port, ready=_announce))
    loop = asyncio.get_running_loop()

    def stop(*_: object) -> None:
        loop.call_soon_threadsafe(serving.cancel)

    shutdown.catch(stop)
    try:
        await serving
    except asyncio.CancelledError:
        return


def _announce(address: str) -> None:
    print(f"rivet-ray host listens at {address}", flush=True)
