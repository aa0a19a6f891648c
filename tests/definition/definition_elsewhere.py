"""Actors of another module, with names of its own: for the tests of inheritance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from typing_extensions import TypeVar

from rivet_ray import Actor, action


@dataclass
class Note:
    """Another class than the one that the tests call so."""

    elsewhere: int = 0


class NoteBook(Actor["Note", "list[Note]"]):
    @action
    def add(self, note: Note) -> list[Note]:
        return [note]


Item = TypeVar("Item", default=None)


class Box(Actor["list[Item]"], Generic[Item]):
    @action
    def put(self, item: Item, note: Note) -> dict[str, Item]:
        return {"item": item}
