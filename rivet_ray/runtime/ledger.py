"""Parts of a snapshot that change one at a time: schedule, connections, keys.

The state is compared as a whole; these are not, because there may be thousands
of them. Whoever changes one says so here, and the next commit carries it, in
the same write as the state.
"""

from __future__ import annotations


class Ledger:
    """What has changed since the last commit. Changes never fail."""

    __slots__ = ("_deleted", "_put")

    def __init__(self) -> None:
        self._put: dict[str, bytes] = {}
        self._deleted: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._put or self._deleted)

    def put(self, part: str, value: bytes) -> None:
        self._put[part] = value
        self._deleted.pop(part, None)

    def delete(self, part: str) -> None:
        self._put.pop(part, None)
        self._deleted[part] = None

    def take(self) -> tuple[dict[str, bytes], dict[str, None]]:
        """The changes, which are the commit's from now on."""
        taken = (self._put, self._deleted)
        self._put, self._deleted = {}, {}
        return taken
