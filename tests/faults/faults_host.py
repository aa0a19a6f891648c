"""A real `rivet-ray host`, which can be held as if its machine slept, and its gateway."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import faults_actors
from faults_server import HERE, STARTS_WITHIN, environment

from rivet_ray.gateway import GatewaySettings, create_app
from rivet_ray.gateway.server import Server, bind, uvicorn_config
from rivet_ray.remote import Fixed, Remote

SECRET = "a secret of the tests, long enough"


class Host:
    """`with Host(store) as host: host.address`."""

    def __init__(self, store: str, *, port: int = 0, planted: str = "") -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "rivet_ray", "host", "faults_actors:App"),
                *("--store", store, "--port", str(port)),
            ],
            cwd=HERE,
            env=environment(planted) | {"RIVET_CLUSTER_SECRET": SECRET, "PYTHONUNBUFFERED": "1"},
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    @property
    def output(self) -> str:
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode("utf-8", "replace")

    @property
    def address(self) -> str:
        """Where it listens; waits for it."""
        end = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < end and self.process.poll() is None:
            if found := re.search(r"listens at (127\.0\.0\.1:\d+)\n", self.output):
                return found[1]
            time.sleep(0.02)
        raise AssertionError(f"the host did not start:\n{self.output}")

    @property
    def refused(self) -> int:
        """How many writes the store has refused it, as it says itself."""
        counts = re.findall(r"the store refused a commit: .* refused=(\d+)", self.output)
        return max(map(int, counts), default=0)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.process.kill()
        self.process.wait(20)
        self._output.close()


@asynccontextmanager
async def gateway(store: str, address: str) -> AsyncIterator[str]:
    """The URL of a gateway for which every actor lives at `address`."""
    definitions = faults_actors.App.definitions()
    backend = Remote(definitions, store, Fixed(address), secret=SECRET)
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        app = create_app(backend, settings=GatewaySettings(open=True))
        server = Server(uvicorn_config(app, "127.0.0.1", port))
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        try:
            while not server.started:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await serving
