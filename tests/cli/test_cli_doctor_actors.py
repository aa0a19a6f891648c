"""`rivet-ray doctor --registry`: the actors that the code of a registry cannot load."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rivet_ray import Actor, Registry, action, use
from rivet_ray.cli.doctor import ActorsOf, examine_store
from rivet_ray.store import open_store
from rivet_ray.testing import setup_test


@dataclass
class One:
    count: int = 0


@dataclass
class Two:
    count: int = 0
    more: int = 0


def _app(kind: Any, version: int = 1, input: Any = Any, name: str = "thing") -> Any:
    class Thing(Actor[kind, None, None, input, None]):
        state_version = version

        @action
        def add(self) -> None:
            self.state.count += 1

    return type("App", (Registry,), {name: use(Thing)})


async def _saved(url: str, app: Any, *keys: str, input: Any = None) -> list[str]:
    store = await open_store(url)
    ids: list[str] = []
    async with setup_test(app, store=store) as test:
        for key in keys:
            thing = test.client.thing.get_or_create(key, input)
            await thing.add()
            ids.append(await thing.resolve())
    await store.close()
    return ids


async def _epochs(url: str, ids: list[str]) -> list[int]:
    store = await open_store(url)
    found = [await store.find_ownership(actor) for actor in ids]
    await store.close()
    return [owner.epoch for owner in found if owner is not None]


def _told(capsys: pytest.CaptureFixture[str], url: str, app: Any, **options: Any) -> Any:
    actors = ActorsOf(app.definitions(), **options)
    well = examine_store(url, as_json=True, actors=actors)
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is well
    return [
        (finding["subject"], finding["verdict"], finding["found"])
        for finding in told["findings"]
        if finding["subject"] == "actors" or finding["subject"].startswith("<")
    ]


async def test_it_lists_those_that_cannot_be_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = tmp_path.as_uri()
    ids = await _saved(url, _app(One), "a", "b")
    ids += await _saved(url, _app(Two, version=2), "newer")
    ids += await _saved(url, _app(One), "fed", input={"size": 3})
    epochs = await _epochs(url, ids)

    def told(app: Any, **options: Any) -> Any:
        return asyncio.to_thread(_told, capsys, url, app, **options)

    summary, *faults = await told(_app(One, input=list[int] | None))
    assert summary[1:] == (
        "ok",
        "4 looked at: 2 saved by this code, 2 cannot be loaded",
    )
    assert sorted(faults) == sorted(
        [
            (
                f"<thing 'newer' {ids[2]}>",
                "problem",
                "saved with state_version 2, and the code has 1",
            ),
            (
                f"<thing 'fed' {ids[3]}>",
                "problem",
                "input: Expected `array | null`, got `object`",
            ),
        ]
    )
    assert await told(_app(Two, version=2)) == [
        (
            "actors",
            "ok",
            "4 looked at: 1 saved by this code, 3 saved by code with other state types",
        )
    ]
    assert await told(_app(One, name="other")) == [
        ("actors", "ok", "4 looked at: 4 of types that the registry lacks")
    ]
    assert await told(_app(One), namespace="other") == [("actors", "ok", "0 looked at")]
    (summary, *_) = await told(_app(Two, version=2), most=3)
    assert summary[1] == "unknown"
    assert summary[2].startswith("3 looked at")
    assert await _epochs(url, ids) == epochs  # Nothing was claimed.
