"""What a store's errors tell to callers: that it is away, and never where it is (C10)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from gateway_store import StoreOver
from gateway_surfaces import SECRET_TEXT, Knock, Reachable
from gateway_wire import Serve, get_or_create

from rivet_ray import Actor, StoreLostData, StoreUnavailable, action
from rivet_ray.errors import StoreError
from rivet_ray.runtime import checkpointer, patience
from rivet_ray.store import Commit, CommitResult

AWAY = StoreUnavailable(f"Redis at {SECRET_TEXT}:6379 does not answer: Connection refused.")
LOST = StoreLostData(f"Redis at {SECRET_TEXT}:6379 holds older data.")


@pytest.fixture(params=["direct", "encoded", "linked"])
def port(request: pytest.FixtureRequest) -> str:
    """On Ray Serve the gateway has a store of its own, which no test can take away."""
    kind: str = request.param
    return kind


class Away(StoreOver):
    """Fails with one error, whatever is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.error: StoreError | None = None

    def __getattr__(self, name: str) -> Any:
        if self.error is not None:
            raise self.error
        return super().__getattr__(name)

    async def commit(self, commits: Sequence[Commit]) -> list[CommitResult]:
        if self.error is not None:
            raise self.error
        results: list[CommitResult] = await self.below.commit(commits)
        return results


@dataclass
class State:
    count: int = 0


class Counter(Reachable, Actor[State]):
    public = True

    @action
    def add(self) -> int:
        self.state.count += 1
        return self.state.count

    @action
    def whoami(self) -> None:
        """For `SURFACES`."""


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.0)
    monkeypatch.setattr(checkpointer, "GIVE_UP_AFTER", 0.0)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("error", [AWAY, LOST], ids=["away", "lost"])
async def test_no_route_says_where_the_store_is(
    serve: Serve, surface: tuple[Knock, set[str]], error: StoreError, caplog: Any
) -> None:
    """An actor that cannot be found, created or woken; the log has the whole text."""
    store = Away()
    site = await serve({"counter": Counter}, store=store)
    store.error = error
    knock, _ = surface
    assert await knock(site, get_or_create("counter", "a"), None) == error.code
    if isinstance(error, StoreUnavailable):  # a driver logs a loss itself, once
        assert str(error) in caplog.text
    store.error = None


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("error", [AWAY, LOST], ids=["away", "lost"])
async def test_a_save_that_fails_does_not_either(serve: Serve, error: StoreError) -> None:
    store = Away()
    site = await serve({"counter": Counter}, store=store)
    query = get_or_create("counter", "a")
    assert (await site.call(query, "add")).output == 1
    async with site.connect(query) as socket:
        store.error = error
        answer, _ = await asyncio.gather(site.call(query, "add"), socket.call(0, "add"))
        _, _, before = await socket.closed()
    assert answer.code == error.code
    assert answer.body["m"]
    assert SECRET_TEXT not in f"{answer.raw!r} {before}"
    store.error = None
