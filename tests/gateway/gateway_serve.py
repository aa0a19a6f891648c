"""The gateway inside a replica of Ray Serve, and the host beside the test.

The actors run in the test's process, so that a test can hold them up and look at
them; between the client and them is the real stack: HAProxy, Serve, the gateway in
its replica, the link, and Redis below.
"""

from __future__ import annotations

import itertools
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import wire_stack
from redis_server import RedisServer

from rivet_ray.gateway import GatewaySettings
from rivet_ray.link import LinkServer
from rivet_ray.runtime import Standalone

SECRET = b"a secret of the tests"
HERE = Path(__file__).parent


class Stack:
    """One Ray cluster, one Redis, for all tests of a run."""

    def __init__(self, address: str, redis: RedisServer) -> None:
        self.address = address
        self._redis = redis
        self._numbers = itertools.count()
        self.logged: list[tuple[str, str]] = []
        """What the last gateway logged as errors: (logger, text), ours among them."""

    def store(self) -> str:
        """The URL of a store that is empty."""
        return self._redis.url(f"wire-{next(self._numbers)}")

    @property
    def _control(self) -> str:
        return f"http://{self.address}{wire_stack.CONTROL}"

    @asynccontextmanager
    async def gateway(
        self, host: HostBeside, settings: GatewaySettings | None, records: str
    ) -> AsyncIterator[None]:
        """A gateway to that host, which is the only one until the end of the block."""
        actors = {name: item.actor for name, item in host.definitions.items()}
        site = wire_stack.Site(actors, host.url, host.address, SECRET, settings, records)
        async with httpx.AsyncClient(timeout=10) as http:
            answer = await http.put(self._control, content=pickle.dumps(site))
            assert answer.status_code == 200, answer.text
            try:
                yield
            finally:
                answer = await http.delete(self._control)
            self.logged = pickle.loads(answer.content)
            errors = [one for one in self.logged if not one[0].startswith("rivet_ray")]
            assert not errors, errors

    async def take(self, module: str, name: str) -> list[Any]:
        """Empty a list that the test's module keeps in the replica; what it held."""
        async with httpx.AsyncClient(timeout=10) as http:
            answer = await http.post(self._control, params={"module": module, "name": name})
        found: list[Any] = pickle.loads(answer.content)
        return found


class HostBeside(Standalone):
    """A host that listens on its link, for a gateway elsewhere."""

    def __init__(self, definitions: Any, url: str, store: Any, **options: Any) -> None:
        super().__init__(definitions, store or url, **options)
        self.url = url

    @property
    def address(self) -> str:
        return self._link.address

    async def _open(self) -> None:
        await super()._open()
        self._link = LinkServer(self.host, SECRET)
        await self._link.start()

    async def close(self) -> None:
        await super().close()
        await self._link.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running_stack(directory: Path) -> Iterator[Stack]:
    """Ray, Serve and Redis, started here and ended with the block."""
    redis = RedisServer(directory).start()
    port = _free_port()
    servers = Path(wire_stack.__file__).parent
    path = os.pathsep.join(filter(None, (str(HERE), str(servers), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, wire_stack.__file__, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(log := (directory / "ray.log").open("w")),
        env={**os.environ, "PYTHONPATH": path},
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if "serves" not in process.stdout.readline():
            pytest.fail(f"Ray Serve did not start: {(directory / 'ray.log').read_text()}")
        yield Stack(f"127.0.0.1:{port}", redis)
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()
        log.close()
        redis.stop()
