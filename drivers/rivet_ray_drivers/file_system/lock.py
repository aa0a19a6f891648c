"""One server for each directory: an operating system's lock on a file in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from weakref import WeakSet

from rivet_ray.errors import StoreError

LOCK_NAME = "lock"

if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30
    """Windows locks bytes, and nobody else may read those: leave the pid readable."""

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _take(descriptor: int) -> None:
        # flock belongs to the opened file, so it also refuses a second opening
        # by this process; the locks that POSIX has for processes would not.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class DirectoryLock:
    """Held from construction to `release`, or until the kernel sees the process die."""

    def __init__(self, directory: Path) -> None:
        """Raises StoreError, naming the holder, when somebody holds the lock."""
        # The file is never removed: a lock on a file that lost its name is worth nothing.
        descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _take(descriptor)
        except OSError as error:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            who = "this process" if holder == str(os.getpid()) else f"process {holder or '?'}"
            raise StoreError(
                f"The store directory {directory} is in use by {who}: stop it, or choose another."
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor: int | None = descriptor
        _held.add(self)

    def release(self) -> None:
        """Let the next server in. May be called more than once."""
        descriptor, self._descriptor = self._descriptor, None
        _held.discard(self)
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def forget(self) -> None:
        """Close the copy that a fork made, which would outlive the holder."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_held: WeakSet[DirectoryLock] = WeakSet()


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_all)
