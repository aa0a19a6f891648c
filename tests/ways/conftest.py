"""Every test of this folder runs over every way that fits it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ways import CALLING, Deployments, Way, World, opened, over


@pytest.fixture(scope="session")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployments]:
    with ExitStack() as stack:
        yield Deployments(tmp_path_factory.mktemp("ways"), stack)


@pytest.fixture(params=over(CALLING))
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


@pytest.fixture
async def world(way: Way, deployments: Deployments, tmp_path: Path) -> AsyncIterator[World]:
    async with opened(way, deployments, tmp_path) as found:
        yield found


@pytest.fixture
def key() -> str:
    """Of an actor that no other test uses."""
    return uuid.uuid4().hex
