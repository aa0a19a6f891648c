"""A real Redis server for tests: on a free port of the loopback, in a directory of its own."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

MISSING = """redis-server is not installed, and the Redis driver is tested on a real one only.
  Debian, Ubuntu:  apt-get install redis-server    (the service itself is not needed)
  macOS:           brew install redis"""


class RedisServer:
    """One server, whose data outlives its process: every write is fsynced before its answer."""

    def __init__(self, directory: Path, *options: str, tls: bool = False) -> None:
        """With `tls` it listens for nothing else; the options tell its certificate."""
        self.directory = directory
        self.port = free_port()
        self._ports = ("0", "--tls-port", str(self.port)) if tls else (str(self.port),)
        self._tls = tls
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
                *("--bind", "127.0.0.1", "--port", *self._ports),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
                *("--dir", str(self.directory), "--logfile", str(log), *self._options),
            ]
        )
        wait_until_it_answers(self._process, self.port, log, self._tls)
        return self

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


def wait_until_it_answers(
    process: subprocess.Popen[bytes], port: int, log: Path, tls: bool = False
) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end and process.poll() is None:
        try:
            with _connection(port, tls) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(100).startswith((b"+PONG", b"-NOAUTH")):
                    return
        except OSError:
            pass
        time.sleep(0.01)
    pytest.fail(f"redis-server did not start: {log.read_text() if log.exists() else ''}")


def _connection(port: int, tls: bool) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), 1)
    if not tls:
        return plain
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with plain:  # the wrapper takes the socket over
        return context.wrap_socket(plain)


_given: set[int] = set()


def free_port() -> int:
    """Below the ports that systems give to outgoing connections, so it stays free while
    the server is down, and no client connects to itself there. Each is given once: a
    server may listen only later."""
    for port in random.sample(range(20_000, 32_000), 100):
        if port in _given:
            continue
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    raise AssertionError("no free port")
