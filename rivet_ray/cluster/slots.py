"""The places for spares on a node: locks on files, so the kernel frees those of the dead."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

RETIRED = "retired"


class Slots:
    """The places for spares of one release on one node; each a file that is locked."""

    def __init__(self, directory: Path, number: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._number = number
        self._mine: int | None = None
        """The descriptor of this process's own slot."""
        self._left = False
        self._changing = threading.Lock()

    @property
    def taken(self) -> bool:
        """Whether this process has one."""
        return self._mine is not None

    def take(self) -> bool:
        """Whether this process has one now; never again once it left.

        Nor of a release that is retired: its hosts may still be started again, in
        processes that must not end as its spares do. While another process looks
        how many are free, none may seem to be: try again.
        """
        with self._changing:
            if self._left or self.retired:
                return False
            for number in range(self._number):
                if self._mine is None:
                    self._mine = self._try(str(number))
            return self.taken

    def leave(self) -> bool:
        """Give up the slot, if there is one, for good. Whether it was this call that left."""
        with self._changing:
            first, self._left = not self._left, True
            mine, self._mine = self._mine, None
            if mine is not None:
                os.close(mine)
            return first

    @property
    def left(self) -> bool:
        """Whether this process is nobody's spare any more."""
        return self._left

    def free(self) -> int:
        """How many nobody holds."""
        free = 0
        for number in range(self._number):
            descriptor = self._try(str(number))
            if descriptor is not None:
                free += 1
                os.close(descriptor)
        return free

    @contextmanager
    def filling(self) -> Generator[None]:
        """Alone on the node; waits for its turn."""
        descriptor = self._open("filling")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @property
    def retired(self) -> bool:
        """Whether a later release of the deployment has come."""
        return (self._directory / RETIRED).exists()

    def retire_others(self) -> None:
        """This is the release that counts: spares of others end."""
        (self._directory / RETIRED).unlink(missing_ok=True)
        for other in self._directory.parent.iterdir():
            if other.name != self._directory.name:
                (other / RETIRED).touch()

    def _open(self, name: str) -> int:
        return os.open(self._directory / name, os.O_RDWR | os.O_CREAT, 0o600)

    def _try(self, name: str) -> int | None:
        descriptor = self._open(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
