"""Reads across actors of a type: alarms, indexes, sizes."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from rivet_ray.store import ActorSize, ActorType, IndexEntry, TypeSize
from rivet_ray_drivers.file_system.packing import (
    key_range,
    pack,
    pack_key,
    pack_type,
    unpack,
    unpack_key,
)

ACTORS = "SELECT namespace, name, count(*), total(length(input)) FROM actors WHERE living = 1"
PARTS = (
    "SELECT namespace, actors.name, total(length(value))"
    " FROM parts JOIN actors ON actors.id = parts.actor"
)
SIZES = (
    "SELECT id, namespace, name, key, ifnull(length(input), 0)"
    " + ifnull((SELECT sum(length(value)) FROM parts WHERE actor = id), 0) FROM actors"
)


class Indexes:
    """Sees what the transaction under way has written, not what is gathered."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # --- Alarms ----------------------------------------------------------------

    def alarms_due(
        self, now: float, limit: int, types: Collection[bytes] | None
    ) -> list[tuple[float, str]]:
        rows = self._all(
            f"SELECT alarm, actor FROM owners WHERE alarm <= ? {_of(types)}"
            " ORDER BY alarm, actor LIMIT ?",
            (now, *(types or ()), max(limit, 0)),
        )
        return [(alarm, unpack(actor)) for alarm, actor in rows]

    def next_alarm(self, after: float | None, types: Collection[bytes] | None) -> float | None:
        later = "alarm IS NOT NULL" if after is None else "alarm > ?"
        values = () if after is None else (after,)
        rows = self._all(
            f"SELECT min(alarm) FROM owners WHERE {later} {_of(types)}", (*values, *(types or ()))
        )
        return rows[0][0] if rows else None

    # --- Indexes ---------------------------------------------------------------

    def entries(self, identity: str) -> dict[int, bytes]:
        """The values that an actor has in indexes."""
        rows = self._all("SELECT number, value FROM entries WHERE actor = ?", (pack(identity),))
        return dict(rows)

    def by_key(
        self, type: ActorType, prefix: Sequence[str], after: IndexEntry | None, limit: int
    ) -> list[IndexEntry]:
        low, high = key_range(prefix)
        if after is not None:
            low = max(low, pack_key(after.key))
        rows = self._all(
            "SELECT key, id FROM actors INDEXED BY actors_by_key"
            " WHERE namespace = ? AND name = ? AND living = 1 AND key >= ? AND key < ?"
            " AND (key, id) > (?, ?) ORDER BY key, id LIMIT ?",
            (pack(type.namespace), pack(type.name), low, high, *_position(after), max(limit, 0)),
        )
        return [IndexEntry(b"", unpack_key(key), unpack(actor)) for key, actor in rows]

    def by_value(
        self,
        type: ActorType,
        index: int,
        values: tuple[bytes, bytes | None],
        after: IndexEntry | None,
        limit: int,
    ) -> list[IndexEntry]:
        low, end = values
        if after is not None:
            low = max(low, after.value)
        rows = self._all(
            "SELECT value, key, actor FROM entries WHERE type = ? AND number = ? AND value >= ?"
            f" {'' if end is None else 'AND value < ?'} AND (value, key, actor) > (?, ?, ?)"
            " ORDER BY value, key, actor LIMIT ?",
            (
                *(pack_type(type), index, low),
                *(() if end is None else (end,)),
                *(b"" if after is None else after.value, *_position(after)),
                max(limit, 0),
            ),
        )
        return [IndexEntry(value, unpack_key(key), unpack(actor)) for value, key, actor in rows]

    # --- Sizes -----------------------------------------------------------------

    def sizes(self) -> list[TypeSize]:
        by_type = " GROUP BY namespace, actors.name"
        parts = {(row[0], row[1]): int(row[2]) for row in self._all(PARTS + by_type)}
        return [
            TypeSize(
                ActorType(unpack(namespace), unpack(name)),
                actors,
                int(inputs) + parts.get((namespace, name), 0),
            )
            for namespace, name, actors, inputs in self._all(ACTORS + by_type)
        ]

    def list_sizes(self, namespace: str | None, after: str, limit: int) -> list[ActorSize]:
        # + stops an index: the table is in our order.
        of = "" if namespace is None else "AND +namespace = ?"
        values = () if namespace is None else (pack(namespace),)
        rows = self._all(
            f"{SIZES} WHERE living = 1 AND id > ? {of} ORDER BY id LIMIT ?",
            (pack(after), *values, max(limit, 0)),
        )
        return [
            ActorSize(
                unpack(actor), ActorType(unpack(space), unpack(name)), unpack_key(key), int(size)
            )
            for actor, space, name, key, size in rows
        ]

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._connection.execute(statement, values).fetchall()
        return found


def _position(after: IndexEntry | None) -> tuple[bytes, bytes]:
    """The key and the id of an entry, or what is before all of them."""
    return (b"", b"") if after is None else (pack_key(after.key), pack(after.id))


def _of(types: Collection[bytes] | None) -> str:
    """The condition for rows of those types."""
    return "" if types is None else f"AND type IN ({','.join('?' * len(types))})"
