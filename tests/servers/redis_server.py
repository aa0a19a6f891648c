"""A real Redis server for tests: on a free port of the loopback, in a directory of its own."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

MISSING = """redis-server is not installed, and the Redis driver is tested on a real one only.
  Debian, Ubuntu:  apt-get install redis-server    (the service itself is not needed)
  macOS:           brew install redis"""


class RedisServer:
    """One server, whose data outlives its process: every write is fsynced before its answer."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.port = _free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, prefix: str = "rivet") -> str:
        return f"redis://{self.address}/0?prefix={prefix}"

    def start(self) -> RedisServer:
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail(MISSING, pytrace=False)
        log = self.directory / "log"
        self._process = subprocess.Popen(
            [
                program,
                *("--bind", "127.0.0.1", "--port", str(self.port)),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
                *("--dir", str(self.directory), "--logfile", str(log), *self._options),
            ]
        )
        self._wait_until_it_answers(log)
        return self

    def _wait_until_it_answers(self, log: Path) -> None:
        assert self._process is not None
        end = time.monotonic() + 10
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(100).startswith((b"+PONG", b"-NOAUTH")):
                        return
            except OSError:
                pass
            time.sleep(0.01)
        pytest.fail(f"redis-server did not start: {log.read_text() if log.exists() else ''}")

    def kill(self) -> None:
        """As `kill -9`: nothing can be finished."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Hold the process: connections stay, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None


def _free_port() -> int:
    """Below the ports that systems give to outgoing connections, so it stays free while
    the server is down, and no client connects to itself there."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
