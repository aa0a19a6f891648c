"""`file:///directory`: the store port on one SQLite database, for one server.

An acknowledged write survives `kill -9` and, where the disk keeps its word on
fsync, loss of power. One thread writes; whatever waits for it goes to disk in
one transaction, so many actors share one fsync. A second server is refused.

Back up with `sqlite3 rivet.sqlite3 ".backup copy.sqlite3"`, also while the
server runs; copying the file alone leaves out what is still in its `-wal`.
"""

from rivet_ray_drivers.file_system.store import (
    FileSystemStore,
    open_directory,
    open_file_system,
)

__all__ = ["FileSystemStore", "open_directory", "open_file_system"]
