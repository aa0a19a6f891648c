"""A `rivet-ray` command in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

STARTING = 90.0
"""Seconds for Ray and Serve to start; alone on a machine they need about 10."""
STOPPING = 60.0


class ServedCommand:
    """`with ServedCommand(directory, "dev", "module:App") as server: server.url`.

    What it prints goes into a file of the directory, so that nobody has to read it
    for the process to go on.
    """

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._log = directory / "output"
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTEST")
        }
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rivet_ray", *self._arguments, "--port", "0"],
                cwd=Path(__file__).parent,
                env={**environment, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + STARTING
        while time.monotonic() < end and self._process.poll() is None:
            said = self._log.read_text()
            found = re.search(r"http://127\.0\.0\.1:\d+", said)
            if found is not None and "Ctrl-C" in said:
                self.url = found[0]
                return self
            time.sleep(0.02)
        self._stop()
        raise AssertionError(f"it does not serve:\n{self._log.read_text()}")

    @property
    def process(self) -> int:
        """The id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(STOPPING)
