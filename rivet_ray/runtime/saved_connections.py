"""What the store has of an instance's connections, and what has changed of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from rivet_ray.errors import InvalidStateType, RivetError
from rivet_ray.repeated_lines import logger_of_strangers
from rivet_ray.runtime.connection import PART, RESUME_WINDOW, Connection

if TYPE_CHECKING:
    from rivet_ray.runtime.instance import Instance

log = logger_of_strangers("rivet_ray.runtime")


class SavedConnections:
    """Those of one instance."""

    __slots__ = ("_instance", "_looked_at", "_saved", "_unreadable")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._looked_at: dict[Connection, None] = {}
        self._saved: dict[str, bytes] = {}
        self._unreadable: dict[str, float] | None = None
        """When those end that this code cannot load. They stay in the store until then."""

    def looked_at(self, connection: Connection) -> None:
        """The connection may have changed."""
        if connection.session is not None or connection.expires is not None:
            self._looked_at[connection] = None

    @property
    def may_have_changed(self) -> bool:
        return bool(self._looked_at)

    def check(self) -> None:
        """Raise InvalidStateType if a state would not read back; it is what it was then."""
        first: InvalidStateType | None = None
        for connection in self._looked_at:
            try:
                connection.check_state()
            except InvalidStateType as error:
                first = first or error
        if first is not None:
            raise first

    def record_changes(self, lives: Callable[[Connection], bool]) -> None:
        """Put every connection that changed into the ledger. Raises as `check`."""
        if not self._looked_at:
            return
        self.check()
        looked_at, self._looked_at = self._looked_at, {}
        for connection in filter(lives, looked_at):
            record = connection.record()
            if self._saved.get(connection.id) != record:
                self._saved[connection.id] = record
                self._instance.ledger.put(PART + connection.id, record)

    def forget(self, connection: Connection) -> None:
        """Remove the saved connection, with whatever is committed next."""
        if self._saved.pop(connection.id, None) is not None:
            self._instance.ledger.delete(PART + connection.id)
            self._instance.touch()

    # --- Loading --------------------------------------------------------------

    def load(self, part: str, value: bytes) -> Connection | None:
        """A connection from the snapshot; it is detached from now on.

        None for one that this code cannot load, since other code has saved it. The store
        keeps that until its time is over.
        """
        identity = part.removeprefix(PART)
        try:
            connection = Connection.load(self._instance, identity, value)
        except (RivetError, msgspec.DecodeError) as error:
            self._unreadable = self._unreadable or {}
            expires = Connection.saved_expiry(value) or self._instance.clock.now() + RESUME_WINDOW
            self._unreadable[identity] = expires
            log.error(
                "%r: connection %s cannot be loaded by this code and stays as it is saved; "
                "its client has to connect again: %s",
                self._instance,
                identity,
                error,
            )
            return None
        if connection.expires is None:
            connection.expires = self._instance.clock.now() + RESUME_WINDOW
            self._instance.ledger.put(part, connection.record())
        self._saved[identity] = connection.record()
        return connection

    def next_expiry(self) -> float | None:
        """When the next of those ends that cannot be loaded."""
        return min((self._unreadable or {}).values(), default=None)

    def expire(self, now: float) -> None:
        """Remove those that cannot be loaded and whose time is over."""
        for identity, expires in tuple((self._unreadable or {}).items()):
            if self._unreadable and expires <= now:
                del self._unreadable[identity]
                self._instance.ledger.delete(PART + identity)
                self._instance.touch()
