"""Host actors on Ray: found by name, started where they are missing."""

# Ray types its interface in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
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
        try:
            async with asyncio.timeout(PATIENCE):
                address = await self._ask(host)
        except TimeoutError as error:
            raise HostUnreachable(f"Ray does not answer where {host} is.") from error
        except (ray.exceptions.RayError, ValueError) as error:
            # A name may lead to an actor that is just dying; it is looked up anew.
            self._handles.pop(host, None)
            told = str(error).strip().partition("\n")[0]
            raise HostUnreachable(f"{host} is not there: {told}") from error
        if not address:
            raise HostUnreachable(f"{host} does not listen yet.")
        return address

    async def _ask(self, host: str) -> str:
        """Where it listens. Asked again while there is no answer: the first that comes counts.

        Ray holds a call that went to a process that had just died back for one to
        two seconds; one that is made after Ray heard of the death goes to the next
        process as soon as that is there.

        Threads only put the questions. They do not wait for answers, so hosts that do
        not answer, however many, keep nobody from finding the others.
        """
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        asked: set[asyncio.Future[str]] = set()
        while True:
            question = await loop.run_in_executor(self._threads, self._put_question, host)
            asked.add(_answer_of(question))
            answered, asked = await asyncio.wait(
                asked, timeout=pause, return_when=asyncio.FIRST_COMPLETED
            )
            for answer in answered:
                if answer.exception() is None or not asked:
                    return answer.result()
            pause = min(pause * 2, LONGEST_PAUSE)

    def _put_question(self, host: str) -> Any:
        """Ask a host where it listens; what the answer will be in. Blocks."""
        handle = self._handles.get(host)
        if handle is None:
            handle = self._handles[host] = self._find_or_start(host)
        return handle.address.remote(LISTENING)

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


def _answer_of(question: Any) -> asyncio.Future[str]:
    """An answer on this event loop, whenever it comes. Nobody has to wait for it."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())

    def settle(source: Future[Any]) -> None:
        if answer.done():
            return
        error = source.exception()
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(str(source.result()))

    def told(source: Future[Any]) -> None:
        with suppress(RuntimeError):  # The loop has ended.
            loop.call_soon_threadsafe(settle, source)

    question.future().add_done_callback(told)
    return answer


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
