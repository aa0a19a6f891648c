"""A real primary, a replica of it, and sentinels that watch them, for tests on the loopback."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis_server import MISSING, RedisServer, free_port, wait_until_it_answers

SERVICE = "main"


class Sentinels:
    """Three sentinels, of which two agree that a primary is down after half a second."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.servers = [RedisServer(_made(directory / name), *options) for name in ("one", "other")]
        self._directory = directory
        self.ports = [free_port() for _ in range(3)]
        self._processes: list[subprocess.Popen[bytes]] = []

    def url(self, prefix: str = "rivet") -> str:
        addresses = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{addresses}/{SERVICE}/0?prefix={prefix}"

    def start(self) -> Sentinels:
        primary, replica = self.servers
        primary.start()
        replica.start()
        _tell(replica.port, "REPLICAOF", "127.0.0.1", str(primary.port))
        for port in self.ports:
            self._start_sentinel(port)
        self._wait("the replica does not follow", self._is_followed)
        self._wait("the sentinels do not know each other", self._know_each_other)
        return self

    def _start_sentinel(self, port: int) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail(MISSING, pytrace=False)
        directory = _made(self._directory / f"sentinel-{port}")
        settings = directory / "sentinel.conf"
        settings.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory}\nlogfile {directory}/log\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )
        process = subprocess.Popen([program, str(settings), "--sentinel"])
        self._processes.append(process)
        wait_until_it_answers(process, port, directory / "log")

    def _is_followed(self) -> bool:
        info = _tell(self.servers[0].port, "INFO", "replication")
        return "connected_slaves:1" in info and "state=online" in info

    def _know_each_other(self) -> bool:
        known = [_tell(port, "SENTINEL", "MASTER", SERVICE).split() for port in self.ports]
        return all(
            said[said.index("num-other-sentinels") + 1] == "2"
            and said[said.index("num-slaves") + 1] == "1"
            for said in known
        )

    def primary_port(self) -> int:
        """As the first sentinel says."""
        return int(_tell(self.ports[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE).split()[1])

    @staticmethod
    def _wait(problem: str, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 15
        while not condition():
            if time.monotonic() > end:
                pytest.fail(problem)
            time.sleep(0.05)

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(10)
        for server in self.servers:
            server.stop()


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


def _tell(port: int, *command: str) -> str:
    return subprocess.run(
        ["redis-cli", "-p", str(port), *command],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    ).stdout.strip()
