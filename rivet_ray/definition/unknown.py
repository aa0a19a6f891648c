"""Fields inside saved values that this code does not know, and that it hands on.

While two releases run side by side, the older one reads objects in which the newer
one has saved more. `unknown_in` finds that when a value is loaded: what stands in the
saved bytes and not in what this code would write. `handed_on` puts it back into
what this code writes later, so that only who knows a field can change or remove it.

Values are plain: what msgpack gives without a type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass(slots=True)
class Unknown:
    """What this code does not know of one map or list, and of those in it."""

    fields: dict[Any, Any] = field(default_factory=dict[Any, Any])
    """Of a map: its unknown entries."""
    tail: Sequence[Any] = ()
    """Of an object that is saved as a list: what follows the known fields."""
    inner: dict[Any, tuple[Any, Unknown]] = field(default_factory=dict[Any, "tuple[Any, Unknown]"])
    """By key or index: the known part of a value when it was loaded, and what is unknown in it."""
    length: int = 0
    """Of a list: how many items it had when it was loaded."""


def unknown_in(saved: Any, known: Any) -> Unknown | None:
    """Return what `saved` holds beside `known`, which is the same value as this code writes it."""
    found = Unknown()
    if isinstance(saved, dict) and isinstance(known, dict):
        old, new = cast("dict[Any, Any]", saved), cast("dict[Any, Any]", known)
        found.fields = {key: value for key, value in old.items() if key not in new}
        _look_into(found, ((key, old[key], value) for key, value in new.items() if key in old))
    elif isinstance(saved, list) and isinstance(known, list):
        items, others = cast("list[Any]", saved), cast("list[Any]", known)
        found.tail, found.length = items[len(others) :], len(others)
        pairs = zip(items, others, strict=False)
        _look_into(found, ((index, *pair) for index, pair in enumerate(pairs)))
    return found if found.fields or found.tail or found.inner else None


def _look_into(found: Unknown, places: Any) -> None:
    for place, saved, known in places:
        if type(saved) in (dict, list):
            inner = unknown_in(saved, known)
            if inner is not None:
                found.inner[place] = (known, inner)


def handed_on(unknown: Unknown, known: Any) -> Any:
    """Return `known`, as this code writes it now, with what it does not know in its place.

    An item of a list is found again where it is unchanged, and by its index if the list
    has not become shorter. What belongs to an entry that is gone goes with it.
    """
    if isinstance(known, dict):
        entries = cast("dict[Any, Any]", known)
        whole = {**unknown.fields, **entries}
        for key, (_, inner) in unknown.inner.items():
            if key in entries:
                whole[key] = handed_on(inner, entries[key])
        return whole
    if isinstance(known, list):
        return _handed_on_in_list(unknown, cast("list[Any]", known))
    return known


def _handed_on_in_list(unknown: Unknown, known: list[Any]) -> list[Any]:
    items = [*known, *unknown.tail]
    free = dict.fromkeys(range(len(known)))
    changed: list[int] = []
    for index, (before, inner) in unknown.inner.items():
        if index in free and known[index] == before:
            place: int | None = index
        else:
            place = next((place for place in free if known[place] == before), None)
        if place is None:
            changed.append(index)
        else:
            del free[place]
            items[place] = handed_on(inner, known[place])
    for index in changed if len(known) >= unknown.length else ():
        if index in free:
            items[index] = handed_on(unknown.inner[index][1], known[index])
    return items
