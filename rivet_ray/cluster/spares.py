"""Processes that Ray starts ahead, for hosts to come.

Most of a new host's start is that of its process: Ray's worker, and all that it
imports. Ray hands idle workers with the right runtime environment to new and to
restarted actors, and starts one ahead where it is asked for it. So hosts have an
environment of their own, which makes such a worker import what a host needs and
take one of the node's *slots*: a lock that it holds while it is a spare. A host
lets go of its slot, and when it listens it has the free ones filled again.

A slot is a lock on a file, so the kernel frees it when its process dies. Nothing
here is ever waited for: without a spare a host starts in a process that is new.
"""

# Ray types its interface in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import importlib
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rivet_ray.cluster.slots import Slots
from rivet_ray.cluster.spec import ClusterSpec
from rivet_ray.loading import NotLoadable, load
from rivet_ray.store import load_driver

log = logging.getLogger("rivet_ray.cluster")

HOOK_VARIABLE = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"
"""Ray's own: what a worker calls before it takes work."""
VARIABLE = "RIVET_RAY_SPARES"
"""Tells a worker whose spare it is, as JSON."""
KEPT = 24 * 3600
"""Seconds after which Ray may end a spare that nobody used."""
REST = 0.5
"""Seconds between a host's start and the start of the next spare: its first calls come first."""
SETTLING = 2.0
"""Seconds between a gateway's start and that of the first spares: it serves first."""
STARTING = 20.0
"""Seconds for spares to start, before they are asked for again."""
TRIES = 3
WATCH = 1.0
"""Seconds within which a worker takes a slot that is free, or ends with its release."""
SURPLUS = 60.0
"""Seconds after which a worker ends that got no slot, and no host to run."""
PYTHON = 0
"""As Ray numbers languages."""
ANSWER = 5.0
"""Seconds for the node's Ray to take an order."""


def runtime_env(spec: ClusterSpec) -> dict[str, Any]:
    """Of all host actors of a deployment, and of their spares."""
    number = spec.spare_workers if spec.topology == "partition" else min(spec.spare_workers, 1)
    if number <= 0:
        return {}
    told = {
        "deployment": spec.deployment,
        "release": spec.release,
        "number": number,
        "registries": spec.registries,
        "scheme": spec.store_url.partition("://")[0],
    }
    return {"env_vars": {HOOK_VARIABLE: f"{__name__}.prepare", VARIABLE: json.dumps(told)}}


def start_spares(spec: ClusterSpec) -> None:
    """Have the slots of every node filled, and spares of earlier releases ended.

    Returns at once; a thread asks Ray. Nodes that come later get theirs with
    their first host.
    """
    if runtime_env(spec):
        name = "rivet-ray-spares"
        threading.Thread(target=_start_everywhere, args=(spec,), name=name, daemon=True).start()


def _start_everywhere(spec: ClusterSpec) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    time.sleep(SETTLING)
    try:
        # Its process ends with it: it is neither a host nor a spare.
        task: Any = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(fill)
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        for node in nodes:
            if node["Alive"]:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                task.options(runtime_env=runtime_env(spec), scheduling_strategy=there).remote()
    except Exception:
        log.exception("spares cannot be asked for; the first host of a node will")


_slots: Slots | None = None
"""Of this process, where it is a spare or a host that may have been one."""


def prepare() -> None:
    """In a new worker of Ray, before it takes work: import what a host needs, take a slot.

    Never raises: Ray would start the next worker at once, for ever.
    """
    global _slots
    try:
        told = json.loads(os.environ[VARIABLE])
        _import(told["registries"], told["scheme"])
        _slots = Slots(_directory(told["deployment"], told["release"]), told["number"])
        _slots.take()
        name = "rivet-ray-spare"
        threading.Thread(target=_watch, args=(_slots,), name=name, daemon=True).start()
    except Exception:
        log.exception("no spare can be prepared")


def _import(registries: list[str], scheme: str) -> None:
    import ray._private.worker

    for module in ("rivet_ray.cluster.host_actor", "uvloop"):
        importlib.import_module(module)
    try:
        load(registries)
    except NotLoadable as error:
        log.warning("a spare does not have the registries yet: %s", error)
    load_driver(f"{scheme}://")
    # Imports what Ray would import for its first message, 0.1 s of pydantic among it.
    worker: Any = ray._private.worker.global_worker
    worker.get_serialization_context()


def _directory(deployment: str, release: str) -> Path:
    """On this node, and gone with its Ray."""
    import ray._private.worker

    node: Any = ray._private.worker.global_worker.node
    session = Path(str(node.get_session_dir_path()))
    return session / "rivet-ray" / str(node.node_id) / _file_name(deployment) / _file_name(release)


def _file_name(text: str) -> str:
    return f"={quote(text, safe='')}"


def _watch(slots: Slots) -> None:
    """End this process when its release is retired, or when one more is not needed.

    More than there are slots come where an order was given again that Ray was
    only slow to carry out. The next slot that is free is theirs.
    """
    until = time.monotonic() + SURPLUS
    while not slots.left:
        late = time.monotonic() > until
        over = slots.retired if slots.taken else not slots.take() and late
        if over and slots.leave():
            os._exit(0)
        time.sleep(WATCH)


def become_host() -> None:
    """This process is no spare any more."""
    if _slots is not None:
        _slots.leave()


def refill() -> None:
    """Have this node's free slots filled, in the background."""
    if _slots is not None:
        name = "rivet-ray-spares"
        threading.Thread(target=_fill, args=(_slots, REST), name=name, daemon=True).start()


def fill() -> None:
    """As a Ray task in the environment of hosts: fill the slots of its node."""
    if _slots is not None:
        _slots.leave()
        _slots.retire_others()
        _fill(_slots, 0.0)


def _fill(slots: Slots, rest: float) -> None:
    time.sleep(rest)
    try:
        with slots.filling():
            for _ in range(TRIES):
                missing = 0 if slots.retired else slots.free()
                if missing == 0:
                    return
                _order(missing)
                until = time.monotonic() + STARTING
                while slots.free() and time.monotonic() < until:
                    time.sleep(0.05)
        log.warning("Ray does not start the spares that it was asked for")
    except Exception:
        log.exception("spares cannot be started; hosts start in new processes")


def _order(number: int) -> None:
    """Have this node's Ray start workers in the environment of this process."""
    import ray._private.worker
    from ray._private.grpc_utils import init_grpc_channel

    # Made by protoc, without types.
    messages: Any = importlib.import_module("ray.core.generated.node_manager_pb2")
    services: Any = importlib.import_module("ray.core.generated.node_manager_pb2_grpc")
    worker: Any = ray._private.worker.global_worker
    # Ray compares environments as text, so it is this process's own, letter by letter.
    environment = worker.core_worker.get_current_runtime_env()
    request = messages.PrestartWorkersRequest(
        language=PYTHON, num_workers=number, keep_alive_duration_secs=KEPT
    )
    request.runtime_env_info.serialized_runtime_env = environment
    node = worker.node
    raylet: Any = init_grpc_channel(f"{node.node_ip_address}:{node.node_manager_port}")
    with raylet as channel:
        services.NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=ANSWER)
