"""Host actors on Ray: found by name, started where they are missing."""

# Ray types its interface in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
import ray.exceptions

from rivet_ray.cluster.spares import runtime_env
from rivet_ray.cluster.spec import RAY_NAMESPACE, ClusterSpec
from rivet_ray.remote import HostUnreachable

THREADS = 16
PATIENCE = 30.0
"""Seconds for Ray to answer one question, the start of a process among it."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
"""Seconds for Ray to answer where a host listens, before the question is put again."""
LISTENING = 2.0
"""Seconds for a host to begin to listen, before it is asked again."""


class RayPlacement:
    """See `rivet_ray.remote.Placement`.

    Ray's calls block, some for seconds where its control plane is away, so they
    run in threads and never on the event loop.
    """

    def __init__(self, spec: ClusterSpec) -> None:
        self._spec = spec
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="rivet-ray-placement")
        self._handles: dict[str, Any] = {}
        self._class: Any = None
        """Ray exports it anew each time it is made."""

    def host_of(self, actor: str) -> str:
        return "host-0" if self._spec.topology == "coordinate" else actor

    async def address_of(self, host: str) -> str:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE + LISTENING):
                address = await loop.run_in_executor(self._threads, self._ask, host)
        except TimeoutError as error:
            raise HostUnreachable(f"Ray does not answer where {host} is.") from error
        if not address:
            raise HostUnreachable(f"{host} does not listen yet.")
        return address

    def _ask(self, host: str) -> str:
        try:
            handle = self._handles.get(host)
            if handle is None:
                handle = self._handles[host] = self._find_or_start(host)
            return _first_answer(handle)
        except (ray.exceptions.RayError, ValueError) as error:
            # A name may lead to an actor that is just dying; it is looked up anew.
            self._handles.pop(host, None)
            told = str(error).strip().partition("\n")[0]
            raise HostUnreachable(f"{host} is not there: {told}") from error

    def _find_or_start(self, host: str) -> Any:
        if self._class is None:
            from rivet_ray.cluster.host_actor import HostActor

            self._class = ray.remote(HostActor)
        options: dict[str, Any] = {
            "name": self._spec.ray_name(host),
            "namespace": RAY_NAMESPACE,
            "lifetime": "detached",
            "get_if_exists": True,
            "max_restarts": -1,
            "num_cpus": 0,
            "max_concurrency": THREADS,
            "runtime_env": runtime_env(self._spec),
        }
        return self._class.options(**options).remote(self._spec, host)

    async def close(self) -> None:
        self._handles.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _first_answer(handle: Any) -> str:
    """Where it listens. Asked again while there is no answer: the first that comes counts.

    Ray holds a call that went to a process that had just died back for one to
    two seconds; one that is made after Ray heard of the death goes to the next
    process as soon as that is there.
    """
    until = time.monotonic() + PATIENCE
    pause = FIRST_PAUSE
    asked: list[Any] = []
    while True:
        asked.append(handle.address.remote(LISTENING))
        left = until - time.monotonic()
        answered, _ = ray.wait(asked, timeout=max(min(pause, left), 0.0))
        for answer in answered:
            try:
                return str(ray.get(answer, timeout=PATIENCE))
            except ray.exceptions.RayError:
                asked.remove(answer)
                if not asked:
                    raise
        if left <= 0:
            raise ray.exceptions.GetTimeoutError("Ray does not answer.")
        pause = min(pause * 2, LONGEST_PAUSE)


def host_actors(spec: ClusterSpec) -> list[Any]:
    """The handles of all host actors of a deployment. Blocks."""
    found: list[Any] = []
    named: Any = ray.util.list_named_actors(all_namespaces=True)
    for entry in named:
        if entry["namespace"] == RAY_NAMESPACE and entry["name"].startswith(spec.prefix):
            try:
                found.append(ray.get_actor(entry["name"], namespace=RAY_NAMESPACE))
            except ValueError:
                continue  # It ended meanwhile.
    return found
