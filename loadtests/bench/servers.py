"""Servers under load, each a process as a user starts it, ended with its block."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def rivet_ray(*arguments: str) -> Generator[tuple[str, int]]:
    """A real `rivet-ray dev` or `serve`, on a free port; its address and process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rivet_ray", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = None
        for said in process.stdout:
            found = re.search(r"http://([\d.]+:\d+)", said)
            if found is not None:
                break
        assert found, "it ended before it served"
        yield found[1], process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


@contextmanager
def naive() -> Generator[tuple[str, int]]:
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtests.bench.naive", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert "serves" in process.stdout.readline()
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def redis(fsync: str) -> Generator[tuple[str, int]]:
    """A Redis with an append-only file; its URL and process id."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [
                *("redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""),
                *("--appendonly", "yes", "--appendfsync", fsync, "--dir", directory),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            for _ in range(500):
                with socket.socket() as tried:
                    if tried.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.01)
            else:
                raise RuntimeError("redis-server does not answer")
            yield f"redis://127.0.0.1:{port}/0", process.pid
        finally:
            process.terminate()
            process.wait()
