"""A Redis, host processes, and a gateway in front of them: all real."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import counted_actors
from counted_actors import App

from rivet_ray.gateway import create_app
from rivet_ray.gateway.server import Server, bind, uvicorn_config
from rivet_ray.remote import Fixed, Remote

ACTORS = Path(counted_actors.__file__).parent
SECRET = "a secret of the tests, long enough"
PATIENCE = 20.0
"""Seconds after which a test stops waiting for a process."""


async def eventually(condition: Callable[[], object]) -> None:
    """Until it holds. Processes take real time."""
    for _ in range(int(PATIENCE * 100)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("it does not come")


class HostProcess:
    """`rivet-ray host`, which can be killed and started again at the same address."""

    def __init__(
        self, store: str, *options: str, port: int = 0, secret: str | None = SECRET
    ) -> None:
        self._store = store
        self._options = options
        self._secret = secret
        self.port = port
        self.process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def spawn(self) -> asyncio.subprocess.Process:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        environment.pop("RIVET_CLUSTER_SECRET", None)
        if self._secret is not None:
            environment["RIVET_CLUSTER_SECRET"] = self._secret
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rivet_ray", "host", "counted_actors:App"),
            *("--store", self._store, "--port", str(self.port), *self._options),
            cwd=ACTORS,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return self.process

    async def start(self) -> None:
        process = await self.spawn()
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode()
        found = re.search(r"listens at 127\.0\.0\.1:(\d+)$", line.strip())
        if found is None:
            _, said = await process.communicate()
            raise AssertionError(f"the host says {line!r}, {said.decode()}")
        self.port = int(found[1])

    async def kill(self) -> None:
        await self.end(signal.SIGKILL)

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """Its exit code."""
        if self.process is None:
            return None
        if self.process.returncode is None:
            self.process.send_signal(how)
        await asyncio.wait_for(self.process.communicate(), PATIENCE)
        return self.process.returncode


@asynccontextmanager
async def gateway(store: str, host: HostProcess) -> AsyncGenerator[str]:
    """The URL of a gateway whose actors live in `host`."""
    backend = Remote(App.definitions(), store, Fixed(host.address), secret=SECRET)
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = Server(uvicorn_config(create_app(backend), "127.0.0.1", port))
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        try:
            await eventually(lambda: server.started)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await serving
