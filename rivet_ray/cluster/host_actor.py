"""A host as a Ray actor: a thread that runs a `Worker`, and nothing else.

The class is synchronous, because one coroutine method would put all of it on
Ray's own event loop. Its constructor neither touches the store nor raises: an
actor whose constructor fails while Ray restarts it is gone for good.
"""

# Ray types its interface in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import logging
import os
import threading

import ray.util

from rivet_ray.asgi import serve_exchange
from rivet_ray.client.between import between_actors
from rivet_ray.cluster import spares
from rivet_ray.cluster.backend import backend_of
from rivet_ray.cluster.spec import ClusterSpec
from rivet_ray.loading import load
from rivet_ray.registry import host_settings_of
from rivet_ray.remote import Worker
from rivet_ray.remote.worker import run_on_own_loop
from rivet_ray.runtime import Standalone
from rivet_ray.runtime.host import Connect

log = logging.getLogger("rivet_ray.cluster")


class HostActor:
    """Ends its process when its worker ends by itself, so that Ray starts another."""

    def __init__(self, spec: ClusterSpec, host: str) -> None:
        spares.become_host()
        self._spec = spec
        self._host = host
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._address = ""
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        threading.Thread(target=self._run, name="rivet-ray-host", daemon=True).start()

    def address(self, wait: float = 2.0) -> str:
        """Where its link listens; empty when it does not within `wait` seconds."""
        self._ready.wait(wait)
        return self._address

    def process(self) -> int:
        """The id of its process on its node."""
        return os.getpid()

    def stop(self, wait: float = 20.0) -> bool:
        """Let turns finish and save everything. Whether it did within `wait` seconds."""
        self._stopping = True
        loop, task = self._loop, self._task
        if loop is not None and task is not None and not self._ended.is_set():
            loop.call_soon_threadsafe(task.cancel)
        return self._ended.wait(wait)

    def _run(self) -> None:
        try:
            run_on_own_loop(self._serve())
        except asyncio.CancelledError:
            pass
        except BaseException:
            log.exception("the host ends")
        self._ended.set()
        if not self._stopping:
            os._exit(1)

    async def _serve(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        spec = self._spec
        registry = load(spec.registries)
        worker = Worker(
            registry.definitions(),
            spec.store_url,
            settings=host_settings_of(
                registry,
                namespace=spec.namespace,
                close_timeout=spec.close_timeout,
                alone=self._host if spec.topology == "partition" else None,
            ),
            connect=self._connect,
            handle=serve_exchange,
        )
        node: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        await worker.run(node, ready=self._listens)

    def _connect(self, standalone: Standalone) -> Connect:
        """Actors of one host call each other here; those of many ask where the other is."""
        if self._spec.topology == "coordinate":
            return between_actors(standalone)
        return between_actors(backend_of(self._spec))

    def _listens(self, address: str) -> None:
        self._address = address
        self._ready.set()
        spares.refill()
