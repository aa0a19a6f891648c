"""`rivet-ray serve --ray` as a user starts it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import counted_actors

from rivet_ray_serve.local import descendants

STARTING = 90.0
"""Seconds for Ray and Serve to start; alone on a machine they need about 10."""
PATIENCE = 40.0


class ServeProcess:
    """The command, and what came of it."""

    def __init__(
        self, store: str, topology: str, *options: str, registry: str = "counted_actors:App"
    ) -> None:
        self._arguments = (
            *("serve", registry, "--ray", "--store", store),
            *("--topology", topology, "--port", "0", *options),
        )
        self.process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def start(self) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rivet_ray", *self._arguments),
            cwd=Path(counted_actors.__file__).parent,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(STARTING):
            async for line in self.process.stdout:
                found = re.search(rb"serves at (http://\S+)", line)
                if found is not None:
                    self.url = found[1].decode()
                    return
        raise AssertionError("it ended before it served")

    def processes(self) -> dict[int, str]:
        """Everything that the command started, with what it calls itself."""
        assert self.process is not None
        return {number: _title(number) for number in descendants(self.process.pid)}

    def hosts(self) -> list[int]:
        """The processes of the host actors."""
        return [
            number
            for number, title in self.processes().items()
            if title.startswith("ray::") and "HostActor" in title
        ]

    def spares(self) -> list[int]:
        """The processes that are ready for hosts: each holds the lock of a slot."""
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        held = {(int(words[4]), words[5]) for words in locks if words[1:2] == ["FLOCK"]}
        return [
            number
            for number, title in self.processes().items()
            if title.startswith("ray::IDLE") and _holds_a_slot(number, held)
        ]

    def gateways(self) -> list[int]:
        """The processes of the Serve replicas."""
        return [n for n, title in self.processes().items() if "ServeReplica" in title]

    async def end(self, how: signal.Signals = signal.SIGINT) -> int:
        """Its exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(how)
        await asyncio.wait_for(self.process.communicate(), STARTING)
        assert self.process.returncode is not None
        return self.process.returncode


def _holds_a_slot(process: int, held: set[tuple[int, str]]) -> bool:
    """Whether one of those locks is that of a slot, whose file has a number for a name.

    A process that fills slots holds a lock of its own for a moment.
    """
    inodes = {place.rpartition(":")[2] for holder, place in held if holder == process}
    if not inodes:
        return False
    with suppress(OSError):  # It has ended meanwhile.
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                file = descriptor.readlink()
                is_slot = file.name.isdigit() and "rivet-ray" in file.parts
                if is_slot and str(descriptor.stat().st_ino) in inodes:
                    return True
    return False


def _title(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def alive(processes: dict[int, str]) -> dict[int, str]:
    """Those that still run under the same title."""
    return {
        number: title for number, title in processes.items() if title and _title(number) == title
    }


async def eventually(condition: object) -> None:
    assert callable(condition)
    for _ in range(int(PATIENCE * 100)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("it does not come")
