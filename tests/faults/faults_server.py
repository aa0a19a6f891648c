"""A real `rivet-ray dev`, to be killed and started again on the same store."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STARTS_WITHIN = 30.0


def environment(planted: str = "") -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return kept | {"FAULTS_PLANTED": planted}


def dev(registry: str, store: Path | str, port: int = 0) -> list[str]:
    """The command line of a server; the store is a directory or a URL."""
    url = store if isinstance(store, str) else f"file://{store}"
    options = ["--store", url, "--port", str(port)]
    return [sys.executable, "-m", "rivet_ray", "dev", registry, *options]


class Server:
    """One process. `with Server("faults_actors:App", store) as server: server.url`."""

    def __init__(
        self,
        registry: str,
        store: Path | str,
        *,
        port: int = 0,
        planted: str = "",
        cwd: Path = HERE,
        wait: bool = True,
    ) -> None:
        """With `wait` it serves when this returns, or AssertionError is raised."""
        # A file, because a pipe that nobody reads would stop the server.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self.url = ""
        self.process = subprocess.Popen(
            dev(registry, store, port),
            cwd=cwd,
            env=environment(planted),
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        if wait:
            try:
                self.wait_until_it_serves()
            except BaseException:
                self.kill()
                raise

    def wait_until_it_serves(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            text = self.output
            found = re.search(r"http://127\.0\.0\.1:\d+", text)
            if found and "Ctrl-C" in text:
                self.url = found[0]
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"the server did not start:\n{self.output}")

    @property
    def output(self) -> str:
        """What it has printed so far, also after its end."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode("utf-8", "replace")

    def end(self, by: signal.Signals) -> int:
        """Send a signal and wait; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(by)
        return self.process.wait(timeout=20)

    def __enter__(self) -> Self:
        return self

    def kill(self) -> None:
        """Kill it, if it runs, and forget what it printed."""
        self.end(signal.SIGKILL)
        self._output.close()

    def __exit__(self, *error: Any) -> None:
        self.kill()
