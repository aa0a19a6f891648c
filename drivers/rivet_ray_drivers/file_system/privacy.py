"""Nobody but the user of the server reads the directory of a store, or its files.

What we make is private from its first moment, whatever the umask. What was made before
is tightened when it is opened. A directory that holds more than ours, or belongs to
another user, is left as it is and named in the log: others may need it.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from pathlib import Path

log = logging.getLogger("rivet_ray.store")

DIRECTORY, FILE = 0o700, 0o600
OTHERS = 0o077
"""What the group and everybody else may do."""


def create_private(path: Path) -> None:
    """Make an empty file that only its owner may read. Raises FileExistsError."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE))


def tighten(directory: Path, ours: tuple[str, ...]) -> None:
    """Take the rights of others from a store's directory, and from the files named in `ours`.

    Changes nothing on Windows, where the rights are those of the directory above.
    """
    if sys.platform == "win32":
        return
    for name in ours:
        path = directory / name
        if path.is_file() and not path.is_symlink():
            _take_away(path, FILE)
    if not _is_open(directory):
        return
    if set(os.listdir(directory)) <= set(ours):
        _take_away(directory, DIRECTORY)
    else:
        log.warning(
            "the store directory %s is open to other users and holds more than a store:"
            " it is left as it is, its files are private; chmod 700 it, or choose another",
            directory,
        )


def _is_open(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & OTHERS)


def _take_away(path: Path, mode: int) -> None:
    if not _is_open(path):
        return
    try:
        path.chmod(mode)
    except PermissionError:
        log.warning("%s is open to other users, and belongs to one of them: chmod it", path)
    else:
        log.warning("%s was open to other users; only its owner may read it now", path)
