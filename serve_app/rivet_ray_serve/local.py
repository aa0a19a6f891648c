"""A Ray cluster of this machine alone, for as long as its parent wants it.

`python -m rivet_ray_serve.local SETTINGS`, with settings as JSON, is the keeper. The
URL of the store (RIVET_STORE) and the cluster secret are in its environment, since
arguments can be read by other users. It starts Ray and Serve, writes one line of JSON
when they serve or when they cannot, and ends every process that came of it when its
standard input closes.
"""

# Ray types its interface in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import ctypes
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from rivet_ray_serve.environment import local_environment

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CLOSE, STOP = 1 / 3, 0.4
"""Of the grace: for a host to close, and for all of them to say that they have."""
ASKING = 1.0
"""Seconds for Ray to bring a question to a host and the answer back."""
OBJECT_STORE = 100 * 1024 * 1024
"""Bytes; actors do not use it."""


def main() -> None:
    settings: dict[str, Any] = json.loads(sys.argv[1])
    adopt_orphans()
    # Short: the path of Ray's sockets has to fit into 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="rivet-ray-"))
    try:
        os.environ.update(local_environment(directory))
        _serve(settings, directory)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_descendants()
        shutil.rmtree(directory, ignore_errors=True)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(0)


def _serve(settings: dict[str, Any], directory: Path) -> None:
    spec = None
    try:
        # Only now: Ray reads the environment when it is imported.
        import ray
        from ray import serve

        from rivet_ray.cluster import ClusterSpec
        from rivet_ray.definition import CORS
        from rivet_ray_serve.application import application

        spec = ClusterSpec(
            tuple(settings["registries"]),
            topology=settings["topology"],
            spare_workers=settings["spare_workers"],
            close_timeout=settings["grace"] * CLOSE,
        )
        start_ray(directory)
        serve.start(http_options={"host": settings["host"], "port": settings["port"]})
        origin = settings["cors_origin"]
        cors = None if origin is None else CORS(origin=origin)
        serve.run(
            application(spec, replicas=settings["replicas"], cors=cors, open=settings["open"])
        )
    except Exception as error:
        traceback.print_exc()
        _say({"error": f"{type(error).__name__}: {error}".partition("\n")[0]})
        return
    _say({"ready": ray.get_runtime_context().gcs_address})
    sys.stdin.read()
    _stop_hosts(spec, settings["grace"] * STOP)
    # A driver that is still connected when its cluster goes is ended by Ray much later.
    ray.shutdown()


def start_ray(directory: Path) -> None:
    """Ray on the loopback alone, with its files in `directory`; this process is its driver.

    Ray opens the directory that it is given to every user, so it gets one inside.
    """
    import ray

    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        num_cpus=max(os.cpu_count() or 1, 4),
        object_store_memory=OBJECT_STORE,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(directory / "r"),
    )


def _stop_hosts(spec: Any, seconds: float) -> None:
    import ray
    import ray.exceptions

    from rivet_ray.cluster.placement import host_actors

    hosts = host_actors(spec)
    try:
        stopped: list[bool] = ray.get(
            [host.stop.remote(seconds) for host in hosts], timeout=seconds + ASKING
        )
    except ray.exceptions.RayError:
        traceback.print_exc()
    else:
        if not all(stopped):
            late = stopped.count(False)
            text = "%d of %d hosts did not stop within %g s; what they did not save is lost.\n"
            sys.stderr.write(text % (late, len(hosts), seconds))


def _say(what: dict[str, str]) -> None:
    print(json.dumps(what), flush=True)


# --- Processes ----------------------------------------------------------------


def adopt_orphans() -> None:
    """Become the reaper of all that comes of this process, and end when its parent does.

    To be called on the main thread of a process that the parent's main thread started.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)


def descendants(root: int) -> list[int]:
    """Every process that came of `root`; orphans are among them where it is their reaper."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        mine = children.get(waiting.pop(), [])
        found += mine
        waiting += mine
    return found


def end_descendants(grace: float = 2.0) -> None:
    """SIGTERM, then SIGKILL after `grace` seconds, until nothing is left."""
    begun = time.monotonic()
    asked: set[int] = set()
    while left := descendants(os.getpid()):
        late = time.monotonic() - begun > grace
        for process in left:
            if late or process not in asked:
                asked.add(process)
                try:
                    os.kill(process, signal.SIGKILL if late else signal.SIGTERM)
                except ProcessLookupError:
                    continue
        time.sleep(0.05)
        _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    main()
