"""The directory remembers a bounded number of bytes."""

from __future__ import annotations

import pytest

from rivet_ray import Actor
from rivet_ray.clock import SystemClock
from rivet_ray.protocol.queries import GetOrCreate
from rivet_ray.registry import setup
from rivet_ray.runtime import directory as directory_module
from rivet_ray.runtime.directory import RECORD, Directory
from rivet_ray.store import open_store


class Noted(Actor[None, None, None, str]):
    """With an input of any length."""


async def test_inputs_of_actors_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept with the record: 100,000 records of any size were remembered."""
    monkeypatch.setattr(directory_module, "REMEMBERED", 10 * (RECORD + 1_000))
    definitions = setup(use={"noted": Noted}).definitions()
    directory = Directory(definitions, await open_store("memory://"), SystemClock())
    for number in range(30):
        query = GetOrCreate("noted", [f"{number}"], b'"' + b"x" * 1_000 + b'"')
        for _ in range(2):
            await directory.resolve(query)
    assert 5 < len(directory._known) <= 10
    assert directory._budget.held <= directory._budget.limit
    assert ("noted", ("29",)) in directory._known
