"""`rivet-ray doctor` ends, whatever its store does not answer."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from rivet_ray import Actor, Registry, use
from rivet_ray.cli.doctor import ActorsOf, examined
from rivet_ray.cli.looks import LOOK
from rivet_ray.runtime import patience
from rivet_ray.runtime.patience import STORE_CLOSE, STORE_OPEN
from rivet_ray.store import NewActor, Verdict
from rivet_ray.testing import ManualClock
from rivet_ray_drivers.memory import MemoryStore


class Thing(Actor[None]):
    pass


class App(Registry):
    thing = use(Thing)


class Silent(MemoryStore):
    """Does not answer calls of one method."""

    def __init__(self, method: str) -> None:
        super().__init__()
        setattr(self, method, self._nothing)

    async def _nothing(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("method", "seconds", "subjects"),
    [
        ("open", STORE_OPEN, ["opening"]),
        ("examine", LOOK, ["looking"]),
        ("sizes", LOOK, ["durability", "looking"]),
        ("list_hosts", LOOK, ["durability", "looking"]),
        ("list_sizes", LOOK, ["durability", "looking"]),
        ("read", LOOK, ["durability", "looking", "actors"]),
        ("close", STORE_CLOSE, ["durability", "actors"]),
    ],
)
async def test_each_look_has_an_end(
    monkeypatch: pytest.MonkeyPatch, method: str, seconds: float, subjects: list[str]
) -> None:
    """What was found before is told; a store that does not close takes nothing of it."""
    store = Silent(method)
    if method == "read":
        await store.create(NewActor("default", "thing", ("a",)))

    async def open_store(_: str) -> Any:
        if method == "open":
            await asyncio.Event().wait()
        return store

    monkeypatch.setattr(patience, "open_store", open_store)
    clock = ManualClock()
    looking = asyncio.ensure_future(examined("memory://", clock, ActorsOf(App.definitions())))
    await clock.advance(seconds - 0.1)
    assert not looking.done()
    await clock.advance(0.2)
    found = (await looking).all_findings
    assert [finding.subject for finding in found] == subjects
    if method != "close":
        (problem,) = (finding for finding in found if finding.verdict is Verdict.PROBLEM)
        assert f"did not answer within {seconds:g} s" in problem.found


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who accepts connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("url", ["redis://{}", "redis+sentinel://{}/main", "redis+cluster://{}"])
def test_a_redis_that_accepts_and_says_nothing_is_one_problem(silent: str, url: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "rivet_ray", "doctor", "--json", "--store", url.format(silent)],
        capture_output=True,
        text=True,
        timeout=STORE_OPEN + 30,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, "")
    (finding,) = json.loads(result.stdout)["findings"]
    assert (finding["subject"], finding["verdict"]) == ("opening", "problem")
