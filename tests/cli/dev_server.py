"""A real `rivet-ray dev` in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]


class DevServer:
    """`with DevServer("examples.counter:App") as server: server.port`."""

    def __init__(self, *arguments: str, cwd: Path = ROOT) -> None:
        self.started = time.perf_counter()
        self.directory = tempfile.TemporaryDirectory()
        if "--store" not in arguments:
            # Not ./.rivet, so that tests do not meet one another's actors.
            arguments = (*arguments, "--store", f"file://{self.directory.name}")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTEST")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rivet_ray", "dev", *arguments, "--port", "0"],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.port = 0

    def __enter__(self) -> Self:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found[1])
            if "Ctrl-C" in line:
                return self
        self.process.wait()
        raise AssertionError("the server did not start:\n" + "".join(self.lines))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, with_signal: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        try:
            return self.process.wait(timeout=20)
        finally:
            if self.process.stdout is not None and not self.process.stdout.closed:
                self.lines.extend(self.process.stdout)
                self.process.stdout.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.stop()
        self.directory.cleanup()
